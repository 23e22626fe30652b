"""Multipart bodies as the JSON values that they stand for."""

from __future__ import annotations

import base64
import re
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from jobs.errors import BadRequest, InvalidRequest
from jobs.settings import Settings
from service.bodies import MAX_MEMBERS, parse_json

JSON_FIELDS = ("image", "entities", "camera", "output", "webhook")
_MEMBER = re.compile(r"(\w+)\[(\w+)\]")


async def read_form(request: Request, settings: Settings) -> dict[str, Any]:
    """The fields of a form: objects and lists are JSON text, ``a[b]`` is the member b of a, and the one file that
    is allowed, ``input_reference``, becomes an image in base64.

    Raises:
        BadRequest: it is no form, or a text no JSON.
        InvalidRequest: a field comes twice or in pieces, or the file is too large or in another field.
    """
    try:
        async with request.form(
            max_files=1, max_fields=MAX_MEMBERS, max_part_size=settings.max_body_bytes
        ) as form:
            return await _gather(form, settings)
    except HTTPException as error:
        raise BadRequest(f"The multipart body can not be read: {error.detail}") from None


async def _gather(form: FormData, settings: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        member = _MEMBER.fullmatch(name)
        if member is None and "[" in name:
            whole = name.partition("[")[0][:64]
            raise InvalidRequest.at(f"/{whole}", "A form has this as JSON text, json.dumps(…) in Python.")
        place = fields.setdefault(member[1], {}) if member else fields
        key = member[2] if member else name
        if not isinstance(place, dict) or key in place:
            raise InvalidRequest.at(f"/{name[:64]}", "This field comes twice.")
        if isinstance(value, UploadFile):
            place[key] = await _read_file(name, value, settings)
        else:
            place[key] = parse_json(value.encode()) if name in JSON_FIELDS else value
    return fields


async def _read_file(name: str, file: UploadFile, settings: Settings) -> dict[str, str]:
    if name != "input_reference":
        raise InvalidRequest.at(f"/{name[:64]}", "Only input_reference may be a file.")
    if (file.size or 0) > settings.max_image_bytes:
        raise InvalidRequest.at(f"/{name}", f"This is larger than {settings.max_image_bytes >> 20} MB.")
    return {"image_url": "data:;base64," + base64.b64encode(await file.read()).decode()}
