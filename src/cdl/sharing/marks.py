"""What gc removes from the shared place: marked first, removed a day later, by lists that are created once and never changed.

    marks/9f0c...         {"objects": ["3f2a..."]}      these may go; ended when they were swept or are needed again
    swept/41d7...         {"objects": ["3f2a..."]}      these go now; written before the first of them goes
    swept/41d7....done                                   none of them goes any more

Whoever sends takes marked and swept objects for absent and sends them again, which makes them younger than the mark: such a one
does not go. Before a segment is sent the lists are looked at once more. While a list is being worked off, whoever needs one of
its objects waits.
"""

from pathlib import Path

import msgspec

from cdl.errors import Conflict, Corrupt
from cdl.store.remote import Remote
from cdl.store.store import NAME

MARKS, SWEPT, DONE = "marks/", "swept/", ".done"
CLOCK = "clock/now"
KEPT = "lists"  # below `.cdl`: lists that were read, since they never change
DEAD_SECONDS = 3600.0  # after which a sweep that did not end counts as killed


class Names(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Objects of one list."""

    objects: list[str]


class Lists(msgspec.Struct, kw_only=True):
    """What the lists of a remote say.

    `marks` are their names with when each was written; `marked` objects with when they were marked last; `going` those of
    sweeps that did not end, with when these began.
    """

    marks: dict[str, float] = msgspec.field(default_factory=dict)
    marked: dict[str, float] = msgspec.field(default_factory=dict)
    swept: set[str] = msgspec.field(default_factory=set)
    going: dict[str, float] = msgspec.field(default_factory=dict)
    open_sweeps: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def absent(self) -> set[str]:
        """What a sender takes for absent."""
        return self.marked.keys() | self.swept


def read(remote: Remote, folder: Path) -> Lists:
    """The lists as they are now; `folder` is `.cdl`. Corrupt names one that is none."""
    found = Lists()
    for held in remote.held(MARKS):
        found.marks[held.name] = held.written
        for name in _objects(remote, folder, held.name):
            found.marked[name] = max(held.written, found.marked.get(name, 0.0))
    lists = {held.name: held.written for held in remote.held(SWEPT)}
    for name, written in lists.items():
        if name.endswith(DONE):
            continue
        objects = _objects(remote, folder, name)
        found.swept.update(objects)
        if name + DONE not in lists:
            found.open_sweeps[name] = written
            found.going |= dict.fromkeys(objects, written)
    return found


def write(remote: Remote, name: str, objects: set[str]) -> None:
    """Writes a list, once."""
    remote.create(name, msgspec.json.encode(Names(objects=sorted(objects))))


def clock(remote: Remote) -> float:
    """The time by the remote's clock."""
    remote.put(CLOCK, b"")
    return max(held.written for held in remote.held(CLOCK.rpartition("/")[0] + "/"))


def wait_for(remote: Remote, lists: Lists, needed: set[str]) -> None:
    """Conflict while somebody may be removing an object that is needed."""
    since = [lists.going[name] for name in needed & lists.going.keys()]
    if since and clock(remote) - max(since) < DEAD_SECONDS:
        raise Conflict(
            "somebody is removing objects that this sync needs (cdl gc --shared)",
            where=remote.place,
            remedy="the command again in a minute; one that was killed is over an hour later",
        )


def _objects(remote: Remote, folder: Path, name: str) -> list[str]:
    """The objects of a list, from what was kept of it where it was read before."""
    kept = folder / KEPT / name
    data = kept.read_bytes() if kept.is_file() else remote.get(name)
    if data is None:
        return []  # another gc ended it meanwhile
    try:
        found = msgspec.json.decode(data, type=Names).objects
        if not all(NAME.fullmatch(o) for o in found):
            raise ValueError("other names")
    except (msgspec.DecodeError, ValueError) as error:
        raise Corrupt("not a list of objects", where=f"{remote.place}/{name}", remedy="remove it there") from error
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_name(f".{kept.name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(kept)
    return found
