"""Requests from files: base64 and run lengths, so that nobody has to write them by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

from ._types import Upload

Point = tuple[float, float] | Sequence[float]


class Array(Protocol):
    """What numpy and torch arrays have in common, as far as a mask needs it."""

    def tolist(self) -> Any: ...


Mask = str | Path | bytes | Array | Sequence[Sequence[object]] | dict[str, Any]
"""A file by its path or its bytes, an array [H, W] of truth values, or a mask of the request (``{"box": …}``)."""


def spec(
    image: str | Path | bytes | Upload | None,
    entities: Iterable[dict[str, Any]],
    **fields: Any,
) -> dict[str, Any]:
    """A request for ``generate`` or ``preview``.

    Args:
        image: a PNG, JPEG or WebP as a path or its bytes, an ``https://`` URL, or an upload;
            None with ``extends=ID``.
        entities: from ``entity``.
        fields: anything else of the request: ``seed=7``, ``hold_background=True``, ``output={"format": "webm"}``.

    Raises:
        OSError: a file cannot be read.
    """
    first = {} if image is None else {"image": image_source(image)}
    return {**first, "entities": list(entities), **fields}


def entity(
    mask: Mask | None = None,
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
        made["mask"] = mask_source(mask)
    if label is not None:
        made["label"] = label
    if scale is not None:
        made["scale"] = {"start": scale[0], "end": scale[1]}
    if control is not None:
        made["control"] = control
    return made


def image_source(source: str | Path | bytes | Upload) -> dict[str, str]:
    """An image as the request wants it: the base64 of a file or of bytes, a URL, or an upload."""
    if isinstance(source, Upload):
        return source.source
    if isinstance(source, str) and source.startswith("https://"):
        return {"url": source}
    return _base64(source)


def mask_source(source: Mask) -> dict[str, Any]:
    """A mask as the request wants it; see ``entity`` for what it may be."""
    if isinstance(source, dict):
        return source
    if isinstance(source, str | Path | bytes):
        return dict(_base64(source))
    rows: Any = source.tolist() if hasattr(source, "tolist") else source
    return {"rle": _run_lengths([[bool(value) for value in row] for row in rows])}


def _base64(source: str | Path | bytes) -> dict[str, str]:
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    return {"base64": base64.b64encode(content).decode()}


def _run_lengths(rows: list[list[bool]]) -> dict[str, Any]:
    """COCO's uncompressed form: column by column, the first run counts zeros."""
    runs = [(value, len(list(run))) for value, run in groupby(chain.from_iterable(zip(*rows, strict=True)))]
    counts = [length for _, length in runs]
    return {"size": [len(rows), len(rows[0])], "counts": [0, *counts] if runs[0][0] else counts}
