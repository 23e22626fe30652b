"""A request from the command line: a file, or an image with its masks and paths, and single fields."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from ._spec import entity, spec


def request(
    file: Path | None,
    image: Path | None,
    extends: str | None,
    masks: Sequence[Path],
    paths: Sequence[str],
    labels: Sequence[str],
    assignments: Sequence[str] = (),
    fields: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """``fields`` that are None are left out; in names and in ``assignments`` (``a.b=1``) a dot goes deeper.

    Raises:
        typer.BadParameter: the options contradict each other, or a file cannot be read.
    """
    try:
        made = _loaded(file) if file else _made(image, extends, masks, paths, labels)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    if file and (image or extends or masks or paths or labels):
        raise typer.BadParameter("give SPEC.json, or --image with --mask and --path, not both")
    for name, value in (fields or {}).items():
        if value is not None:
            assign(made, name, value)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise typer.BadParameter(f"{assignment!r} is not FIELD=VALUE", param_hint="--set")
        assign(made, name, _value(text))
    return made


def _made(
    image: Path | None,
    extends: str | None,
    masks: Sequence[Path],
    paths: Sequence[str],
    labels: Sequence[str],
) -> dict[str, Any]:
    if (image is None) == (extends is None) or not paths:
        raise typer.BadParameter("give SPEC.json, or --image (or --extends) with a --path for each entity")
    if len(masks) not in (0, len(paths)):
        raise typer.BadParameter(
            f"{len(masks)} masks for {len(paths)} paths: give one for each, or none", param_hint="--mask"
        )
    if len(labels) not in (0, len(paths)):
        raise typer.BadParameter(
            f"{len(labels)} labels for {len(paths)} paths: give one for each, or none", param_hint="--label"
        )
    entities = [
        entity(
            masks[index] if masks else None,
            path=_points(path),
            label=labels[index] if labels else None,
        )
        for index, path in enumerate(paths)
    ]
    return spec(image, entities, **({} if extends is None else {"extends": extends}))


def _loaded(file: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise typer.BadParameter(f"{file} must hold a JSON object")
    return loaded


def _points(text: str) -> list[tuple[float, float]]:
    """``"120,80 180,60"``."""
    try:
        return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]
    except ValueError as error:
        raise typer.BadParameter(f'{text!r} is not of the form "x,y x,y"', param_hint="--path") from error


def assign(request: dict[str, Any], name: str, value: object) -> None:
    """Set a field; ``a.b`` is that of the object ``a``.

    Raises:
        typer.BadParameter: ``a`` is none.
    """
    *parents, leaf = name.split(".")
    for parent in parents:
        request = request.setdefault(parent, {})
        if not isinstance(request, dict):
            raise typer.BadParameter(f"{parent} is not an object", param_hint="--set")
    request[leaf] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
