"""`cdl gc --shared`: removes what nothing names any more from the shared place, in two phases (sharing/marks.py).

What may go is what the branches and own refs of the git remote, every stream and every claim lead not to, as this clone has them
right after a sync. A parcel with a record that this clone does not see (a branch that was never sent) keeps all it brought.
"""

import secrets

import msgspec

from cdl.errors import Conflict, Refused
from cdl.housekeeping.gc import DAY, Amount
from cdl.housekeeping.roots import shared_roots
from cdl.sharing import marks, parcel
from cdl.sharing.branches import remote_of
from cdl.sharing.clone import Clone
from cdl.sharing.marks import Lists
from cdl.sharing.place import fetch_one, object_name
from cdl.store import reach
from cdl.store.remote import Folder, Held, Remote

LEASES_DAYS = 7  # after which a lease that nobody renews is removed


class Swept(msgspec.Struct, kw_only=True):
    """What was or would be removed and marked, what stays, and when the first marked object may go (seconds from now)."""

    gone: Amount = msgspec.field(default_factory=Amount)
    marked: Amount = msgspec.field(default_factory=Amount)
    waits: Amount = msgspec.field(default_factory=Amount)
    kept: Amount = msgspec.field(default_factory=Amount)
    next: float | None = None
    removed: bool = False


def collect_shared(
    clone: Clone, remote: Remote, *, remove: bool, trials: bool = False, wait: float = DAY, older_than: float = DAY
) -> Swept:
    """Marks what nothing names, and removes what was marked `wait` seconds ago and still is not named; call it after a sync.

    Refused where this clone does not see everything; Conflict while another one removes.
    """
    if remote_of(clone.git) is None or not clone.git.whole():
        raise Refused("this clone does not hold all branches", remedy="run it in a whole clone with a git remote")
    lists = marks.read(remote, clone.folder)
    now = marks.clock(remote)
    _end_killed(remote, lists, now, remove=remove)
    clone.tell(f"lists {remote.place}")
    held = {h.name.removeprefix("objects/").replace("/", ""): h for h in remote.held("objects/")}
    keep = _named(clone, remote, held, trials=trials)
    done = Swept(removed=remove)
    due, fresh = set[str](), set[str]()
    for name, h in held.items():
        since = lists.marked.get(name)
        if name in keep:
            done.kept.add(h.size)
        elif since is not None and h.written < since and since <= now - wait:
            due.add(name)
            done.gone.add(h.size)
        elif since is not None and h.written < since:
            done.waits.add(h.size)
            done.next = min(done.next or wait, since + wait - now)
        elif h.written < now - older_than:
            fresh.add(name)
            done.marked.add(h.size)
        else:
            done.kept.add(h.size)
    if remove:
        _sweep(clone, remote, lists, due)
        if fresh:
            marks.write(remote, marks.MARKS + secrets.token_hex(16), fresh)
        _tidy(remote, lists, now, wait, older_than)
    return done


def _named(clone: Clone, remote: Remote, held: dict[str, Held], *, trials: bool) -> set[str]:
    """What is named, as far as the shared place holds it. What is not here and leads on is fetched first."""
    roots = shared_roots(clone, trials=trials)
    seen = {stored.id for stored in clone.registry.everything()}
    for brought in parcel.kept(clone.folder):
        if not seen.issuperset(brought.records):
            roots.names.update(brought.objects)
    while True:
        keep = roots.reachable(clone) | roots.names
        named = keep | reach.inside(clone.store, keep - roots.known)
        lacking = {n for n in named if n in held and not clone.store.has(n)}
        got = [n for n in lacking if fetch_one(clone, remote, n)]
        if not got:
            return named


def _sweep(clone: Clone, remote: Remote, lists: Lists, due: set[str]) -> None:
    """Removes what is due and was not sent again since it was marked: the list of it stands before the first one goes."""
    if not due:
        return
    name = marks.SWEPT + secrets.token_hex(16)
    marks.write(remote, name, due)
    now = {h.name: h for h in remote.held("objects/")}
    for count, each in enumerate(sorted(due), 1):
        place = object_name(each)
        if place in now and now[place].written < lists.marked[each]:
            remote.delete(place)
        if count % 1000 == 0:
            clone.tell(f"removed {count:,} of {len(due):,} objects")
    remote.create(name + marks.DONE, b"")


def _end_killed(remote: Remote, lists: Lists, now: float, *, remove: bool) -> None:
    """Ends a list that a killed gc left: what it did not remove is marked anew. Conflict where it may be at it still."""
    for name, began in lists.open_sweeps.items():
        if now - began < marks.DEAD_SECONDS:
            raise Conflict("another cdl gc --shared is at work", where=remote.place, remedy="the command again later")
        if remove:
            remote.create(name + marks.DONE, b"")


def _tidy(remote: Remote, lists: Lists, now: float, wait: float, older_than: float) -> None:
    """Removes marks that were looked at after their time, leases of long ago, and what a killed writer left half."""
    for name, written in lists.marks.items():
        if written <= now - wait:
            remote.delete(name)
    for held in list(remote.held("leases/")):
        if held.written < now - LEASES_DAYS * DAY:
            remote.delete(held.name)
    if isinstance(remote, Folder):
        remote.tidy(now - older_than)
