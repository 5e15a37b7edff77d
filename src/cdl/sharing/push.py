"""Push: this clone's closed segments, after the objects that their events name; the parcel of each (parcel.py) comes last.

Any number of clones send at once. What broke off goes on: an object that was sent already is not sent again.
"""

from collections.abc import Iterable, Sequence, Set

import msgspec

from cdl.journal import stream
from cdl.registry.objects import of_record
from cdl.registry.records import encode
from cdl.sharing import marks, parcel
from cdl.sharing.clone import Clone, Progress
from cdl.sharing.parcel import CLAIMS, Known, Parcel
from cdl.sharing.place import SENDING, Moved, forget_sent, object_name, together
from cdl.store import reach
from cdl.store.remote import Remote


def push(clone: Clone, remote: Remote, *, whole: bool = False) -> Moved:
    """Sends this clone's closed segments, and everything they, its claims and its records lead to.

    With `whole` no parcel is believed: what others say that they sent may be broken there. A clone that finds another's
    segment in the place of its own takes a new stream, and sends again.
    """
    stream.close(clone.folder)
    moved = Moved()
    own = stream.own_stream(clone.folder)
    now = (stream.segments(clone.folder, own) or [stream.FIRST])[-1]
    if remote.get(f"journal/{own}/{stream.name(now)}") is not None:  # this clone's is not even closed
        _leave(clone, own, now)
        return push(clone, remote, whole=whole)
    pending = [n for n in stream.closed(clone.folder, own) if not parcel.path(clone.folder, own, n).exists()]
    if not pending:
        return moved
    segments = [stream.segment_path(clone.folder, own, n).read_bytes() for n in pending]
    made = _send_all(clone, remote, segments, moved, whole=whole)
    for number in pending:
        data = stream.segment_path(clone.folder, own, number).read_bytes()
        name = f"journal/{own}/{stream.name(number)}"
        if not remote.create(name, data) and remote.get(name) != data:
            _leave(clone, own, number)
            return push(clone, remote, whole=whole)
        moved.segments += 1
        made = _close(clone, remote, own, number, made)
    forget_sent(clone)
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


def _send_all(clone: Clone, remote: Remote, segments: Sequence[bytes], moved: Moved, *, whole: bool) -> Parcel:
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
        known = Known() if whole else parcel.known(clone.folder)
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
    """What the shared place lacks: behind segments, claims and records that were not sent.

    A record may have come by git before its objects: it is not said to be there by a clone that has not all of them.
    """
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
    there = sorted(r.id for r in records if not any(reach.lacking(clone.store, name) for name in of_record(r.record)))
    return Parcel(objects=objects, claims=claims, records=there)


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

        for size in together(left, put):
            progress.add(size)
    moved.objects += progress.count
    moved.bytes += progress.bytes


def _sent(clone: Clone) -> set[str]:
    """What a try that broke off has sent."""
    place = clone.folder / SENDING
    return set(place.read_text().split("\n")[:-1]) if place.exists() else set()
