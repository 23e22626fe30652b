"""Train: `python -m training.train CONFIG.yaml [--resume | --anneal STEPS] [--out DIR] [--max-minutes N]`.

Several GPUs: `accelerate launch -m training.train CONFIG.yaml`. SIGINT and SIGTERM end a run after its current
step, with a checkpoint. Exit status: 0 the run is complete, 3 it stopped early (`--resume` continues it), 2 the
config, the data or the folder is at fault, 1 anything else.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from training.config import ConfigError, load

if TYPE_CHECKING:
    from training.loop import Run

INCOMPLETE = 3


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint of the output folder")
    parser.add_argument("--out", type=Path, help="output folder, instead of the config's")
    parser.add_argument("--anneal", type=int, metavar="N", help="fall to rate 0 in N steps, beside the run")
    parser.add_argument("--max-minutes", type=float, help="stop with a checkpoint after so long")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in stages.0.steps=10")
    options = parser.parse_args(arguments)

    from model.hub import WeightsError
    from training.checkpoint import CheckpointError
    from training.data.folders import BrokenVideo
    from training.loop import Run, TrainingError

    try:
        changes = _changes(options.set) | ({} if options.out is None else {"out": str(options.out)})
        run = Run(load(options.config, changes), resume=options.resume or options.anneal is not None)
        print(run.source.summary(), file=sys.stderr)
        with _interruptible(run):
            complete = run.train(options.max_minutes) if options.anneal is None else run.anneal(options.anneal)
        print(run.source.summary(), file=sys.stderr)
    except (ConfigError, CheckpointError, TrainingError, WeightsError, BrokenVideo) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not complete:
        print("stopped before the end; --resume continues", file=sys.stderr)
    return 0 if complete else INCOMPLETE


def _changes(texts: list[str]) -> dict[str, Any]:
    changes = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set wants KEY=VALUE, not {text}")
        changes[key] = yaml.safe_load(value)
    return changes


@contextmanager
def _interruptible(run: "Run") -> Iterator[None]:
    def stop(_number: int, _frame: Any) -> None:
        run.stopping = True

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
