"""Between messages and what REST sends: the fields have the same names, so one walk in each direction does it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, cast

from draganything.v1 import draganything_pb2 as pb
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.internal.containers import MessageMap
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet
from pydantic import BaseModel, ValidationError

from jobs.errors import InvalidRequest
from service.problems import from_validation

Model = TypeVar("Model", bound=BaseModel)
Answer = TypeVar("Answer", bound=Message)

POSITIONAL = {"Point", "Box", "Size"}
"""Messages that are lists in JSON, one element for each field."""
WRAPPERS = {"Polygon", "Runs"}
"""Messages that are lists in JSON, of what their only field repeats."""
IN_JSON = {"data": "base64", "plain": "counts", "compressed": "counts"}
IN_MESSAGES = {"base64": "data", "counts": "plain"}
"""Fields that are called differently, from here and from there."""


def read(model: type[Model], message: Message) -> Model:
    """The request that a message makes, by all the rules of REST.

    Raises:
        InvalidRequest: with one entry for each field that is wrong; pointers name the message's fields.
    """
    fields = to_json(message, "")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise from_validation(found, fields) from None


def to_json(message: Message, pointer: str) -> Any:
    """What the body of a REST request would have in a message's place.

    Raises:
        InvalidRequest: it has a field of a later version.
    """
    if unknown := UnknownFieldSet(message):
        number = next(iter(unknown)).field_number
        raise InvalidRequest.at(pointer, f"There is no field number {number} in {message.DESCRIPTOR.name}.")
    held = {
        field.name: _value(field, getattr(message, field.name), f"{pointer}/{field.name}")
        for field in _fields(message)
        if _is_set(field, message)
    }
    if message.DESCRIPTOR.name in POSITIONAL:
        return list(held.values())
    if message.DESCRIPTOR.name in WRAPPERS:
        return next(iter(held.values()), [])
    return {IN_JSON.get(name, name): value for name, value in held.items()}


def _fields(message: Message) -> list[FieldDescriptor]:
    return list(cast("Iterable[FieldDescriptor]", message.DESCRIPTOR.fields))


def _is_set(field: FieldDescriptor, message: Message) -> bool:
    if field.has_presence:
        return message.HasField(field.name)
    return bool(getattr(message, field.name)) or not (field.is_repeated or field.enum_type)


def _value(field: FieldDescriptor, held: Any, pointer: str) -> Any:
    if not field.is_repeated:
        return _one(field, held, pointer)
    if field.message_type or field.enum_type:
        return [_one(field, each, f"{pointer}/{index}") for index, each in enumerate(held)]
    return list(held)


def _one(field: FieldDescriptor, held: Any, pointer: str) -> Any:
    if field.message_type:
        return to_json(held, pointer)
    if field.enum_type:
        return TEXTS[field.enum_type.name].get(held, str(held))
    return base64.b64encode(held).decode() if field.type == field.TYPE_BYTES else held


def _texts(kind: EnumDescriptor) -> dict[int, str]:
    """Each value as it reads in JSON: STATUS_QUEUED of Status is "queued"."""
    prefix = len(kind.values_by_number[0].name) - len("UNSPECIFIED")
    texts = {value.number: value.name[prefix:].lower() for value in kind.values}
    if kind.name == "WebhookEvent":
        return {number: text.replace("_", ".", 1) for number, text in texts.items()}
    return texts


TEXTS = {name: _texts(kind) for name, kind in pb.DESCRIPTOR.enum_types_by_name.items()}
NUMBERS = {name: {text: number for number, text in texts.items()} for name, texts in TEXTS.items()}


def write(kind: type[Answer], view: BaseModel | Mapping[Any, Any]) -> Answer:
    """The message that shows what a view of REST does."""
    answer = kind()
    _fill(answer, view)
    return answer


def _fill(message: Message, value: Any) -> None:
    match message, value:
        case Timestamp(), datetime():
            message.FromDatetime(value)
        case _, BaseModel():
            _fill(message, {name: getattr(value, name) for name in type(value).model_fields})
        case _, Mapping():
            message.SetInParent()
            by_name = {field.name: field for field in _fields(message)}
            for name, each in value.items():
                place = by_name.get(str(name)) or by_name.get(IN_MESSAGES.get(str(name), ""))
                if place is not None and each is not None:
                    _put(message, place, each)
        case _, Sequence():
            message.SetInParent()
            fields = _fields(message)
            for field, each in zip(fields, [value] if fields[0].is_repeated else value, strict=True):
                _put(message, field, each)


def _put(message: Message, field: FieldDescriptor, value: Any) -> None:
    place = getattr(message, field.name)
    if isinstance(place, MessageMap) or (field.message_type and field.message_type.GetOptions().map_entry):
        place.update(value)
    elif field.is_repeated and field.message_type:
        for each in value:
            _fill(place.add(), each)
    elif field.is_repeated:
        place.extend(_scalar(field, each) for each in value)
    elif field.message_type:
        _fill(place, value)
    else:
        setattr(message, field.name, _scalar(field, value))


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type:
        return NUMBERS[field.enum_type.name][value.value if isinstance(value, StrEnum) else value]
    return base64.b64decode(value) if field.type == field.TYPE_BYTES else value


def pointer_of(pointer: str) -> str:
    """A pointer into a REST body as one into its message."""
    parent, slash, name = pointer.rpartition("/")
    return parent + slash + ("data" if name == "base64" else name)
