"""Branches and own refs between a clone and its git remote.

A branch that others moved is forwarded. Where both sides moved, one's own commits are made again on the others' as long as they
only add to the registry: ids do not depend on commits, so nothing that names them changes. Anything else is the person's to
merge, and is named. Nothing is ever forced.
"""

from collections.abc import Sequence

import msgspec

from cdl.errors import CdlError, Conflict, Unavailable
from cdl.git.commit import advance, replay
from cdl.git.repository import FETCHED, LOCKED, REPLAYED, Git, refuse

OWN_REFS = "refs/cdl/*:refs/cdl/*"
SHARED = ("exp/", "cdl/")  # branches that go to the remote though it has none of their name
EITHER = ("refs/cdl/data/", "refs/cdl/trials/")  # equal work of two clones has a snapshot in each: either will do
REGISTRY = "registry/"
TRAILER = "Cdl-Command: "  # of a commit that a command made


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a branch: `forwarded` or `replayed` by so many commits, `sent`, `left` or `refused` because of something."""

    branch: str
    what: str
    commits: int = 0
    because: str | None = None


def remote_of(git: Git) -> str | None:
    """The git remote that this clone shares with: the one of the branch checked out, else `origin`, else the only one."""
    names = git.text("remote").split()
    branch = git.branch()
    own = git.text("config", "--get", f"branch.{branch}.remote", check=False) if branch else ""
    if own in names:
        return own
    return "origin" if "origin" in names else names[0] if len(names) == 1 else None


def fetch(git: Git, remote: str) -> list[str]:
    """Fetches branches and own refs; lines for own refs that are not what they were here. Unavailable without the remote.

    A shallow clone fetches its own refs alone, and no deeper than it is.
    """
    heads = [] if not git.whole() else [f"+refs/heads/*:refs/remotes/{remote}/*"]
    depth = [] if git.whole() else ["--depth=1"]
    done = git.call("fetch", "--no-progress", "--no-tags", "--no-write-fetch-head", *depth, remote, *heads, OWN_REFS)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    rejected = [line.strip() for line in said if "[rejected]" in line]
    if done.returncode != 0 and not rejected:
        refuse("\n".join(said), git.root)
        raise _unreachable(git, remote, said)
    strange = [line for line in rejected if not any(prefix in line for prefix in EITHER)]
    return [f"{remote}: {line.removeprefix('! ').strip()}: it is another one here" for line in strange]


def look(git: Git, remote: str) -> dict[str, str]:
    """The remote's branches as they are now, without fetching: name -> commit. Unavailable."""
    done = git.call("ls-remote", "--heads", "--end-of-options", remote)
    if done.returncode != 0:
        raise _unreachable(git, remote, done.stderr.decode("utf-8", "replace").strip().splitlines())
    lines = (line.partition("\t") for line in done.stdout.decode("utf-8", "surrogateescape").splitlines())
    return {name.removeprefix("refs/heads/"): commit for commit, _, name in lines}


def upstreams(git: Git, remote: str) -> dict[str, str]:
    """The remote's branches as they were fetched: name -> commit."""
    prefix = f"refs/remotes/{remote}/"
    lines = git.text("for-each-ref", "--format=%(objectname) %(refname)", "--", prefix).splitlines()
    found = {name.removeprefix(prefix): commit for commit, _, name in (line.partition(" ") for line in lines)}
    return {name: commit for name, commit in found.items() if name != "HEAD"}


def follow(git: Git, branch: str, upstream: str) -> Moved | None:
    """Brings a branch to what others made of it; None when there is nothing to do. What stands in the way is in the answer."""
    tip = git.resolve(f"refs/heads/{branch}")
    if tip is None:
        git.set_ref(f"refs/heads/{branch}", upstream, "", because=FETCHED)
        return Moved(branch=branch, what="forwarded", commits=1)
    if git.is_ancestor(upstream, tip):
        return None
    try:
        if git.is_ancestor(tip, upstream):
            count = int(git.text("rev-list", "--count", f"{tip}..{upstream}"))
            advance(git, branch, upstream, expect=tip, because=FETCHED)
            return Moved(branch=branch, what="forwarded", commits=count)
        mine = _own(git, branch, tip, upstream)
        new = replay(git, mine, upstream)
        advance(git, branch, new, expect=tip, because=f"{REPLAYED}{upstream}")
    except CdlError as error:
        return Moved(branch=branch, what="left", because=str(error))
    return Moved(branch=branch, what="replayed", commits=len(mine))


def take(git: Git, branch: str, commit: str) -> None:
    """Puts a branch where the remote has it, though that is no descendant. Conflict as for any commit that lands."""
    advance(git, branch, commit, expect=git.resolve(f"refs/heads/{branch}") or "", because=FETCHED)


def send(git: Git, remote: str, branches: Sequence[str]) -> list[Moved]:
    """Sends branches and own refs; those that the remote refused, because others moved them meanwhile or it protects them."""
    refs = [f"refs/heads/{branch}:refs/heads/{branch}" for branch in branches]
    done = git.call("push", "--quiet", "--porcelain", "--no-verify", remote, *refs, OWN_REFS)
    lines, told = done.stdout.decode("utf-8", "replace").splitlines(), done.stderr.decode("utf-8", "replace")
    locked = f" ({found[0]})" if (found := LOCKED.search(told)) else ""
    refused = []
    for line in lines:
        flag, _, rest = line.partition("\t")
        if flag.strip() == "!":
            name, _, why = rest.partition("\t")
            if name.startswith(EITHER):
                continue
            refused.append(Moved(branch=_branch(name), what="refused", because=why.strip() + locked))
    if done.returncode != 0 and not any(line.startswith("!") for line in lines):
        refuse(told, git.root)
        raise _unreachable(git, remote, told.strip().splitlines())
    return refused


def to_send(git: Git, remote: str, targets: Sequence[str]) -> list[str]:
    """The branches that go to the remote: those it has, the targets of decisions, experiments, and the one checked out.

    One that others moved in another way is left until it was brought together.
    """
    there = upstreams(git, remote)
    here = {name.removeprefix("refs/heads/"): commit for name, commit in git.refs("refs/heads/").items()}
    wanted = {b for b in here if b in there or b in targets or b.startswith(SHARED) or b == git.branch()}
    return sorted(
        b for b in wanted if there.get(b) != here[b] and (b not in there or git.is_ancestor(there[b], here[b]))
    )


def _own(git: Git, branch: str, tip: str, upstream: str) -> list[str]:
    """One's own commits where both sides moved, oldest first. Conflict unless they may be made again on the others'."""
    base = git.text("merge-base", "--end-of-options", tip, upstream, check=False)
    if not base:
        raise Conflict(
            f"{branch} has another beginning than that of the remote", remedy="another remote, or another clone"
        )
    mine = git.line(tip, since=upstream)
    theirs = git.text("diff", "--name-only", "--no-renames", base, upstream).splitlines()
    for commit in mine:
        beyond = [p for p in _beyond(git, commit, theirs) if not p.startswith(REGISTRY)]
        if beyond:
            raise Conflict(
                f"{branch} was changed here and by others",
                where=beyond[0],
                remedy=f"git switch {branch}; git pull --rebase (or git merge), then cdl sync",
            )
    return mine


def _beyond(git: Git, commit: str, theirs: list[str]) -> list[str]:
    """What must lie in the registry for a commit to be made again: of a merge, what it was judged on; else what it changed.

    A commit of a command may change a manifest too; where others changed the same, making it again conflicts.
    """
    if len(git.text("rev-parse", f"{commit}^@").split()) > 1:
        return theirs
    if TRAILER in git.text("log", "-1", "--format=%B", commit):
        return []
    return git.text("diff-tree", "-r", "--name-only", "--no-renames", f"{commit}^", commit).splitlines()


def _branch(refspec: str) -> str:
    return refspec.partition(":")[0].removeprefix("refs/heads/")


def _unreachable(git: Git, remote: str, said: Sequence[str]) -> Unavailable:
    why = next((line for line in said if line.startswith(("fatal:", "error:"))), said[0] if said else "no answer")
    url = git.text("remote", "get-url", remote, check=False)
    shown = without_secret(url)
    why = why.replace(url, shown) if url else why
    return Unavailable(f"the git remote cannot be reached: {why}", where=shown, remedy="the command again later")


def without_secret(url: str) -> str:
    """An address without the name and password that may stand in it."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else url
