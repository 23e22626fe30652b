"""The web pages: the studio at ``/``, its files under ``/studio``, and what every problem ``type`` leads to.

All of it is read once, at the first request; nothing is loaded from elsewhere, and no script or style stands in
the markup, so that the content security policy can forbid both.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Response

from jobs.errors import DragAnythingError, NotFound
from service.state import Doors, Services

router = APIRouter(include_in_schema=False)

STUDIO = Path(__file__).with_name("studio")
EXAMPLES = "examples"
SHIPPED = {".html", ".css", ".js", ".svg", ".jpg", ".png"}
_CODE = re.compile(r"``(.+?)``")
_AS_CODE = r"<code>\1</code>"
_METHODS = ["GET", "HEAD"]
_KINDS = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".json": "application/json"}


@dataclass(frozen=True)
class Page:
    """A file as it is served; ``tag`` is its strong ETag."""

    body: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, body: bytes, name: str) -> Page:
        """A body under the media type of its name."""
        suffix = Path(name).suffix
        media_type = _KINDS.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        text = media_type.startswith("text/") or suffix == ".json"
        return cls(
            body,
            media_type + ("; charset=utf-8" if text else ""),
            f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        )


def read(folder: Path) -> dict[str, Page]:
    """Every file of the studio by its address below ``/studio``, and the list of the examples that are there."""
    pages = {
        name: Page.of(path.read_bytes(), name)
        for path in sorted([*folder.glob("*"), *folder.glob(f"{EXAMPLES}/*/*")])
        if path.suffix in SHIPPED and (name := path.relative_to(folder).as_posix())
    }
    scenes = sorted(folder.glob(f"{EXAMPLES}/*/scene.json"))
    listing = [{"name": scene.parent.name, **json.loads(scene.read_bytes())} for scene in scenes]
    pages[f"{EXAMPLES}.json"] = Page.of(json.dumps(listing).encode(), "x.json")
    pages["problems.html"] = Page.of(problem_types(pages.get("problems.html")), "x.html")
    return pages


@cache
def _pages() -> dict[str, Page]:
    return read(STUDIO)


@router.api_route("/", methods=_METHODS)
def studio(services: Services, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The studio."""
    return _serve("index.html", if_none_match, services)


@router.api_route("/study", methods=_METHODS)
def study(services: Services, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Where raters compare videos; the study's link stands behind the #, which browsers keep to themselves."""
    return _serve("study.html", if_none_match, services)


@router.api_route("/problems", methods=_METHODS)
def problems(services: Services, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The page that the ``type`` of every problem leads to."""
    return _serve("problems.html", if_none_match, services)


@router.api_route("/studio/{path:path}", methods=_METHODS)
def file(path: str, services: Services, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A module, a style sheet or a picture of the studio."""
    return _serve(path, if_none_match, services)


def _serve(name: str, if_none_match: str | None, services: Doors) -> Response:
    page = _pages().get(name)
    if page is None:
        raise NotFound("There is no such file in the studio.")
    headers = {
        "ETag": page.tag,
        "Cache-Control": "no-cache",  # kept, but asked for with its ETag: a new version is seen at once
        "Content-Security-Policy": policy(services),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if page.tag in re.split(r"\s*,\s*", (if_none_match or "").replace("W/", "")):
        return Response(status_code=304, headers=headers)
    return Response(page.body, headers=headers, media_type=page.media_type)


def policy(services: Doors) -> str:
    """What the pages may load (CSP level 3): themselves, what they make, and artifacts from where links lead."""
    link = urlsplit(services.storage.link("any"))
    artifacts = "" if services.settings.s3_private else f" {link.scheme}://{link.netloc}"
    rules = {
        "default-src": "'self'",
        "connect-src": f"'self'{artifacts}",
        "img-src": f"'self' blob: data:{artifacts}",
        "media-src": f"'self' blob:{artifacts}",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def problem_types(template: Page | None) -> bytes:
    """The template with a row for every error class."""
    rows = "".join(
        f'<tr id="{kind.code}"><th scope="row"><code>{kind.code}</code></th><td>{kind.status}</td>'
        f"<td>{escape(kind.title)}</td><td>{_CODE.sub(_AS_CODE, escape(remedy(kind)))}</td></tr>"
        for kind in sorted(kinds(DragAnythingError), key=lambda kind: (kind.status, kind.code))
    )
    return (template.body if template else b"<table>{rows}</table>").replace(b"{rows}", rows.encode())


def remedy(kind: type[DragAnythingError]) -> str:
    """What to do about a kind of error: the docstring of its own class."""
    return inspect.cleandoc(kind.__doc__ or "") if "__doc__" in vars(kind) else ""


def kinds(kind: type[DragAnythingError]) -> Iterator[type[DragAnythingError]]:
    """A class and every one below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)
