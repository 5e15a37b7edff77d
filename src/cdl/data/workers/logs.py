"""Which logs the workers of a dataset's last run left: a line each in `.cdl/logs/<dataset>`, of this clone alone."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

FOLDER = "logs"  # below `.cdl`


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One worker: the step it was at, the object that its log is, seconds, and what ended it before its time."""

    step: str
    log: str
    seconds: float | None = None
    failed: str | None = None


def begin(folder: Path, dataset: str) -> None:
    """Forgets the run before. `folder` is `.cdl`."""
    _place(folder, dataset).unlink(missing_ok=True)


def note(folder: Path, dataset: str, line: Line) -> None:
    """Adds a worker's log. Any thread may call."""
    place = _place(folder, dataset)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab", buffering=0) as file:
        file.write(msgspec.json.encode(line) + b"\n")


def last(folder: Path, dataset: str) -> Iterator[Line]:
    """Those of the last run."""
    place = _place(folder, dataset)
    for line in place.read_bytes().splitlines() if place.exists() else ():
        yield msgspec.json.decode(line, type=Line)


def _place(folder: Path, dataset: str) -> Path:
    return folder / FOLDER / dataset
