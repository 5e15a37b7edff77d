"""How far a training has come, noted after each epoch so that a killed one goes on where it stood.

<folder>/epoch-3.json      {"epoch": 3, "checkpoint": "<object>", "reports": [{"epoch": 1, "validation.accuracy": 0.9}, ...]}
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from cdl.errors import JobFailed, NotFound
from cdl.store.store import Store


class Progress:
    """The last checkpoint and the reports of a training. With `fresh` nothing earlier is looked at and nothing is noted."""

    def __init__(self, folder: Path, store: Store, until: int, *, fresh: bool) -> None:
        self.folder = folder
        self.store = store
        self.fresh = fresh
        self.start: bytes | None = None
        self.checkpoint: str | None = None
        self.reports: list[Mapping[str, float]] = []
        if not fresh:
            self._go_on(until)

    @property
    def metrics(self) -> dict[str, float]:
        """Each measure as it was last reported."""
        found: dict[str, float] = {}
        for report in self.reports:
            found |= {k: v for k, v in report.items() if k != "epoch"}
        return found

    def report(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Keeps a report. JobFailed when a measure is not a finite number."""
        bad = [k for k, v in numbers.items() if not isinstance(v, int | float) or not math.isfinite(v)]
        if bad:
            raise JobFailed(f"{bad[0]} is {numbers[bad[0]]} in epoch {int(numbers.get('epoch', 0))}")
        self.reports.append(dict(numbers))
        return numbers

    def save(self, epoch: int, data: bytes) -> None:
        """Stores a checkpoint and notes it."""
        self.checkpoint = self.store.put(data)
        if self.fresh:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        note = {"epoch": epoch, "checkpoint": self.checkpoint, "reports": self.reports}
        temporary = self.folder / f"epoch-{epoch}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(note))
        temporary.replace(self.folder / f"epoch-{epoch}.json")

    def _go_on(self, until: int) -> None:
        """Takes up the last noted epoch that is not beyond `until`."""
        notes = {int(p.stem.removeprefix("epoch-")): p for p in self.folder.glob("epoch-*.json")}
        reached = [e for e in notes if e <= until]
        if not reached:
            return
        note = json.loads(notes[max(reached)].read_text())
        try:
            self.start = self.store.get(note["checkpoint"])
        except NotFound:
            return
        self.store.put(self.start)  # nothing may have named it yet: it stays until this training does
        self.checkpoint, self.reports = note["checkpoint"], note["reports"]
