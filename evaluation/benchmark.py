"""The paper's tables on a data set: `python -m evaluation.benchmark vipseg DIR --tracks DIR --rows paper`.

Every row is a set of videos, made from the first frames, masks and tracks of the clips, kept below --out as
pictures and made once. Beside them stand the real videos (truth: what the tracker and the set are good for) and
the first frame, frozen (still: what a model that does nothing scores).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from draganything_client import Client, DragAnythingError
from tqdm.auto import tqdm

from evaluation import manifests
from evaluation.clips import Clip, Clips
from evaluation.cotracker import CoTracker, TrackerMissing
from evaluation.frechet import Extractor, FeaturesMissing, Network, frechet_distance
from evaluation.makers import Control, Local, Maker, Service, stretch
from evaluation.manifests import ManifestBroken
from evaluation.options import parser, selection
from evaluation.setscores import Floats, Measured, measure, summary
from evaluation.table import markdown
from evaluation.tracking import FlowTracker, Tracker
from evaluation.videos import Frames, VideosMissing, load, save
from model.pipeline import DragAnythingPipeline
from training.data.folders import BrokenVideo

PAPER: tuple[Control, ...] = ("full", "none", "entity", "gaussian")
"""The rows of the paper's tables that differ in what the network is told, not in how it was trained."""
MISTAKES = (DragAnythingError, FeaturesMissing, ManifestBroken, OSError, TrackerMissing, ValueError, VideosMissing)
"""What was asked for is missing or makes no sense. BrokenVideo and WeightsError are ValueErrors."""
Source = Callable[[Clip], Frames]
"""The video of a row for a clip."""


@dataclass
class Row:
    """A set of videos as it is gone through, clip by clip."""

    name: str
    source: Source
    measured: list[Measured] = field(default_factory=list)
    features: dict[str, list[Floats]] = field(default_factory=dict)


def evaluate(
    clips: Clips, sources: dict[str, Source], tracker: Tracker, extractors: Sequence[Extractor] = ()
) -> dict[str, Any]:
    """The table as plain data: a row for each source, beside the truth and the still picture.

    Raises:
        BrokenVideo: no clip can be used.
    """
    truth = Row("truth", lambda clip: clip.frames)
    still = Row("still", lambda clip: np.repeat(clip.frames[:1], len(clip.frames), axis=0))
    rows = [truth, still, *(Row(name, source) for name, source in sources.items())]
    count = 0
    with tqdm(total=len(clips) * len(rows), desc="videos", disable=None) as bar:
        for clip in clips:
            count += 1
            for row in rows:
                bar.set_postfix_str(f"{clip.name} {row.name}")
                frames = row.source(clip)
                row.measured.append(measure(clip, frames, tracker))
                for extractor in extractors:
                    row.features.setdefault(extractor.network, []).append(extractor(frames))
                bar.update()
    if not count:
        first = next(iter(clips.skipped.values()), "there are none")
        raise BrokenVideo(str(clips.chosen.root), "no usable clip", first)
    return {
        "data": _plain(asdict(clips.chosen)),
        "clips": count,
        "skipped": clips.skipped,
        "tracker": tracker.name,
        "rows": [
            {
                "row": row.name,
                **summary(row.measured),
                "fid": _distance(truth, row, "inception"),
                "fvd": _distance(truth, row, "i3d"),
            }
            for row in rows
        ],
    }


def _distance(truth: Row, row: Row, network: str) -> float | None:
    if network not in row.features or row is truth:
        return None
    one, other = (np.concatenate(each.features[network]) for each in (truth, row))
    return frechet_distance(one, other) if min(len(one), len(other)) > 1 else None


def made(maker: Maker, control: Control, folder: Path, *, chain: int = 1, extend: int = 1) -> Source:
    """The videos of a maker; those that are below ``folder`` already are not made again.

    ``chain``: a clip's motion is spread over so many parts, and of the frames every so many-th is kept.
    ``extend``: a clip is so many parts long.
    """

    def source(clip: Clip) -> Frames:
        if not (folder / clip.name).is_dir():
            frames = maker.make(clip, control, stretch(clip.tracks, chain), chain * extend)
            save(frames[::chain], folder / clip.name)
        return load(folder, clip)

    return source


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def main(arguments: list[str] | None = None) -> int:
    """Print the table in Markdown or JSON. Exit status 2: what was named is missing or makes no sense."""
    options = parser((__doc__ or "").partition(":")[0]).parse_args(arguments)
    try:
        with ExitStack() as stack:
            table = _manifests(options) if options.data == "manifests" else _benchmark(options, stack)
    except MISTAKES as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = markdown(table)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "table.json").write_text(json.dumps(table, indent=1))
        (options.out / "table.md").write_text(text)
    print(json.dumps(table) if options.json else text)
    return 0


def _manifests(options: argparse.Namespace) -> dict[str, Any]:
    folders = [Path(options.root)] if options.root else []
    named = {folder.name: folder for folder in folders} | dict(options.made)
    return manifests.table(named)


def _benchmark(options: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    chosen = selection(options)
    tracker: Tracker = CoTracker(options.cotracker, options.device) if options.cotracker else FlowTracker()
    networks: dict[Network, Path | None] = {"inception": options.inception, "i3d": options.i3d}
    extractors = [
        Extractor(network, file, options.cache, options.device)
        for network, file in networks.items()
        if file is not None
    ]
    clips = Clips(chosen)
    sources: dict[str, Source] = {}
    rows = PAPER if "paper" in options.rows else tuple(options.rows)
    if rows:
        maker, facts = _maker(options, tracker, stack)
        facts |= {"data": asdict(replace(chosen, clips=None)), "chain": options.chain, "extend": options.extend}
        folder = _folder(options.out, facts)
        for control in rows:
            sources[control] = made(maker, control, folder / control, chain=options.chain, extend=options.extend)
    for name, root in options.made:
        sources[name] = lambda clip, root=root: load(root, clip)  # type: ignore[misc]
    return evaluate(clips, sources, tracker, extractors)


def _maker(options: argparse.Namespace, tracker: Tracker, stack: ExitStack) -> tuple[Maker, dict[str, Any]]:
    """Who makes the videos, and what they depend on."""
    facts = {"seed": options.seed, "steps": options.steps, "model": options.model}
    if options.service is not None:
        client = stack.enter_context(Client(options.service, timeout=120))
        weights = {model.name: model.weights_sha256 for model in client.models()}
        return Service(client, options.model, options.seed, options.steps), facts | {"weights": weights}
    folder = options.weights
    parts = (
        {}
        if folder is None
        else {"svd": folder, "controlnet": folder / "controlnet", "entity_encoder": folder / "entity_encoder"}
    )
    pipeline = DragAnythingPipeline.from_pretrained(options.model or "tiny", **parts, device=options.device)
    facts |= {"weights": pipeline.card.weights_sha256}
    return Local(pipeline, tracker, options.seed, options.steps), facts


def _folder(out: Path | None, facts: dict[str, Any]) -> Path:
    """Where the videos are kept, which all depend on the same facts."""
    if out is None:
        raise ValueError("videos are made: name a folder to keep them in, --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    kept, now = out / "facts.json", json.dumps(_plain(facts), indent=1)
    if kept.exists() and kept.read_text() != now:
        raise ValueError(f"{out} has videos that were made otherwise, see {kept}: name another --out")
    kept.write_text(now)
    return out


if __name__ == "__main__":
    sys.exit(main())
