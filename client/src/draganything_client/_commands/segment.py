"""``segment``: clicks or a box in, a mask out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .._options import JsonFlag, argument, option
from .._show import say

Image = Annotated[Path, argument("IMAGE", "A PNG, JPEG or WebP file.")]
Points = Annotated[
    list[str] | None, option("--point", metavar="X,Y", help="A pixel that belongs to it. Repeat it for more.")
]
Nots = Annotated[
    list[str] | None, option("--not", metavar="X,Y", help="A pixel that does not. Repeat it for more.")
]
Box = Annotated[
    str | None, option("--box", metavar="X0,Y0,X1,Y1", help="A box that holds all of it and that it fills.")
]
Target = Annotated[
    Path | None, option("--output", "-o", metavar="FILE.png", help="Where the mask goes: mask.png here.")
]


def segment(
    ctx: typer.Context,
    image: Image,
    point: Points = None,
    not_: Nots = None,
    box: Box = None,
    output: Target = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the mask of what points or a box mean, and save it for --mask of `generate`.

    `draganything segment bird.png --point 180,115 --not 20,20 -o bird-mask.png`
    """
    if not point and box is None:
        raise typer.BadParameter("say what is meant: --point X,Y or --box X0,Y0,X1,Y1")
    clicks = [(*_numbers(text, 2, "--point"), 1) for text in point or ()]
    clicks += [(*_numbers(text, 2, "--not"), 0) for text in not_ or ()]
    corners = None if box is None else _numbers(box, 4, "--box")
    with ctx.obj.client() as client:
        try:
            found = client.segment(image, clicks, corners)
        except OSError as error:
            raise typer.BadParameter(f"{error.filename}: {error.strerror}", param_hint="IMAGE") from error
    target = output or Path("mask.png")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(found.mask.content)
    if as_json:
        facts = found.model_dump(mode="json", exclude={"mask"})
        typer.echo(json.dumps({**facts, "files": {"mask": str(target)}}))
        return
    score = "" if found.score is None else f"right by {found.score:.0%} (IoU), says {found.engine}"
    say(f"{target}: {score}")


def _numbers(text: str, count: int, name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        form = ("X,Y", "X0,Y0,X1,Y1")[count == 4]
        raise typer.BadParameter(f"{text!r} is not of the form {form}", param_hint=name)
    return numbers
