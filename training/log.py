"""Figures of a run: one JSON object per line always, TensorBoard where it is installed."""

import json
from pathlib import Path
from typing import Any, Self


class Log:
    """Appends to log.jsonl; what a killed run logged beyond its checkpoint is dropped."""

    def __init__(self, folder: Path, position: tuple[int, int], *, active: bool = True) -> None:
        """`position` is the stage and step that the run continues from."""
        self.path = folder / "log.jsonl"
        self.active = active
        self.board: Any = _board(folder) if active else None
        if active:
            kept = [r for r in read(self.path) if (r["stage"], r["step"]) <= position]
            self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.board is not None:
            self.board.close()

    def write(
        self, stage: int, kind: str, step: int, figures: dict[str, float], *, clips: int, seconds: float
    ) -> None:
        """One line: figures after a step, with the clips seen and the seconds trained in this stage."""
        if not self.active:
            return
        record = {
            "stage": stage,
            "kind": kind,
            "step": step,
            **figures,
            "clips": clips,
            "seconds": round(seconds, 3),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{stage}-{kind}/{name}", value, step)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
