"""The .proto file, its stubs, and the schema of REST say the same."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, Literal

import pytest
from draganything.v1 import draganything_pb2 as pb
from pydantic import BaseModel

from jobs.models import ModelCard
from jobs.spec import BatchRequest, GenerateRequest
from jobs.view import JobView
from local.stack import ROOT
from service.batches import BatchView
from service.preview import PreviewView
from service.rest import JobPage
from service.rpc_messages import IN_JSON, NUMBERS, read, to_json, write
from service.segment import SegmentRequest, SegmentView
from tests.security.test_fuzz import RICH

PAIRS: list[tuple[type[BaseModel], Any, Literal["validation", "serialization"]]] = [
    (GenerateRequest, pb.GenerateRequest, "validation"),
    (BatchRequest, pb.CreateBatchRequest, "validation"),
    (SegmentRequest, pb.SegmentRequest, "validation"),
    (JobView, pb.Job, "serialization"),
    (JobPage, pb.ListJobsResponse, "serialization"),
    (BatchView, pb.Batch, "serialization"),
    (PreviewView, pb.PreviewResponse, "serialization"),
    (SegmentView, pb.SegmentResponse, "serialization"),
    (ModelCard, pb.Model, "serialization"),
]
SCALARS = {"string": {"string", "bytes"}, "integer": {"int32", "int64"}, "number": {"double"}, "boolean": {"bool"}}
TYPES = {1: "double", 3: "int64", 5: "int32", 8: "bool", 9: "string", 11: "message", 12: "bytes", 14: "enum"}


class Comparison:
    """Of a JSON schema, in which a field may have several forms, with a message."""

    def __init__(self, model: type[BaseModel], mode: Literal["validation", "serialization"]) -> None:
        self.schema = model.model_json_schema(mode=mode)
        self.is_request = mode == "validation"

    def differences(self, message: Any) -> list[str]:
        return list(self._of_objects(self.schema, message, ""))

    def _forms(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """What a value may be, without null."""
        if "$ref" in schema:
            return self._forms(self.schema["$defs"][schema["$ref"].rpartition("/")[2]])
        several = schema.get("anyOf", schema.get("oneOf"))
        if several:
            return [form for each in several for form in self._forms(each)]
        return [] if schema.get("type") == "null" else [schema]

    def _of_objects(self, schema: dict[str, Any], message: Any, path: str) -> Iterator[str]:
        ours = {name: field for name, field in schema["properties"].items() if name != "object"}
        theirs = {IN_JSON.get(field.name, field.name): field for field in message.fields}
        yield from (f"{path}/{name} is missing in the .proto file" for name in ours.keys() - theirs.keys())
        yield from (f"{path}/{name} is in the .proto file alone" for name in theirs.keys() - ours.keys())
        for name in ours.keys() & theirs.keys():
            field, where = theirs[name], f"{path}/{name}"
            optional = name not in schema.get("required", []) if self.is_request else _may_be_null(ours[name])
            if optional and not (field.has_presence or field.is_repeated or field.enum_type):
                yield f"{where} can not be unset"
            several = [each for each in message.fields if IN_JSON.get(each.name, each.name) == name]
            for form in self._forms(ours[name]):
                found = [list(self._of_values(form, each, each.is_repeated, where)) for each in several]
                if all(found):
                    yield from found[0]

    def _of_values(self, form: dict[str, Any], field: Any, repeated: bool, where: str) -> Iterator[str]:
        message, kind = field.message_type, form.get("type")
        if kind == "array" and "prefixItems" in form:
            if not message or len(message.fields) != len(form["prefixItems"]):
                yield f"{where} has another length"
                return
            for part, item in zip(message.fields, form["prefixItems"], strict=True):
                yield from self._of_items(item, part, where)
        elif kind == "array":
            inner = field if repeated else message and message.fields[0]
            if not inner or not inner.is_repeated:
                yield f"{where} is no list"
            else:
                yield from self._of_items(form["items"], inner, where)
        elif repeated and not (message and message.GetOptions().map_entry):
            yield f"{where} is a list"
        elif kind == "object":
            yield from self._of_members(form, message, where)
        elif "enum" in form or ("const" in form and field.enum_type):
            yield from self._of_enums(form, field, where)
        elif form.get("format") == "date-time":
            if not message or message.name != "Timestamp":
                yield f"{where} is no time"
        elif TYPES.get(field.type) not in SCALARS.get(str(kind), ()):
            yield f"{where} is {TYPES.get(field.type)}, not {kind}"

    def _of_items(self, schema: dict[str, Any], field: Any, where: str) -> Iterator[str]:
        for form in self._forms(schema):
            yield from self._of_values(form, field, False, where)

    def _of_members(self, form: dict[str, Any], message: Any, where: str) -> Iterator[str]:
        if not message:
            yield f"{where} is no message"
        elif "properties" in form:
            yield from self._of_objects(form, message, where)
        elif "propertyNames" in form:
            (names,) = self._forms(form["propertyNames"])
            if set(names["enum"]) != set(message.fields_by_name):
                yield f"{where} has other members"
        elif message.GetOptions().map_entry:
            yield from self._of_items(form["additionalProperties"], message.fields_by_name["value"], where)
        elif message.full_name != "google.protobuf.Struct":
            yield f"{where} is no map"

    def _of_enums(self, form: dict[str, Any], field: Any, where: str) -> Iterator[str]:
        if all(isinstance(each, int) for each in form.get("enum", ["text"])):
            return
        asked = set(form.get("enum", [form.get("const")]))
        known = set(NUMBERS[field.enum_type.name]) - {"unspecified"} if field.enum_type else set()
        if asked - known or ("enum" in form and known - asked):
            yield f"{where} has {sorted(known)}, not {sorted(asked)}"


def _may_be_null(schema: dict[str, Any]) -> bool:
    return {"type": "null"} in schema.get("anyOf", [])


@pytest.mark.parametrize(("model", "message", "mode"), PAIRS, ids=[model.__name__ for model, _, _ in PAIRS])
def test_both_doors_have_the_same_fields(model: type[BaseModel], message: Any, mode: Any) -> None:
    assert Comparison(model, mode).differences(message.DESCRIPTOR) == []


def test_a_difference_is_seen() -> None:
    class Wider(GenerateRequest):
        mood: str | None = None
        seed: str | None = None  # type: ignore[assignment]

    class Narrower(BaseModel):
        image: int

    assert Comparison(Wider, "validation").differences(pb.GenerateRequest.DESCRIPTOR) == [
        "/mood is missing in the .proto file",
        "/seed is int64, not string",
    ]
    assert len(Comparison(Narrower, "validation").differences(pb.GenerateRequest.DESCRIPTOR)) == 27


def test_a_request_comes_through_whole() -> None:
    message = write(pb.GenerateRequest, RICH)
    assert to_json(pb.GenerateRequest.FromString(message.SerializeToString()), "") == RICH
    assert read(GenerateRequest, message) == GenerateRequest.model_validate(RICH)


def test_every_field_that_is_set_arrives() -> None:
    """No field is lost on the way, whatever its value: zero and false are not the same as unset."""
    zero: dict[str, Any] = {
        "seed": 0,
        "hold_background": False,
        "loop": False,
        "control_scale": 0,
        "deadline_s": 0,
    }
    assert to_json(pb.GenerateRequest(**zero), "") == zero
    assert to_json(pb.GenerateRequest(), "") == {}


# -- stubs -----------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_stubs_are_those_of_the_proto_file(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "proto", tmp_path], check=True)
    assert files_of(tmp_path) == files_of(ROOT / "proto" / "gen"), "run `make proto`"


def test_the_client_package_ships_them(tmp_path: Path) -> None:
    left_out = ignore_patterns("__pycache__", "build", "*.egg-info")
    for name in ("client", "proto"):
        copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    subprocess.run([*pip, *options, str(tmp_path / "client")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        shipped = {name: packed.read(name) for name in packed.namelist() if name.startswith("draganything/")}
    assert shipped == files_of(ROOT / "proto" / "gen")


def test_imports(tmp_path: Path) -> None:
    """The client does without grpc; nothing is called ``proto``, which is another package's name."""
    code = (
        "import sys, importlib.util, draganything_client\n"
        "assert not {'grpc', 'google.protobuf', 'draganything'} & set(sys.modules)\n"
        "assert importlib.util.find_spec('proto') is None\n"
        "from draganything.v1 import draganything_pb2_grpc\n"
        "assert draganything_pb2_grpc.DragAnythingStub\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
