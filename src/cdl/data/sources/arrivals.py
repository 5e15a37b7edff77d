"""Which files of a watched source are new since the last version, and may be taken: not those that are still being written.

A file stands still that was last written STILL_SECONDS ago, by its own time, or that looked the same for so long here. So one
that was renamed into place is taken at once, and one on a disk whose clock runs ahead is taken too. A new file that is being
written is left out, and comes with the next version. One that a version holds already cannot be left out: the version waits.
"""

import time
from array import array
from collections.abc import Mapping
from importlib import import_module

import msgspec

from cdl.data.sources import looked
from cdl.data.sources.fetch import watchable
from cdl.data.sources.seen import held_sizes
from cdl.data.sources.walk import NUMBERS, Seen, Sight
from cdl.errors import Conflict
from cdl.registry.records import Dataset, DatasetHead
from cdl.workflow.workspace import Workspace

STILL_SECONDS = 2.0


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a source found: the files that may be taken, how many of these are new, changed or gone, how many are still
    being written, and one of these that the last version holds."""

    still: Sight
    count: int = 0
    writing: int = 0
    blocked: str | None = None


class _Source(msgspec.Struct):
    """What the last version took of a source, and the files that do not stand still: as they look, and since when."""

    taken: Sight
    moving: dict[str, tuple[Seen, float]] = msgspec.field(default_factory=dict)
    places: dict[str, int] | None = None  # of what was taken

    def place_of(self) -> Mapping[str, int]:
        if self.places is None:
            self.places = {name: place for place, name in enumerate(self.taken.names)}
        return self.places


class Arrivals:
    """The sources of a dataset by what cdl.yaml calls them. One thread uses it."""

    def __init__(self, taken: Mapping[str, Sight]) -> None:
        self._sources = {shown: _Source(sight) for shown, sight in taken.items()}
        self._taking: dict[str, Sight] = {}

    def look(self, shown: str, sight: Sight) -> News:
        """What is new in a source."""
        source = self._sources.setdefault(shown, _Source(_none()))
        if sight == source.taken:
            source.moving = {}
            return News(still=sight)
        numpy = import_module("numpy")
        at = numpy.array([source.place_of().get(name, -1) for name in sight.names], dtype="<i8")
        known = at >= 0
        same = known.copy()
        same[known] = (source.taken.table()[at[known]] == sight.table()[known]).all(axis=1)
        other = (~same).nonzero()[0].tolist()
        moving = self._moving(source, [sight[place] for place in other])
        blocked = next((sight.names[p] for p in other if known[p] and sight.names[p] in moving), None)
        left = numpy.array([p for p in other if sight.names[p] in moving], dtype="<i8")
        still = sight.only(numpy.delete(numpy.arange(len(sight)), left)) if len(left) else sight
        gone = len(source.taken) - int(known.sum())
        return News(still=still, count=len(other) - len(left) + gone, writing=len(left), blocked=blocked)

    def take(self, shown: str, sight: Sight) -> Sight:
        """The files of a source that a version takes. Conflict where one is being written that the last version holds."""
        found = self.look(shown, sight)
        if found.blocked is not None:
            raise Conflict(
                "it is being written", where=f"{shown}: {found.blocked}", remedy="it is taken once it is whole"
            )
        self._taking[shown] = found.still
        return found.still

    def took(self) -> None:
        """Notes that a version holds what was to be taken."""
        self._sources |= {shown: _Source(sight) for shown, sight in self._taking.items()}
        self._taking = {}

    def _moving(self, source: _Source, files: list[Seen]) -> dict[str, tuple[Seen, float]]:
        """Those of some files that do not stand still."""
        now, wall = time.monotonic(), time.time()
        found = {}
        for seen in files:
            before = source.moving.get(seen.name)
            since = before[1] if before is not None and before[0] == seen else now
            if not (now - since >= STILL_SECONDS or wall - seen.changed / 1e9 >= STILL_SECONDS):
                found[seen.name] = (seen, since)
        source.moving = found
        return found


def arrivals(workspace: Workspace, name: str) -> Arrivals:
    """What is new since the version that the work tree names. Takes the key."""
    config, head = workspace.config.data[name], workspace.registry.head(DatasetHead, name)
    vault = workspace.vault(name, by="data")
    record = workspace.registry.record(Dataset, head.version) if head is not None else None
    noted = looked.read(workspace, vault, name, record)
    taken = {}
    for place, source in enumerate(config.sources()):
        shown = watchable(source)
        if shown is None:
            continue
        alone = source.path is not None and (workspace.root / shown).is_file()
        if noted is not None and len(noted.sources) == len(config.sources()):
            taken[shown] = noted.sources[place][2]
        elif alone:
            taken[shown] = _unseen([(workspace.root / shown).name])
        else:
            taken[shown] = _unseen([*held_sizes(vault, record, shown)] if record is not None else [])
    return Arrivals(taken)


def _none() -> Sight:
    return Sight([], array("q"))


def _unseen(names: list[str]) -> Sight:
    """Files of which only the names are known."""
    return Sight(names, array("q", [-1] * (NUMBERS * len(names))))
