"""`cdl sync`: what is missing, in both directions, between a clone, its git remote and its shared store.

Git is fetched first and sent last, the store is filled before the branches that name what it holds: whoever sees a record can
have its objects. Two who sync at once lose nothing: one of them finds the branch moved, brings both together and sends again.
"""

import json
from collections.abc import Sequence

import msgspec

from cdl.errors import Conflict
from cdl.git.repository import Git, refuse
from cdl.registry.check import removed_records
from cdl.sharing import branches, erasures
from cdl.sharing.branches import Moved as Branch
from cdl.sharing.clone import Clone
from cdl.sharing.place import Moved, follow_place, forget
from cdl.sharing.pull import pull, refill
from cdl.sharing.push import push
from cdl.store import whole as files
from cdl.store.remote import Remote

ATTEMPTS = 10  # lost races for the remote's branches
LATE = (
    "fetch first",
    "non-fast-forward",
    "stale info",
    "cannot lock ref",
    "failed to update ref",
    "incorrect old value",
)
SEEN = "seen.json"  # below the common git folder's `cdl`: the remote's branches as this clone last saw them


class Synced(msgspec.Struct, kw_only=True):
    """What a sync did. `faults` are things that are not what they say, each in a line: others' doing, or a broken disk's."""

    place: str | None
    remote: str | None
    pulled: Moved = msgspec.field(default_factory=Moved)
    pushed: Moved = msgspec.field(default_factory=Moved)
    branches: list[Branch] = msgspec.field(default_factory=list)
    faults: list[str] = msgspec.field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether everything was everywhere already."""
        moved = (self.pulled, self.pushed)
        return not (self.branches or self.faults or any(m.segments or m.objects for m in moved))


def sync(clone: Clone, remote: Remote | None, *, targets: Sequence[str], whole: bool = False) -> Synced:
    """Brings clone, git remote and shared store together; `targets` are the branches that decisions and stages stand on.

    With `whole` it takes nothing for granted of either side: what the store may lack is sent, what was lost here is fetched.
    Unavailable names what cannot be reached; what was moved until then stays moved. A shallow clone, as in continuous
    integration, gets and sends no branch.
    """
    git_remote = branches.remote_of(clone.git)
    deep = clone.git.whole()
    done = Synced(place=remote.place if remote else None, remote=git_remote)
    if remote is not None:
        if whole:
            forget(clone)
        follow_place(clone, remote, anew=whole)
    for attempt in range(ATTEMPTS):
        whole = whole and attempt == 0  # once is enough
        frozen = _fetch(clone, git_remote, targets, done) if git_remote else set()
        if remote is not None:
            done.faults += erasures.follow(clone, remote)
            _add(done.pulled, pull(clone, remote))
            if whole:
                _add(done.pulled, refill(clone, remote))
        if git_remote and deep:
            _follow(clone, git_remote, targets, frozen, done)
        clone.registry.observe()
        if remote is not None:
            _add(done.pushed, push(clone, remote, whole=whole))
        late = _send(clone, git_remote, targets, frozen, done) if git_remote and deep else None
        if late is None:
            break
    else:
        refuse(late or "", clone.git.root)
        raise Conflict(f"the remote moves too often: {late}", where=git_remote, remedy="the command again")
    done.faults = list(dict.fromkeys([*done.faults, *done.pulled.faults]))
    return done


def seen(git: Git) -> dict[str, str]:
    """The remote's branches as this clone last saw them."""
    place = git.common_dir / "cdl" / SEEN
    return dict(json.loads(place.read_text())) if place.exists() else {}


def accept(clone: Clone, branch: str) -> None:
    """Takes a rewritten branch as it is now at the remote for what it is. Conflict where own commits stand on the old one."""
    remote = branches.remote_of(clone.git)
    now = branches.upstreams(clone.git, remote).get(branch) if remote else None
    tip = clone.git.resolve(f"refs/heads/{branch}")
    if now is None or tip is None:
        raise Conflict(f"the remote has no branch {branch}", remedy="cdl sync")
    if tip not in (now, seen(clone.git).get(branch)) and not clone.git.is_ancestor(now, tip):
        raise Conflict(
            f"{branch} holds commits of yours that the remote never had",
            remedy=f"git rebase --onto {now[:12]} {str(seen(clone.git).get(branch))[:12]} {branch}, then the command again",
        )
    if tip == seen(clone.git).get(branch) and tip != now:
        branches.take(clone.git, branch, now)
    _note(clone, {**seen(clone.git), branch: now})


def _fetch(clone: Clone, remote: str, targets: Sequence[str], done: Synced) -> set[str]:
    """Fetches from git; the targets whose history was rewritten there, which nothing is done about."""
    done.faults += branches.fetch(clone.git, remote)
    before, now = seen(clone.git), branches.upstreams(clone.git, remote)
    frozen = set()
    for branch in [b for b in dict.fromkeys(targets) if b in now]:
        old = before.get(branch)
        if old is not None and not clone.git.is_ancestor(old, now[branch]):
            frozen.add(branch)
            gone = clone.git.text("rev-list", "--count", f"{now[branch]}..{old}")
            done.faults.append(
                f"{remote}/{branch} was rewritten: {gone} commits that were there are gone; if that is right: "
                f"cdl sync --accept {branch}; if it is wrong: git push --force-with-lease {remote} {old}:{branch}"
            )
            continue
        done.faults += [
            f"{remote}/{branch}: {f.where}: {f.what}" for f in removed_records(clone.git, now[branch], since=old)
        ]
        before[branch] = now[branch]
    _note(clone, before)
    return frozen


def _note(clone: Clone, found: dict[str, str]) -> None:
    data = json.dumps(found, indent=1, sort_keys=True).encode()
    files.write(clone.git.common_dir / "cdl" / SEEN, data, mode=0o644)


def _follow(clone: Clone, remote: str, targets: Sequence[str], frozen: set[str], done: Synced) -> None:
    """Brings every branch that is on both sides together; targets that are only there come here."""
    local = {name.removeprefix("refs/heads/") for name in clone.git.refs("refs/heads/")}
    for branch, upstream in sorted(branches.upstreams(clone.git, remote).items()):
        if branch in frozen or not (branch in local or branch in targets):
            continue
        moved = branches.follow(clone.git, branch, upstream)
        if moved is not None and moved not in done.branches:
            done.branches.append(moved)


def _send(clone: Clone, remote: str, targets: Sequence[str], frozen: set[str], done: Synced) -> str | None:
    """Sends to git; why to try again, where others were faster."""
    wanted = [b for b in branches.to_send(clone.git, remote, targets) if b not in frozen]
    refused = branches.send(clone.git, remote, wanted)
    late = [r for r in refused if any(word in (r.because or "") for word in LATE)]
    if late:
        return f"{late[0].branch}: {late[0].because}"
    names = {r.branch for r in refused}
    done.branches += [*refused, *(Branch(branch=b, what="sent") for b in wanted if b not in names)]
    return None


def _add(total: Moved, more: Moved) -> None:
    total.segments += more.segments
    total.objects += more.objects
    total.bytes += more.bytes
    total.faults += more.faults
