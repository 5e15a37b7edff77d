"""The scoring log: what was asked and answered. On a request's path it is an append in memory; whole files are written aside.

<out>/scoring/<nanoseconds>-<pid>-<n>.batch      {"format": "cdl-scoring-1", "columns": {"id": [...], "input": [...], ...}}
<out>/feedback/...                               later truths: id, at, truth
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

FORMAT = "cdl-scoring-1"
ROWS = 500  # a file is written when so many are waiting
SECONDS = 2.0  # promised: a row is in a file after so long
EARLIER_SECONDS = 1.0  # so a file is begun by then
LARGEST_WAITING = 100_000  # rows kept while nothing can be written, the newest
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
        self._try()

    def flush(self) -> None:
        """Writes waiting rows as one whole file; where that fails they go on waiting."""
        count = len(self._rows)
        rows = self._rows[:count]  # others may be added meanwhile
        if not rows:
            return
        self._number += 1
        columns = {name: [row[i] for row in rows] for i, name in enumerate(self.columns)}
        path = self.folder / f"{time.time_ns()}-{os.getpid()}-{self._number}.batch"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.msgpack.encode({"format": FORMAT, "model": self.model, "columns": columns}))
        temporary.replace(path)
        del self._rows[:count]

    def _run(self) -> None:
        since: float | None = None  # the oldest waiting row was not here earlier
        while not self._end.wait(0.1):
            now = time.monotonic()
            since = (since or now) if self._rows else None
            if since is None or (len(self._rows) < ROWS and now - since < EARLIER_SECONDS):
                continue
            since = None
            if not self._try():
                self._end.wait(EARLIER_SECONDS)

    def _try(self) -> bool:
        """Writes what waits; says so where it cannot."""
        try:
            self.flush()
        except OSError as error:
            dropped = max(0, len(self._rows) - LARGEST_WAITING)
            del self._rows[:dropped]
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{self.folder.name}: {error}; {len(self._rows)} rows wait, {dropped} are lost\n")
            return False
        return True


def read(data: bytes) -> tuple[str, Mapping[str, list[Any]]]:
    """The model that answered, and the columns of a file. ValueError when it is none."""
    found = msgspec.msgpack.decode(data)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("columns"), dict):
        raise ValueError("not a scoring file")
    columns: dict[str, list[Any]] = found["columns"]
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("columns of unequal length")
    return str(found.get("model")), columns
