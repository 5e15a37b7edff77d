"""The scoring log: what was asked and answered. On a request's path it is an append in memory; whole files are written aside.

<out>/scoring/<nanoseconds>-<pid>-<n>.batch      {"format": "cdl-scoring-1", "columns": {"id": [...], "input": [...], ...}}
<out>/feedback/...                               later truths: id, at, truth
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

FORMAT = "cdl-scoring-1"
ROWS = 500  # a file is written when so many are waiting
SECONDS = 2.0  # or after so long
SCORING = ("id", "at", "input", "category", "confidence", "probabilities", "seconds", "error")
FEEDBACK = ("id", "at", "truth")


class Log:
    """Rows of one kind, as tuples in the order of `columns`."""

    def __init__(self, folder: Path, columns: Sequence[str], *, model: str) -> None:
        self.folder = folder
        self.model = model
        self.columns = tuple(columns)
        self._rows: list[tuple[Any, ...]] = []
        self._number = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="scoring")
        folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def add(self, *row: Any) -> None:
        """Keeps a row."""
        self._rows.append(row)

    def close(self) -> None:
        """Writes what is left."""
        self._end.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Writes waiting rows as one whole file."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        self._number += 1
        columns = {name: [row[i] for row in rows] for i, name in enumerate(self.columns)}
        path = self.folder / f"{time.time_ns()}-{os.getpid()}-{self._number}.batch"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.msgpack.encode({"format": FORMAT, "model": self.model, "columns": columns}))
        temporary.replace(path)

    def _run(self) -> None:
        waited = 0.0
        while not self._end.wait(0.1):
            waited += 0.1
            if len(self._rows) >= ROWS or (self._rows and waited >= SECONDS):
                self.flush()
                waited = 0.0


def read(data: bytes) -> tuple[str, Mapping[str, list[Any]]]:
    """The model that answered, and the columns of a file. ValueError when it is none."""
    found = msgspec.msgpack.decode(data)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("columns"), dict):
        raise ValueError("not a scoring file")
    columns: dict[str, list[Any]] = found["columns"]
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("columns of unequal length")
    return str(found.get("model")), columns
