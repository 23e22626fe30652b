"""``import``: other tools' files become requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .._foreign import NotUnderstood, Options, read
from .._options import argument, option

Source = Annotated[Path, argument("PATH", "A demo folder of the reference, or a file of tracks.")]
Image = Annotated[
    Path | None, option("--image", metavar="FILE", help="First frame: PNG, JPEG, WebP. A demo folder has its own.")
]
Masks = Annotated[
    list[Path] | None, option("--mask", metavar="FILE", help="Mask of a track; one for each, or none.")
]
Tracks = Annotated[
    list[int] | None, option("--track", metavar="I", help="Only this track, counted from 0. Repeat it for more.")
]
Frames = Annotated[
    int | None, option("--frames", metavar="N", help="Frames of the video; tracks are fitted to them.")
]
Canvas = Annotated[
    str | None,
    option("--canvas", metavar="WxH", help="Size of the canvas that the points are on, if not the image's."),
]
Visibility = Annotated[
    Path | None,
    option("--visibility", metavar="FILE.npy", help="Which points are visible, if not beside the tracks."),
]
Target = Annotated[
    Path | None, option("--output", "-o", metavar="FILE", help="Where the request goes: stdout here.")
]


def import_(
    path: Source,
    image: Image = None,
    mask: Masks = None,
    track: Tracks = None,
    frames: Frames = None,
    canvas: Canvas = None,
    visibility: Visibility = None,
    output: Target = None,
) -> None:
    """Turn another tool's trajectories into a request for `generate`.

    Understands the reference's demo folders (demo.json), Wan-Move's tracks (.npy, .npz), ATI's (.npz, .pth), and
    trajectory strings of ComfyUI's spline editor (.json, .txt). Nothing is unpickled.

    `draganything import demo/ -o job.json && draganything generate job.json`
    """
    size = None if canvas is None else _size(canvas)
    try:
        made = read(path, Options(image, mask or (), track or (), frames, size, visibility))
    except NotUnderstood as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is no text") from error
    text = json.dumps(made)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        typer.echo(output)


def _size(text: str) -> tuple[float, float]:
    try:
        width, height = (float(side) for side in text.lower().split("x"))
    except ValueError:
        width = height = 0
    if min(width, height) <= 0:
        raise typer.BadParameter(f"{text!r} is not of the form WxH", param_hint="--canvas")
    return width, height
