"""Parity: does this implementation compute what a directory of golden tensors records?

`python -m evaluation.parity DIR` checks whatever DIR holds of `conditions/`, `edge/`, `modules/` and `cases/`,
prints a line per tensor and a last line with the counts. Exit status: 0 all passed, 1 something failed,
2 nothing to check. A file that is missing or broken is a failed check, never a crash.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SECTIONS = ("conditions", "edge", "modules", "cases")

EXACT = 0.0  # the control signal: every byte
CALL_TOLERANCE = 1e-4  # relative error of one call of a network
LOOP_TOLERANCE = 1e-3  # relative error after the denoising loop
FRAME_LEVELS = 1  # grey levels by which a decoded pixel may differ ...
FRAME_SHARE = 0.999  # ... in at least this share of the frames' values

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Check:
    """The verdict on one tensor; an error is None where shapes differ or only a hash is known."""

    name: str
    max_error: float | None
    relative_error: float | None  # L2 norm of the difference over that of the golden tensor
    passed: bool
    note: str = ""


def compare(name: str, found: npt.ArrayLike, golden: npt.ArrayLike, tolerance: float = EXACT) -> Check:
    """Compare two arrays by relative L2 error; tolerance 0 asks for equality. NaN and other shapes fail."""
    got, want = np.asarray(found), np.asarray(golden)
    if got.shape != want.shape:
        return Check(name, None, None, False, f"shape {got.shape} instead of {want.shape}")
    difference = got.astype(np.float64) - want.astype(np.float64)
    largest = float(np.abs(difference).max(initial=0.0))
    distance, norm = float(np.linalg.norm(difference)), float(np.linalg.norm(want.astype(np.float64)))
    relative = distance / norm if norm else distance
    return Check(name, _finite(largest), _finite(relative), relative <= tolerance)


def compare_frames(name: str, found: Array, golden: Array) -> Check:
    """Compare uint8 frames: within `FRAME_LEVELS` in at least `FRAME_SHARE` of their values."""
    check = compare(name, found, golden, tolerance=float("inf"))
    if not check.passed:
        return check
    close = np.abs(found.astype(np.int16) - golden.astype(np.int16)) <= FRAME_LEVELS
    share = float(close.mean())
    note = f"{share:.4%} within {FRAME_LEVELS} level"
    return Check(name, check.max_error, check.relative_error, share >= FRAME_SHARE, note)


def read_json(path: Path) -> Any:
    """Parse a JSON file; ValueError names the file if it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all arrays of an npz file; ValueError names the file if it is broken."""
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and numpy raise half a dozen unrelated types
        raise ValueError(f"{path} is not a readable npz file: {error}") from error


def guard(name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Pass checks on; an exception among them becomes a last, failed check called `name`."""
    try:
        yield from checks
    except KeyError as error:
        yield Check(name, None, None, False, f"no entry {error}")
    except Exception as error:  # noqa: BLE001
        yield Check(name, None, None, False, f"{type(error).__name__}: {error}")


def check(root: Path, only: Iterable[str] = SECTIONS) -> Iterator[Check]:
    """Check the sections of a directory that are there, one after the other."""
    for section in only:
        if (root / section).is_dir():
            yield from guard(section, _check_section(root, section))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.parity", description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--only", help=f"sections to check, separated by commas: {','.join(SECTIONS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args(arguments)
    only = options.only.split(",") if options.only else SECTIONS
    if unknown := set(only) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    checks = []
    for made in check(options.directory, only):
        checks.append(made)
        if not options.json:
            print(_line(made), flush=True)
    if not checks:
        print(f"{options.directory} holds nothing to check of {', '.join(only)}", file=sys.stderr)
        return 2
    failed = sum(not made.passed for made in checks)
    if options.json:
        rows = [asdict(made) for made in checks]
        print(json.dumps({"checks": rows, "passed": len(checks) - failed, "failed": failed}, indent=1))
    else:
        print(f"{len(checks) - failed} passed, {failed} failed")
    return int(failed > 0)


def _check_section(root: Path, section: str) -> Iterator[Check]:
    # Imported here: checking the conditions needs no torch.
    from evaluation import parity_conditions

    if section == "conditions":
        yield from parity_conditions.check_conditions(root)
    elif section == "edge":
        yield from parity_conditions.check_edge(root)
    else:
        if section == "cases":
            yield from parity_conditions.check_cases(root)
        from evaluation import parity_networks

        networks = {"modules": parity_networks.check_modules, "cases": parity_networks.check_cases}
        yield from networks[section](root)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _line(made: Check) -> str:
    largest, relative = (
        "-" if error is None else f"{error:.3g}" for error in (made.max_error, made.relative_error)
    )
    verdict = "PASS" if made.passed else "FAIL"
    return f"{verdict} {made.name}  max {largest}  rel {relative}  {made.note}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
