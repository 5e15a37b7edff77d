"""The handles of one clone that sharing works with."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from cdl.git.repository import Git
from cdl.journal.journal import Journal
from cdl.registry.registry import Registry
from cdl.store.store import Store

SAY_SECONDS = 1.0  # between two lines of progress


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` is `.cdl`; `project` the name in cdl.yaml; `tell` takes progress lines."""

    project: str
    folder: Path
    git: Git
    store: Store
    journal: Journal
    registry: Registry
    tell: Callable[[str], None]


class Progress:
    """Counts what was moved and says so about once a second. One thread calls."""

    def __init__(self, tell: Callable[[str], None], what: str, total: int) -> None:
        self._tell = tell
        self._what = what
        self._total = total
        self._said = time.monotonic()
        self.count = self.bytes = 0

    def add(self, size: int) -> None:
        """One more, of so many bytes."""
        self.count += 1
        self.bytes += size
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            self._tell(f"{self._what} {self.count:,} of {self._total:,} objects, {self.bytes / 1e6:,.1f} MB")
