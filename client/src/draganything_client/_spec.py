"""Requests from files: base64 and run lengths, so that nobody has to write them by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

Point = tuple[float, float] | Sequence[float]


class Array(Protocol):
    """What numpy and torch arrays have in common, as far as a mask needs it."""

    def tolist(self) -> Any: ...


def spec(
    image: str | Path | bytes,
    entities: Iterable[dict[str, Any]],
    **fields: Any,
) -> dict[str, Any]:
    """A request for ``generate`` or ``preview``.

    Args:
        image: a PNG, JPEG or WebP as a path or its bytes, or an ``https://`` URL.
        entities: from ``entity``.
        fields: anything else of the request: ``seed=7``, ``hold_background=True``, ``output={"format": "webm"}``.

    Raises:
        OSError: a file cannot be read.
    """
    return {"image": picture(image), "entities": list(entities), **fields}


def entity(
    mask: str | Path | bytes | Array | Sequence[Sequence[object]] | dict[str, Any] | None = None,
    *,
    path: Iterable[Point],
    label: str | None = None,
    scale: tuple[float, float] | None = None,
    control: str | None = None,
    **trajectory: Any,
) -> dict[str, Any]:
    """One thing that moves along ``path``.

    Args:
        mask: a PNG or JPEG as a path or its bytes, an array [H, W] of truth values (numpy or nested lists), or
            a mask of the request (``{"box": …}``); left out, the service segments at the path's first point.
        path: (x, y) in pixels of the image.
        label: a name for it.
        scale: the disc's growth from the first to the last frame.
        control: ``entity`` or ``point``.
        trajectory: ``easing="ease_in_out"``, ``timing="per_point"``, ``space="normalized"``, …
    """
    made: dict[str, Any] = {"trajectory": {"points": [[float(x), float(y)] for x, y in path], **trajectory}}
    if mask is not None:
        made["mask"] = _mask(mask)
    if label is not None:
        made["label"] = label
    if scale is not None:
        made["scale"] = {"start": scale[0], "end": scale[1]}
    if control is not None:
        made["control"] = control
    return made


def picture(source: str | Path | bytes) -> dict[str, str]:
    """An image as the request wants it: the base64 of a file or of bytes, or a URL."""
    if isinstance(source, str) and source.startswith("https://"):
        return {"url": source}
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    return {"base64": base64.b64encode(content).decode()}


def _mask(source: Any) -> dict[str, Any]:
    if isinstance(source, dict):
        return source
    if isinstance(source, str | Path | bytes):
        return dict(picture(source))
    rows = source.tolist() if hasattr(source, "tolist") else source
    return {"rle": _run_lengths([[bool(value) for value in row] for row in rows])}


def _run_lengths(rows: list[list[bool]]) -> dict[str, Any]:
    """COCO's uncompressed form: column by column, the first run counts zeros."""
    runs = [(value, len(list(run))) for value, run in groupby(chain.from_iterable(zip(*rows, strict=True)))]
    counts = [length for _, length in runs]
    return {"size": [len(rows), len(rows[0])], "counts": [0, *counts] if runs[0][0] else counts}
