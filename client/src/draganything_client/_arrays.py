"""Tracks in NumPy's files, and in a torch file that holds one of those. Needs NumPy; nothing is unpickled."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError as error:  # the client itself goes without
    from ._foreign import NotUnderstood

    raise NotUnderstood("reading arrays takes NumPy: pip install 'draganything-client[arrays]'") from error

from numpy.typing import NDArray

from ._foreign import Line, NotUnderstood

Array = NDArray[Any]
MAX_BYTES = 2**28
TRACKS = ("tracks", "track", "array", "arr_0")
VISIBILITY = ("visibility", "visibles", "visible", "vis", "track_visibility")
ATI_FRAMES = 121
ATI_SCALE = 8
"""ATI stores eighths of pixels as integers."""


def read_arrays(path: Path, visibility: Path | None = None) -> list[Line]:
    """The tracks of a file, each with one point per frame. Where one is not visible it goes straight from where it
    was seen last to where it is seen next, and holds still before and after.

    Formats: Wan-Move's ``X_tracks.npy`` [1?, T, N, 2] with ``X_visibility.npy`` [1?, T, N] beside it, and the same
    as ``tracks`` and ``visibility`` in one ``.npz``; ATI's [N, 121, 1, 3] (x, y, visible) in eighths of pixels, as
    ``array`` in an ``.npz`` or in the ``.pth`` that ATI makes of that.

    Sources: https://github.com/ali-vilab/Wan-Move, ``wan/wan_move.py`` (``WanMove.generate``) and
    ``scripts/visualize.py``; https://github.com/bytedance/ATI, ``wan/utils/motion.py`` (``process_tracks``) and
    ``tools/plot_user_inputs.py``.
    """
    try:
        arrays = _open(path)
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise NotUnderstood(f"{path} is damaged, or holds objects instead of numbers: {error}") from None
    tracks = next((arrays[name] for name in TRACKS if name in arrays), None)
    if tracks is None:
        raise NotUnderstood(f"{path} has {', '.join(arrays) or 'nothing'}; one of {', '.join(TRACKS)} is expected")
    if tracks.dtype.kind not in "iuf":
        raise NotUnderstood(f"{path}: tracks must be numbers, not {tracks.dtype}")
    if tracks.ndim == 4 and tracks.shape[2] == 1 and tracks.shape[3] in (3, 4):
        points, seen = _ati(tracks, path)
    else:
        points = tracks[0] if tracks.ndim == 4 and len(tracks) == 1 else tracks
        if points.ndim != 3 or points.shape[2] != 2 or not points.size:
            raise NotUnderstood(f"{path}: tracks must be [T, N, 2], not {list(tracks.shape)}")
        seen = _visibility(path, visibility, arrays, points.shape[:2])
    return [_line(points[:, index], seen[:, index], f"{path}: track {index}") for index in range(points.shape[1])]


def _open(path: Path) -> dict[str, Array]:
    if path.suffix == ".npy":
        return {"tracks": _open_array(path)}
    return _open_zip(path.read_bytes() if path.suffix == ".npz" else _payload(path))


def _open_array(path: Path) -> Array:
    with path.open("rb") as file:  # np.load would also take archives and pickles for one
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _open_zip(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MB")
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        return {name: held[name] for name in held.files if name in (*TRACKS, *VISIBILITY)}


def _payload(path: Path) -> bytes:
    """The bytes that ``torch.save(bytes, path)`` wrote: its pickle is read as a list of opcodes, never run.

    Python writes bytes in protocol 2, which torch uses, as ``_codecs.encode(text, "latin1")``.
    """
    with zipfile.ZipFile(path) as archive:
        member = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if member is None or archive.getinfo(member).file_size > MAX_BYTES:
            raise ValueError("no torch file with one small object")
        opcodes = [
            (opcode.name, argument)
            for opcode, argument, _ in pickletools.genops(archive.read(member))
            if opcode.name not in ("PROTO", "BINPUT", "LONG_BINPUT", "MEMOIZE", "FRAME")
        ]
    match opcodes:
        case [
            ("GLOBAL", "_codecs encode"),
            ("BINUNICODE", str(text)),
            ("BINUNICODE", "latin1"),
            ("TUPLE2", _),
            ("REDUCE", _),
            ("STOP", _),
        ]:
            return text.encode("latin1")
        case [("BINBYTES" | "SHORT_BINBYTES", bytes(content)), ("STOP", _)]:
            return content
    raise ValueError("this torch file holds more than bytes; save its tracks as .npy: np.save(file, tracks)")


def _ati(tracks: Array, path: Path) -> tuple[Array, Array]:
    """Points [T, N, 2] in pixels and visibility [T, N]."""
    if tracks.shape[1] == ATI_FRAMES:
        tracks = tracks.transpose(1, 0, 2, 3)
    elif tracks.shape[0] != ATI_FRAMES:
        raise NotUnderstood(f"{path}: ATI's tracks are [N, {ATI_FRAMES}, 1, 3], not {list(tracks.shape)}")
    flat = tracks[:, :, 0]
    return flat[..., :2] / ATI_SCALE, flat[..., -1] > 0


def _visibility(path: Path, given: Path | None, arrays: dict[str, Array], shape: tuple[int, ...]) -> Array:
    """Which points are seen, [T, N]; all of them where nothing says otherwise."""
    beside = path.with_name(path.name.replace("_tracks.npy", "_visibility.npy"))
    held = next((arrays[name] for name in VISIBILITY if name in arrays), None)
    if given is not None or (held is None and beside != path and beside.exists()):
        try:
            held = _open_array(given or beside)
        except (ValueError, EOFError) as error:
            raise NotUnderstood(f"{given or beside}: {error}") from None
    if held is None:
        return np.ones(shape, bool)
    seen = held[0] if held.ndim == 3 and len(held) == 1 else held
    if seen.shape != shape or seen.dtype.kind not in "biuf":
        raise NotUnderstood(f"{given or beside}: visibility must be {list(shape)}, not {list(held.shape)}")
    return np.asarray(seen > 0.5)


def _line(points: Array, seen: Array, name: str) -> Line:
    if not seen.any():
        raise NotUnderstood(f"{name} is never visible: leave it out with --track")
    if not np.isfinite(points[seen]).all():
        raise NotUnderstood(f"{name} has points that are not finite")
    frames, known = np.arange(len(points)), np.flatnonzero(seen)
    x, y = (np.interp(frames, known, points[known, axis].astype(np.float64)).round(3) for axis in (0, 1))
    return list(zip(x.tolist(), y.tolist(), strict=True))
