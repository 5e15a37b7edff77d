"""What refs point to, read once and again only when one of them moved.

Whoever moves a ref, git or this product, renames a file into one of the folders below `refs/`, or rewrites `packed-refs` or a
table of `reftable/`. The times of these few folders and files therefore tell whether what was read still stands. A file
system's clock ticks every few milliseconds: what changed just now is not remembered, since a second change within one tick
would not show.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

TICK_SECONDS = 0.05  # much longer than the tick of any file system's clock
KEPT = ("refs/heads/", "refs/cdl/")
Times = tuple[int, ...]


class Refs:
    """The branches and own refs of a repository; `common` is the folder that all work trees share, `ask` reads them all."""

    def __init__(self, common: Path, ask: Callable[[], Mapping[str, str]]) -> None:
        self._common = common
        self._ask = ask
        self._places: list[Path] = []
        self._times: Times | None = None
        self._refs: Mapping[str, str] = {}

    def now(self) -> Mapping[str, str]:
        """Ref -> what it names, as it stands now."""
        if self._times is None or self._look() != self._times:
            self._places = self._find()  # a new folder shows in the time of the one around it
            before = self._look()
            self._refs = self._ask()
            settled = time.time_ns() - max(before) > TICK_SECONDS * 1e9
            self._times = before if settled and before == self._look() else None
        return self._refs

    def _find(self) -> list[Path]:
        """The folders and files whose times change when a ref moves."""
        found = [self._common / name for name in ("packed-refs", "reftable/tables.list", "refs")]
        for prefix in KEPT:
            found.append(self._common / prefix)
            found += [Path(folder) for folder, _, _ in os.walk(self._common / prefix)]
        return found

    def _look(self) -> Times:
        return tuple(_time(place) for place in self._places)


def _time(path: Path) -> int:
    """When a file or folder changed, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
