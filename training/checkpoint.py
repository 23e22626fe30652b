"""Checkpoints that are whole or not there at all."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


class CheckpointError(OSError):
    """A checkpoint that could not be written or read; a former one is untouched."""


def write(path: Path, content: Any) -> None:
    """Write a file beside `path`, flush it to the disk, and only then let it take the former one's place."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into the latter
        with suppress(OSError):
            fresh.unlink()
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read tensors and plain values; nothing that could run code."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except Exception as error:  # what torch raises for a broken file is not documented
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
