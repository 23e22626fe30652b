"""What the package says that it has."""

from __future__ import annotations

import inspect
from typing import Any

import draganything_client
import pytest
from draganything_client import AsyncClient, Client, _errors


def test_every_exported_member_is_there_in_order() -> None:
    names = draganything_client.__all__
    assert names == sorted(names)
    assert all(hasattr(draganything_client, name) for name in names)


def test_nothing_public_is_forgotten() -> None:
    public = {name for name in vars(draganything_client) if not name.startswith("_") and name != "cli"}
    assert public == set(draganything_client.__all__)
    errors = [kind for kind in vars(_errors).values() if isinstance(kind, type)]
    assert {kind.__name__ for kind in errors if kind.__module__ == _errors.__name__} <= set(
        draganything_client.__all__
    )


def calls(kind: type) -> dict[str, Any]:
    return {
        name: call
        for name, call in vars(kind).items()
        if not name.startswith("_") and name not in ("close", "aclose")
    }


def test_every_result_has_an_exported_type() -> None:
    for name, call in calls(Client).items():
        result = inspect.signature(call).return_annotation
        words = result.replace("[", " ").replace("]", " ").replace(",", " ").split()
        plain = {"None", "str", "dict", "list", "Iterator", "Path"}
        assert set(words) <= plain | set(draganything_client.__all__), name


@pytest.mark.parametrize("name", calls(Client))
def test_the_twins_have_the_same_calls(name: str) -> None:
    one, other = inspect.signature(calls(Client)[name]), inspect.signature(calls(AsyncClient)[name])
    assert one.parameters == other.parameters
    assert one.return_annotation.replace("Iterator", "AsyncIterator") == other.return_annotation
    assert set(calls(Client)) == set(calls(AsyncClient))
