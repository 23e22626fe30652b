"""What each part is worth: `python -m evaluation.ablation CONFIG --steps N --clips M [--out DIR] [--json]`.

The VAE and the entity encoder are trained once, as CONFIG says, or taken from --weights. Then every row trains
fresh video networks for N steps of CONFIG's last stage with one thing changed, from the same numbers on the same
clips, and is evaluated as by `evaluation.tiny`. A row that was finished in DIR is not trained again, so that rows
can be trained by several processes, and one that has nothing left to train prints the whole table.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.tiny import evaluate, limit_control
from model.hub import WeightsError
from model.pipeline import DragAnythingPipeline
from training import classifier, networks
from training.checkpoint import CheckpointError
from training.config import Config, ConfigError, VideoStage, load
from training.loop import Run, TrainingError
from training.stages.video import entity_encoder

FRESH = ("unet", "controlnet", "image_encoder")  # what each row trains
FIGURES = ("clips", "frames", "moving_entities", "objmc", "objmc_template", "anchor_drift", "seconds_per_clip")


@dataclass(frozen=True)
class Row:
    """A line of the table: what differs from the full model."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)  # of the video stage


ROWS = (
    Row("full model"),
    Row("no control", {"control": "none"}),
    Row("Gaussian only", {"control": "gaussian"}),
    Row("entity only", {"control": "entity"}),
    Row("no loss mask", {"loss_mask": "none"}),
    Row("guidance without time (2D)", {"temporal_guidance": False}),
    Row("classifier features", {"entities": "classifier"}),
)


def ablate(
    config: Config, rows: tuple[Row, ...], *, steps: int, clips: int, seed: int, weights: Path | None = None
) -> list[dict[str, Any]]:
    """Train and evaluate rows below `config.out`; one dict of figures per row.

    Raises ConfigError where the last stage of the config is not of kind video.
    """
    last = config.stages[-1]
    if not isinstance(last, VideoStage):
        raise ConfigError(f"the last stage must be of kind video, not {last.kind}")
    if weights is None:
        weights = _train(config.model_copy(update={"stages": config.stages[:-1], "out": config.out / "base"}))
    table: list[dict[str, Any]] = []
    for row in rows:
        stage = last.model_copy(update={"steps": steps, "minutes": None, **row.changes})
        changes = {
            "stages": (stage,),
            "out": config.out / row.name.replace(" ", "-"),
            "networks": config.networks.model_copy(update={"init": weights, "restart": FRESH}),
        }
        try:
            if stage.entities == "classifier":
                classifier.load()
        except ConfigError as error:
            table.append({"row": row.name, "skipped": str(error)})
            continue
        one = config.model_copy(update=changes)
        _train(one)
        figures = {"steps": steps, "step_s": _step_seconds(one.out), **_evaluate(one, stage, seed, clips)}
        table.append({"row": row.name, **figures})
    return table


def _train(config: Config) -> Path:
    """Run to the end, or go on with what is there: the folder of its weights."""
    run = Run(config, resume=(config.out / "checkpoint.pt").exists())
    run.train()
    return config.out / "weights"


def _step_seconds(folder: Path) -> float:
    """How long a step took, on average over what a run has logged."""
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return float(last["seconds"] / last["step"])


def _evaluate(config: Config, stage: VideoStage, seed: int, clips: int) -> dict[str, Any]:
    pipeline = load_row(config, stage)
    figures = evaluate(pipeline, seed, clips, stage.frames, config.samples.steps)
    return {key: figures[key] for key in FIGURES}


def load_row(config: Config, stage: VideoStage) -> DragAnythingPipeline:
    """The trained pipeline of a row, which sees of the entities what it saw in training."""
    run = Run(config, resume=True)
    pipeline = networks.pipeline_of(run.parts, {}, run.device)
    width, height = config.data.sizes[0] if config.data.kind == "synthetic" else config.data.size
    defaults = replace(pipeline.card.defaults, width=width, height=height, num_frames=stage.frames)
    pipeline.card = replace(pipeline.card, defaults=defaults)
    pipeline.entity_encoder = entity_encoder(stage, pipeline.entity_encoder)
    limit_control(pipeline, stage.control)
    return pipeline


def lines(table: list[dict[str, Any]]) -> list[str]:
    """The table as text."""
    heads = ("ObjMC", "median", "in 5 px", "template", "drift", "s a step")
    still = [_line("still video", row, "frozen") for row in table if "objmc" in row][:1]
    return [f"{'row':<28}{''.join(f'{head:>10}' for head in heads)}", *still, *(_row(row) for row in table)]


def _row(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"{row['row']:<28}  skipped: {row['skipped']}"
    found = (row["anchor_drift"]["mean"], row["step_s"])
    return _line(row["row"], row, "control") + "".join(_number(value, 10) for value in found)


def _line(name: str, row: dict[str, Any], variant: str) -> str:
    blob, exact = row["objmc"][variant], row["objmc_template"][variant]
    found = (blob["mean"], blob["median"], blob["within_5px"], exact["mean"])
    return f"{name:<28}{''.join(_number(value, 10) for value in found)}"


def _number(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.2f'):>{width}}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Exit status 2: the config or the folder is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.ablation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=1000, help="of training, each row")
    parser.add_argument("--clips", type=int, default=48, help="to evaluate each row on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="a folder that training exported: its VAE and entity encoder")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], metavar="ROW")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    options = parser.parse_args(arguments)
    rows = tuple(row for row in ROWS if options.rows is None or row.name in options.rows)
    try:
        config = load(options.config, {} if options.out is None else {"out": str(options.out)})
        table = ablate(
            config, rows, steps=options.steps, clips=options.clips, seed=options.seed, weights=options.weights
        )
    except (ConfigError, CheckpointError, TrainingError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(table) if options.json else "\n".join(lines(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
