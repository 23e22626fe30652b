"""The options of ``evaluation.benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from evaluation.clips import Kind, Selection
from evaluation.makers import Control


def parser(description: str) -> argparse.ArgumentParser:
    """What can be asked for."""
    made = argparse.ArgumentParser(
        prog="draganything evaluate", description=f"{description}; see docs/evaluation.md."
    )
    made.add_argument("data", choices=[*get_args(Kind), "manifests"], help="layout of the data set")
    made.add_argument("root", nargs="?", type=Path, help="its folder; none for synthetic")
    add = made.add_argument_group("clips").add_argument
    add("--split", default="val", help="default: val")
    add("--tracks", type=Path, metavar="DIR", help="<video>.json of each video, as published for VIPSeg")
    add("--size", type=_size, default=(256, 256), metavar="WxH", help="default: 256x256")
    add("--frames", type=_positive, default=14, help="default: 14")
    add("--stride", type=_positive, default=1, help="frames of the video per frame of a clip")
    add("--clips", type=_positive, help="at most so many; of synthetic: 20")
    add("--entities", type=_positive, default=16, help="of a clip, at most, the largest")
    add("--smallest", type=float, default=0.002, help="share of the frame below which an entity is left out")
    add("--seed", type=int, default=1)
    add = made.add_argument_group("videos").add_argument
    add("--rows", nargs="+", default=[], choices=["paper", *get_args(Control)], help="what the network is told")
    add(
        "--made",
        action="append",
        default=[],
        type=_named,
        metavar="NAME=DIR",
        help="a row of videos from elsewhere",
    )
    add("--model", help="a preset of this process, or a model of the service; default: tiny, or the service's")
    add("--weights", type=Path, metavar="DIR", help="a folder that training exported")
    add("--service", metavar="URL", help="let a running service make them")
    add("--steps", type=_positive, help="default: the model's")
    add("--chain", type=_positive, default=1, metavar="N", help="make each motion in N parts, one after the other")
    add(
        "--extend",
        type=_positive,
        default=1,
        metavar="N",
        help="clips of N parts, for how scores fall with length",
    )
    add = made.add_argument_group("scores").add_argument
    add("--inception", type=Path, metavar="FILE", help="for FID: inception-2015-12-05.pt")
    add("--i3d", type=Path, metavar="FILE", help="for FVD: i3d_torchscript.pt")
    add("--cotracker", type=Path, metavar="DIR", help="track with CoTracker 3 instead of the embedded tracker")
    add("--cache", type=Path, default=Path("out/features"), metavar="DIR", help="features; default: out/features")
    add("--device", default="cpu")
    add("--out", type=Path, metavar="DIR", help="where the table and the videos are kept")
    add("--json", action="store_true", help="print JSON instead of Markdown")
    return made


def selection(options: argparse.Namespace) -> Selection:
    """The clips that were asked for."""
    return Selection(
        kind=options.data,
        root=options.root,
        split=options.split,
        size=options.size,
        frames=options.extend * (options.frames - 1) + 1,
        stride=options.stride,
        clips=options.clips or (20 if options.data == "synthetic" else None),
        tracks=options.tracks,
        entities=options.entities,
        smallest=options.smallest,
        seed=options.seed,
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 256x256")
    return int(width), int(height)


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name, Path(folder)
