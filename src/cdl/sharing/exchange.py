"""Push and pull between a clone and the shared place: objects, claims, and the journal's closed segments.

A segment is sent after the objects that its events name, and its parcel (parcel.py) after the segment; whoever fetches takes a
segment only with its parcel and all that this names. So nothing half-sent is ever seen, any number of clones send at once, and
what broke off goes on: an object that is there already is not moved again.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from cdl.errors import Conflict, Corrupt
from cdl.journal import stream
from cdl.registry.records import encode
from cdl.sharing import marks, parcel
from cdl.sharing.clone import Clone, Progress
from cdl.sharing.parcel import CLAIMS, Known, Parcel
from cdl.sharing.signed import genuine
from cdl.store import reach
from cdl.store.erased import ERASED
from cdl.store.remote import Remote
from cdl.store.store import digest

THREADS = 16
MARKER = "cdl.json"  # says which remote this is
SENDING = "sending"  # below `.cdl`: the names of objects that a push under way has sent, one a line
FORMAT = 1
JOBS = "jobs/"
ABSENT = "is not there"
T = TypeVar("T")
R = TypeVar("R")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Which remote this is: an id drawn at first use, and whose project it holds."""

    format: int
    id: str
    project: str


@dataclass(kw_only=True)
class Moved:
    """What one direction moved; `faults` are things that are not what they say, each in a line."""

    segments: int = 0
    objects: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)


def marker(remote: Remote, clone: Clone) -> Marker:
    """Which remote this is; marks one that is new. Conflict when it is another project's."""
    found = read_marker(remote, clone)
    if found is None:
        made = Marker(format=FORMAT, id=secrets.token_hex(16), project=clone.project)
        remote.create(MARKER, msgspec.json.encode(made))
        found = read_marker(remote, clone)
    return found or made


def read_marker(remote: Remote, clone: Clone) -> Marker | None:
    """Which remote this is; None for one that is new. Conflict when it is another project's."""
    data = remote.get(MARKER)
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=Marker)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(
            "not a store of this product", where=f"{remote.place}/{MARKER}", remedy="another place"
        ) from error
    if found.project != clone.project:
        raise Conflict(
            f"this store is of project '{found.project}', not '{clone.project}'",
            where=remote.place,
            remedy="a place of its own for each project: store: in cdl.yaml",
        )
    return found


def object_name(name: str) -> str:
    """Where an object lies in a remote."""
    return f"objects/{name[:2]}/{name[2:]}"


# pull


@dataclass(frozen=True, kw_only=True)
class _Offered:
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
    offered = [o for some in _together(names, lambda n: _offered(clone, remote, n, moved)) for o in some]
    wanted = {n for o in offered for n in o.parcel.objects if not clone.store.has(n) and not clone.store.erased(n)}
    lost = _fetch(clone, remote, sorted(wanted), moved)
    if lost:
        lost = _excused(clone, remote, lost, moved)
    stopped: set[str] = set()
    for found in offered:
        if found.stream in stopped or lost.keys() & set(found.parcel.objects):
            stopped.add(found.stream)  # what follows may build on it
            continue
        for claim, payload in found.parcel.claims.items():
            if not genuine(clone, claim, payload):
                moved.faults.append(f"{remote.place}: {claim[:24]}: no key of its dataset signed this tombstone")
            elif not claim.startswith(JOBS) or _whole(clone, payload):
                clone.store.claim(claim, payload)
        parcel.keep(clone.folder, found.stream, found.segment, found.packed)
        stream.place(clone.folder, found.stream, found.segment, found.data)
        moved.segments += 1
    return moved


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
    left = {name: what for name, what in lost.items() if what != ABSENT or name not in gone(clone, remote)}
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

    for name, (what, size) in zip(names, _together(names, get), strict=True):
        if size is None:
            lost[name] = what
            continue
        progress.add(size)
    moved.objects += progress.count
    moved.bytes += progress.bytes
    return lost


def fetch_one(clone: Clone, remote: Remote, name: str) -> bool:
    """Fetches one object, also over broken bytes that are here; whether the remote had it as its name says."""
    data = remote.get(object_name(name))
    if data is None or digest(data) != name:
        return False
    clone.store.remove(name)
    clone.store.put(data)
    return True


def gone(clone: Clone, remote: Remote) -> set[str]:
    """Objects that parcels name and that were removed from a remote on purpose."""
    erased = {claim.removeprefix(ERASED) for claim in clone.store.claims(ERASED)}
    return marks.read(remote, clone.folder).swept | erased


# push


def push(clone: Clone, remote: Remote) -> Moved:
    """Sends this clone's closed segments, and everything they, its claims and its records lead to.

    A clone that finds another's segment in the place of its own takes a new stream, and sends again.
    """
    stream.close(clone.folder)
    moved = Moved()
    own = stream.own_stream(clone.folder)
    now = (stream.segments(clone.folder, own) or [stream.FIRST])[-1]
    if remote.get(f"journal/{own}/{stream.name(now)}") is not None:  # this clone's is not even closed
        _leave(clone, own, now)
        return push(clone, remote)
    pending = [n for n in stream.closed(clone.folder, own) if not parcel.path(clone.folder, own, n).exists()]
    if not pending:
        return moved
    made = _send_all(clone, remote, [stream.segment_path(clone.folder, own, n).read_bytes() for n in pending], moved)
    for number in pending:
        data = stream.segment_path(clone.folder, own, number).read_bytes()
        name = f"journal/{own}/{stream.name(number)}"
        if not remote.create(name, data) and remote.get(name) != data:
            _leave(clone, own, number)
            return push(clone, remote)
        moved.segments += 1
        made = _close(clone, remote, own, number, made)
    _forget_sent(clone)
    return moved


def _leave(clone: Clone, own: str, number: int) -> None:
    """Takes a new stream, for what stands here from a segment on."""
    new = clone.journal.leave(number)
    clone.tell(f"another clone writes {own} too (a copied folder, a restored backup): this one writes {new} now")


def _close(clone: Clone, remote: Remote, own: str, number: int, made: Parcel) -> Parcel:
    """Sends a segment's parcel; where one of an earlier try stands, what it lacks is left for the next segment's."""
    name, packed = parcel.remote_name(own, number), parcel.encode(made)
    left = Parcel()
    if not remote.create(name, packed):
        packed = remote.get(name) or packed
        left = made.beyond(parcel.decode(packed, name))
    parcel.keep(clone.folder, own, number, packed)
    return left


def _send_all(clone: Clone, remote: Remote, segments: Sequence[bytes], moved: Moved) -> Parcel:
    """Sends every object that some segments need and the shared place lacks, or might lack soon: gc marked it.

    The lists of gc are looked at again afterwards, until nothing that is needed was marked meanwhile.
    """
    objects: dict[str, None] = {}
    absent: Set[str] = frozenset()
    made = Parcel()
    while True:
        lists = marks.read(remote, clone.folder)
        new = lists.absent - absent
        if objects and not new:
            return msgspec.structs.replace(made, objects=list(objects))
        known = parcel.known(clone.folder)
        known.objects -= lists.absent
        if lists.absent:
            known.records.clear()  # what one of them leads to may be among these
        made = _gather(clone, segments, known)
        marks.wait_for(remote, lists, set(made.objects))
        _send(clone, remote, [n for n in made.objects if n in new or n not in objects], moved, again=lists.absent)
        objects |= dict.fromkeys(made.objects)
        absent = lists.absent
        if not objects:
            return made


def _gather(clone: Clone, segments: Iterable[bytes], known: Known) -> Parcel:
    """What the shared place lacks: behind segments, claims and records that were not sent."""
    claims = {
        name: clone.store.claimed(name) or b""
        for prefix in CLAIMS
        for name in clone.store.claims(prefix)
        if name not in known.claims
    }
    records = [r for r in clone.registry.everything() if r.id not in known.records]
    written = [encode(r.record)[2] for r in records]
    roots = {name for data in [*segments, *claims.values(), *written] for name in reach.names(data)}
    objects = list(reach.reachable(clone.store, roots, known=known.objects))
    return Parcel(objects=objects, claims=claims, records=sorted(r.id for r in records))


def _send(clone: Clone, remote: Remote, names: Sequence[str], moved: Moved, *, again: Set[str]) -> None:
    """Sends objects; what a broken-off try sent already is not sent again, but for those of `again`."""
    sent = _sent(clone) - again
    left = [name for name in names if name not in sent]
    progress = Progress(clone.tell, "sent", len(left))

    with (clone.folder / SENDING).open("ab", buffering=0) as noted:

        def put(name: str) -> int:
            data = clone.store.view(name)
            remote.put(object_name(name), data)
            noted.write(f"{name}\n".encode())  # at once, whatever becomes of the others
            return len(data)

        for size in _together(left, put):
            progress.add(size)
    moved.objects += progress.count
    moved.bytes += progress.bytes


def _sent(clone: Clone) -> set[str]:
    """What a try that broke off has sent."""
    place = clone.folder / SENDING
    return set(place.read_text().split("\n")[:-1]) if place.exists() else set()


def _forget_sent(clone: Clone) -> None:
    (clone.folder / SENDING).unlink(missing_ok=True)


# both


def follow_place(clone: Clone, remote: Remote) -> None:
    """Notes which remote this clone shares with. With another one than before everything is sent and fetched anew."""
    found = marker(remote, clone)
    place = clone.folder / "remote.json"
    before = json.loads(place.read_text())["id"] if place.exists() else None
    if before == found.id:
        return
    if before is not None:
        clone.tell(f"{remote.place} is another store than before: everything goes there")
    forget(clone)
    clone.folder.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(".tmp")
    temporary.write_text(json.dumps({"id": found.id, "place": remote.place}))
    temporary.replace(place)


def forget(clone: Clone) -> None:
    """Forgets what the shared place holds: the next sync sends what it lacks, and fetches what is lacking here."""
    _forget_sent(clone)
    for found in (clone.folder / parcel.LOCAL).glob("c-*/[0-9]*"):
        found.unlink()


def _together(things: Sequence[T], do: Callable[[T], R]) -> Iterable[R]:
    """Does it for each of some things, several at once; results in order. The first that fails ends it."""
    if len(things) <= 1:
        yield from map(do, things)
        return
    with ThreadPoolExecutor(THREADS) as threads:
        futures = [threads.submit(do, thing) for thing in things]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
