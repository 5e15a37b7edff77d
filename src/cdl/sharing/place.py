"""The shared place: which one it is, where an object lies in it, what was removed from it, and moving many things at once."""

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from cdl.errors import Conflict, Corrupt
from cdl.sharing import marks, parcel
from cdl.sharing.clone import Clone
from cdl.store import whole
from cdl.store.erased import ERASED
from cdl.store.remote import Remote
from cdl.store.store import digest

THREADS = 16
MARKER = "cdl.json"  # says which remote this is
SENDING = "sending"  # below `.cdl`: the names of objects that a push under way has sent, one a line
FORMAT = 1
T = TypeVar("T")
R = TypeVar("R")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Which remote this is: an id drawn at first use, and whose project it holds."""

    format: int
    id: str
    project: str


class Moved(msgspec.Struct, kw_only=True):
    """What one direction moved; `faults` are things that are not what they say, each in a line."""

    segments: int = 0
    objects: int = 0
    bytes: int = 0
    faults: list[str] = msgspec.field(default_factory=list)


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


def follow_place(clone: Clone, remote: Remote, *, anew: bool) -> None:
    """Notes which remote this clone shares with. With another one than before everything is sent and fetched anew.

    Conflict where another one, or nothing, lies in the very place: a disk that is not mounted looks so. `anew` says it is right.
    """
    place = clone.folder / "remote.json"
    known = json.loads(place.read_text()) if place.exists() else {}
    before, there = known.get("id"), read_marker(remote, clone)
    moved = before is not None and (there is None or there.id != before)
    if moved and known["place"] == remote.place and not anew:
        raise Conflict(
            "this is not the store that this clone shared here before" + ("" if there else ": it is empty"),
            where=remote.place,
            remedy="mount it, or put it back; if it is right, and everything is to go there: cdl sync --whole",
        )
    found = there or marker(remote, clone)
    if before == found.id:
        return
    if before is not None:
        clone.tell(f"{remote.place} is another store than before: everything goes there")
    forget(clone)
    whole.write(place, json.dumps({"id": found.id, "place": remote.place}).encode(), mode=0o644)


def forget(clone: Clone) -> None:
    """Forgets what the shared place holds: the next sync sends what it lacks, and fetches what is lacking here."""
    forget_sent(clone)
    for found in (clone.folder / parcel.LOCAL).glob("c-*/[0-9]*"):
        found.unlink()


def forget_sent(clone: Clone) -> None:
    """Forgets what a push that broke off has sent."""
    (clone.folder / SENDING).unlink(missing_ok=True)


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


def together(things: Sequence[T], do: Callable[[T], R]) -> Iterable[R]:
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
