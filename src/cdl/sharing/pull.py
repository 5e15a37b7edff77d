"""Pull: the segments that other clones sent since, and what came with them.

A segment is taken only with its parcel (parcel.py) and all that this names, so nothing half-sent is ever seen. What is here
already is not fetched again: a pull that broke off goes on.
"""

import json
from collections.abc import Mapping, Sequence

import msgspec

from cdl.errors import Corrupt
from cdl.journal import stream
from cdl.sharing import parcel
from cdl.sharing.clone import Clone, Progress
from cdl.sharing.parcel import JOBS, WORK, Parcel
from cdl.sharing.place import Moved, gone, object_name, together
from cdl.sharing.signed import genuine
from cdl.store import reach
from cdl.store.remote import Remote
from cdl.store.store import digest

ABSENT = "is not there"


class _Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A segment of another clone that is not here yet, with its parcel."""

    stream: str
    segment: int
    data: bytes
    parcel: Parcel
    packed: bytes


def pull(clone: Clone, remote: Remote) -> Moved:
    """Fetches the segments that other clones sent since, and what came with them."""
    moved = Moved()
    own = stream.own_stream(clone.folder)
    names = [n for n in remote.folders("journal/") if stream.STREAM.fullmatch(n) and n != own]
    offered = [o for some in together(names, lambda n: _offered(clone, remote, n, moved)) for o in some]
    wanted = {n for o in offered for n in o.parcel.objects if not clone.store.has(n) and not clone.store.erased(n)}
    lost = _fetch(clone, remote, sorted(wanted), moved)
    if lost:
        lost = _excused(clone, remote, lost, moved)
    stopped: set[str] = set()
    for found in offered:
        if found.stream in stopped or lost.keys() & set(found.parcel.objects):
            stopped.add(found.stream)  # what follows may build on it
            continue
        _claim(clone, remote, found.parcel, moved)
        parcel.keep(clone.folder, found.stream, found.segment, found.packed)
        stream.place(clone.folder, found.stream, found.segment, found.data)
        moved.segments += 1
    return moved


def refill(clone: Clone, remote: Remote) -> Moved:
    """Fetches whatever any parcel names and this clone lost, or never kept: objects and claims."""
    moved = Moved()
    parcels = []
    names = [held.name for held in remote.held("shared/")]
    for name, data in zip(names, together(names, remote.get), strict=True):
        try:
            parcels.append(parcel.decode(data or b"", name))
        except Corrupt as error:
            moved.faults.append(f"{remote.place}: {error}")
    every = {name for found in parcels for name in found.objects}
    wanted = sorted(n for n in every if not clone.store.has(n) and not clone.store.erased(n))
    lost = _fetch(clone, remote, wanted, moved)
    if lost:
        _excused(clone, remote, lost, moved)
    for found in parcels:
        _claim(clone, remote, found, moved)
    return moved


def _claim(clone: Clone, remote: Remote, found: Parcel, moved: Moved) -> None:
    """Takes over what a parcel says was claimed: of jobs and steps where the outputs are here, of tombstones the signed ones."""
    for claim, payload in found.claims.items():
        if not genuine(clone, claim, payload):
            moved.faults.append(f"{remote.place}: {claim[:24]}: no key of its dataset signed this tombstone")
        elif not claim.startswith((JOBS, WORK)) or _whole(clone, payload):
            clone.store.claim(claim, payload)


def _offered(clone: Clone, remote: Remote, name: str, moved: Moved) -> list[_Offered]:
    """The segments of a stream that follow what is here. One that does not follow ends them, and is a fault."""
    here = stream.segments(clone.folder, name)
    number = here[-1] if here else stream.FIRST - 1
    before = stream.segment_path(clone.folder, name, number).read_bytes() if here else None
    found: list[_Offered] = []
    while True:
        number += 1
        data, packed = remote.get(f"journal/{name}/{stream.name(number)}"), None
        if data is not None:
            packed = remote.get(parcel.remote_name(name, number))
        if data is None or packed is None:
            return found
        try:
            stream.check(data, name, number, before)
            found.append(
                _Offered(
                    stream=name,
                    segment=number,
                    data=data,
                    parcel=parcel.decode(packed, f"{name}/{number}"),
                    packed=packed,
                )
            )
        except Corrupt as error:
            moved.faults.append(f"{remote.place}: {error}")
            return found
        before = data


def _excused(clone: Clone, remote: Remote, lost: Mapping[str, str], moved: Moved) -> dict[str, str]:
    """Of the objects that were not got, those that were not removed on purpose. They are faults."""
    removed = gone(clone, remote)
    left = {name: what for name, what in lost.items() if what != ABSENT or name not in removed}
    moved.faults += [f"{remote.place}: object {name[:12]} {what}" for name, what in left.items()]
    return left


def _whole(clone: Clone, claim: bytes) -> bool:
    """Whether the outputs that a job's claim names are here."""
    try:
        outputs = json.dumps(json.loads(claim)["outputs"]).encode()
    except (ValueError, KeyError, TypeError):
        return False
    return all(clone.store.has(name) for name in reach.names(outputs))


def _fetch(clone: Clone, remote: Remote, names: Sequence[str], moved: Moved) -> dict[str, str]:
    """Fetches objects; those that are not there, or are not what their name says, with which of the two."""
    progress = Progress(clone.tell, "fetched", len(names))
    lost = {}

    def get(name: str) -> tuple[str, int | None]:
        data = remote.get(object_name(name))
        if data is None or digest(data) != name:
            return (ABSENT if data is None else "is not what its name says"), None
        clone.store.put(data)
        return "", len(data)

    for name, (what, size) in zip(names, together(names, get), strict=True):
        if size is None:
            lost[name] = what
            continue
        progress.add(size)
    moved.objects += progress.count
    moved.bytes += progress.bytes
    return lost
