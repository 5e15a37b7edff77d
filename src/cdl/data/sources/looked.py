"""What the last run in this clone saw of a dataset's sources, so that a file that is as it was is not read again.

    .cdl/looked/articles.bin      sealed: names of test items stand in it

It counts for the version that this run made alone, and while what an item is, and what makes items equal, are declared as they
were. A file is as it was where size, times and inode are. One that was changed so shortly before it was seen that a later change
might have left the same times is kept without them, and so is read again.
"""

import time
from array import array
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from cdl import document
from cdl.data.sources.files import NOTHING
from cdl.data.sources.walk import Sight
from cdl.errors import Corrupt, Unavailable
from cdl.registry.records import Dataset
from cdl.store import whole
from cdl.store.seal import Vault
from cdl.workflow.workspace import Workspace

TICK = 50_000_000  # nanoseconds within which two changes may bear one time
COARSE_TICK = 2_000_000_000  # the same where a file system counts whole seconds


class Noted(NamedTuple):
    """A source as it was seen: its number, a digest of how it is declared, the files, and what the server of an address told."""

    number: int
    key: str
    sight: Sight
    told: Mapping[str, str] = NOTHING


class _Source(msgspec.Struct, frozen=True):
    """The same, with the numbers of the files (walk.py)."""

    number: int
    key: str
    names: list[str]
    numbers: bytes
    told: Mapping[str, str] = {}


class _File(msgspec.Struct, frozen=True):
    """What stands on disk."""

    made: str
    section: str
    sources: list[_Source]


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """Sources as they were seen, in the order of cdl.yaml; `section` tells what else it depends on."""

    section: str
    sources: Sequence[Noted] = ()

    def changed(self, number: int, key: str, seen: Sight) -> set[str] | None:
        """The names of those files of a source that are not as they were; None where nothing of it is known."""
        before = self._of(number, key)
        if before is None:
            return None
        numpy = import_module("numpy")
        known = {name: place for place, name in enumerate(before.names)}
        at = numpy.array([known.get(name, -1) for name in seen.names], dtype="<i8")
        same = at >= 0
        same[same] = (before.table()[at[same]] == seen.table()[same]).all(axis=1)
        return {seen.names[place] for place in (~same).nonzero()[0].tolist()}

    def whole(self, number: int, key: str, seen: Sight) -> bool:
        """Whether a source holds exactly the files that it held, and each is as it was."""
        return self._of(number, key) == seen

    def _of(self, number: int, key: str) -> Sight | None:
        return next((each.sight for each in self.sources if each[:2] == (number, key)), None)


def digest(content: Any) -> str:
    """A digest of what is declared."""
    return blake3(document.canonical(content)).hexdigest()


def made(record: Dataset) -> str:
    """What a version is told by here: everything that was made of the sources alone."""
    first = record.steps[0]
    raw = [source.raw for source in record.sources]
    aside = record.split.set_aside.get("tree")
    return digest([record.split.ledger, raw, first.train, first.test, aside, record.data_key])


def read(workspace: Workspace, vault: Vault, name: str, parent: Dataset | None) -> Looked | None:
    """What was seen when a version was made here; None where another run made it, or it was sealed with another key."""
    place = _place(workspace, name)
    if parent is None or parent.data_key != vault.name or not place.exists():
        return None
    try:
        found = msgspec.msgpack.decode(vault.unsealed(place.read_bytes(), where=str(place)), type=_File)
    except (Corrupt, Unavailable, msgspec.DecodeError, msgspec.ValidationError):
        return None  # it is only for speed: everything is read again
    if found.made != made(parent):
        return None
    sources = [Noted(s.number, s.key, Sight(s.names, array("q", s.numbers)), s.told) for s in found.sources]
    return Looked(section=found.section, sources=sources)


def write(workspace: Workspace, vault: Vault, record: Dataset, looked: Looked, began: int) -> None:
    """Keeps what was seen for a version. `began` is when the first file was looked at (nanoseconds since 1970)."""
    sources = [_Source(s.number, s.key, *_settled(s.sight, began), dict(s.told)) for s in looked.sources]
    content = msgspec.msgpack.encode(_File(made(record), looked.section, sources))
    place = _place(workspace, record.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    whole.write(place, vault.sealed(content), mode=0o600)


def now() -> int:
    """The time, in nanoseconds since 1970."""
    return time.time_ns()


def _settled(sight: Sight, began: int) -> tuple[list[str], bytes]:
    """The names of the files and their numbers, which no file has where a later change can have left it looking so."""
    numbers = sight.table().copy()
    ticks = import_module("numpy").where(numbers[:, 1] % 1_000_000_000 == 0, COARSE_TICK, TICK)
    sure = numbers[:, 1:3].max(axis=1, initial=0) + ticks < began
    numbers[~sure] = -1
    return sight.names, numbers.tobytes()


def _place(workspace: Workspace, name: str) -> Path:
    git = workspace.git
    linked = "" if git.git_dir == git.common_dir else f"-{git.git_dir.name}"  # a work tree has sources of its own
    return workspace.folder / "looked" / f"{name}{linked}.bin"
