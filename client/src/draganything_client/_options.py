"""Options that several commands have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ._request import request

REQUEST, FIELDS = "The request", "Fields of the request"


def option(*names: str, help: str, metavar: str | None = None, panel: str | None = None) -> Any:  # noqa: A002
    """An option without a default to show."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, show_default=False)


def argument(metavar: str, help: str) -> Any:  # noqa: A002
    """A positional argument."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


JobId = Annotated[str, argument("ID", "Id of the job, or with --batch of the batch.")]
OfBatch = Annotated[bool, option("--batch", help="ID is that of a batch: do this for all of its jobs.")]
JsonFlag = Annotated[bool, option("--json", help="Print JSON only; progress still goes to stderr.")]
Detach = Annotated[bool, option("--detach", help="Queue, print the id, do not wait.")]
Output = Annotated[
    Path | None,
    option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="A video (.mp4, .webm, .gif, .webp), or a folder for video, overlay and manifest.",
    ),
]
Overlay = Annotated[
    Path | None, option("--overlay", metavar="FILE", help="Save the video with the paths drawn over it, too.")
]


def _described(
    spec_file: Annotated[
        Path | None,
        argument("SPEC.json", "The whole request as JSON; - reads stdin. Options override its fields."),
    ] = None,
    image: Annotated[
        Path | None, option("--image", metavar="FILE", panel=REQUEST, help="First frame: PNG, JPEG, WebP.")
    ] = None,
    extends: Annotated[
        str | None,
        option("--extends", metavar="ID", panel=REQUEST, help="Go on from the last frame of this job's video."),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        option(
            "--mask", metavar="FILE", panel=REQUEST, help="Mask of an entity; without any, the service segments."
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        option(
            "--path",
            metavar='"X,Y X,Y …"',
            panel=REQUEST,
            help="Path of an entity in pixels. Repeat it, with its --mask and --label, for more entities.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, option("--label", metavar="NAME", panel=REQUEST, help="Name of an entity.")
    ] = None,
    model: Annotated[
        str | None, option("--model", metavar="NAME", panel=FIELDS, help="Model; see `draganything models`.")
    ] = None,
    frames: Annotated[int | None, option("--frames", metavar="N", panel=FIELDS, help="Number of frames.")] = None,
    steps: Annotated[int | None, option("--steps", metavar="N", panel=FIELDS, help="Denoising steps.")] = None,
    seed: Annotated[
        int | None, option("--seed", metavar="N", panel=FIELDS, help="Seed of the random draws.")
    ] = None,
    hold_background: Annotated[
        bool | None,
        option("--hold-background/--no-hold-background", panel=FIELDS, help="Hold everything else still."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        option(
            "--set",
            metavar="FIELD=VALUE",
            panel=FIELDS,
            help="Any other field, such as max_guidance_scale=2.5 or output.fps=12.",
        ),
    ] = None,
) -> dict[str, Any]:
    """The request that these options describe."""
    fields = {
        "model": model,
        "num_frames": frames,
        "num_inference_steps": steps,
        "seed": seed,
        "hold_background": hold_background,
    }
    return request(spec_file, image, extends, mask or (), path or (), label or (), set_ or (), fields)


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that describe a request; it gets the request itself as ``body``."""
    described = inspect.signature(_described, eval_str=True).parameters
    context, _body, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:
        body = _described(**{name: given.pop(name) for name in described})
        command(ctx, body, **given)

    run.__signature__ = inspect.Signature([context, *described.values(), *own])  # type: ignore[attr-defined] # PEP 362
    run.__annotations__ = {}  # typer reads the signature
    return run
