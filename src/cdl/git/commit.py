"""Commits that leave the person's work as it was.

A commit is built from a temporary index and lands by compare-and-swap on its branch. Where that branch is checked out, the
same paths, and only those, are also written to the work tree and the real index, so `git status` says afterwards what it
said before. What a kill leaves between the two is finished by the next command: an intent stands in
`<common dir>/cdl/intent-*.json` from before the branch moves until the work tree has followed.
"""

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from cdl.errors import CdlError, Conflict, NotFound
from cdl.git.follow import State, difference, follow, index_line, index_lock, stage, states, unfinished
from cdl.git.repository import MADE, Git

ATTEMPTS = 20  # lost races for a branch before giving up
OPTIMISTIC = 3  # of these without holding off git while a commit is made
BUSY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or a revert",
}
NOWHERE = ""  # what `update-ref` takes for a ref that is not there yet
PLAIN, EXECUTABLE = "100644", "100755"


class Merge(msgspec.Struct, frozen=True):
    """A merge made in memory: its tree, or the paths that conflict."""

    tree: str | None
    conflicts: tuple[str, ...] = ()


class Intent(msgspec.Struct):
    """That a branch is to move, from before until work trees have followed.

    `staged`: by work tree the paths of its index that went ahead.
    """

    place: Path
    branch: str
    old: str | None
    new: str
    staged: Mapping[str, Sequence[str]] = msgspec.field(default_factory=dict)

    def write(self, staged: Mapping[str, Sequence[str]]) -> None:
        """Notes it."""
        self.staged = staged
        temporary = self.place.with_suffix(f".{os.getpid()}")
        content = {"branch": self.branch, "old": self.old, "new": self.new, "staged": staged}
        temporary.write_text(json.dumps(content))
        temporary.replace(self.place)

    @classmethod
    def read(cls, place: Path) -> "Intent":
        """The one that a file holds."""
        found = json.loads(place.read_text())
        return cls(place, found["branch"], found["old"], found["new"], found.get("staged", {}))


def commit_files(
    git: Git,
    branch: str,
    files: Mapping[str, bytes | None],
    message: str,
    *,
    expect: str | None = None,
    check: Callable[[str | None], None] | None = None,
) -> str:
    """Adds, changes or (None) removes files in one commit on a branch; returns the commit.

    `check` looks at the commit that it will follow, and raises where that is not what the caller went by.

    Conflict: the branch is not at `expect`; a merge or rebase is under way where it is checked out; or the person changed
    one of the files there.
    """
    with _alone(git), ExitStack() as locks:
        held: list[Path] = []
        first = tip = git.resolve(f"refs/heads/{branch}")
        if first is None and git.resolve("HEAD") is not None:
            raise _no_branch(branch)
        for attempt in range(ATTEMPTS):
            if attempt == OPTIMISTIC:
                held, tip = _lock(git, branch, locks), git.resolve(f"refs/heads/{branch}")
            if expect is not None and tip != expect:
                raise Conflict(f"{branch} was moved by somebody else", remedy="the command again")
            _same_files(git, first, tip, files)
            if check is not None:
                check(tip)
            tree = make_tree(git, tip, files)
            if check is not None and tip and tree == git.text("rev-parse", f"{tip}^{{tree}}"):
                return tip  # somebody did the same just now
            commit = make_commit(git, tree, [tip] if tip else [], message)
            try:
                _move(git, branch, tip, commit, held=held)
            except Conflict:
                start, tip = tip, git.resolve(f"refs/heads/{branch}")
                if tip in (start, commit) or expect is not None:
                    raise
            else:
                return commit
    raise Conflict(f"{branch} moves too often", remedy="the command again")


def advance(git: Git, branch: str, new: str, *, expect: str, because: str = MADE) -> None:
    """Moves a branch from `expect` to a commit; work tree and index follow for the paths that differ.

    `because` stands in the reflog: MADE for a commit made here, else as in repository.py.

    Conflict: as for `commit_files`, for every path that differs.
    """
    with _alone(git):
        _move(git, branch, expect, new, because)


def make_tree(git: Git, base: str | None, files: Mapping[str, bytes | None]) -> str:
    """A tree: that of `base` (commit or tree) with files written over it, or removed where None."""
    index = git.common_dir / "cdl" / f"index-{os.getpid()}-{secrets.token_hex(4)}"
    index.parent.mkdir(parents=True, exist_ok=True)
    env = {"GIT_INDEX_FILE": str(index)}
    blobs = write_blobs(git, {path: data for path, data in files.items() if data is not None})
    try:
        git.run("read-tree", *([base] if base else ["--empty"]), env=env)
        modes = _modes(git, base) if base else {}
        going = [index_line(git, path, None) for path in files if path not in blobs]
        coming = [f"{modes.get(p, PLAIN)} {blob}\t".encode() + os.fsencode(p) + b"\0" for p, blob in blobs.items()]
        git.run("update-index", "-z", "--index-info", input=b"".join(going + coming), env=env)
        return git.run("write-tree", env=env).decode().strip()
    finally:
        index.unlink(missing_ok=True)


def write_blobs(git: Git, files: Mapping[str, bytes]) -> dict[str, str]:
    """Writes contents exactly as given, in one process; path -> blob."""
    if len(files) == 1:
        return {
            path: git.run("hash-object", "-w", "--stdin", input=data).decode().strip() for path, data in files.items()
        }
    with tempfile.TemporaryDirectory(prefix="blobs-", dir=git.common_dir / "cdl") as folder:
        names = [f"{folder}/{number}" for number in range(len(files))]
        for name, data in zip(names, files.values(), strict=True):
            Path(name).write_bytes(data)
        asked = "".join(name + "\n" for name in names).encode()
        blobs = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", input=asked).decode().split()
    return dict(zip(files, blobs, strict=True))


def _modes(git: Git, base: str) -> dict[str, str]:
    """The files of a commit or tree that are executable."""
    lines = git.run("ls-tree", "-r", "-z", "--full-tree", base).split(b"\0")
    return {os.fsdecode(line.partition(b"\t")[2]): EXECUTABLE for line in lines if line.startswith(b"100755 ")}


def make_commit(git: Git, tree: str, parents: Sequence[str], message: str, *, when: str | None = None) -> str:
    """A commit object; nothing points to it yet. The committer is the author where none is set.

    With `when` (ISO 8601) it is dated so instead of now: the same things said twice are the same commit.
    """
    person = git.person()
    committer = {"GIT_COMMITTER_NAME": person.name, "GIT_COMMITTER_EMAIL": person.email}
    env = {name: os.environ.get(name, value) for name, value in committer.items()}
    if when is not None:
        env |= {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    options = [o for parent in parents for o in ("-p", parent)]
    return git.run("commit-tree", *options, tree, input=message.encode(), env=env).decode().strip()


def merge_in_memory(git: Git, ours: str, theirs: str) -> Merge:
    """The merge of two commits, without touching any work tree."""
    git.require_version()
    done = git.call(
        "merge-tree", "--write-tree", "--name-only", "-z", "--no-messages", "--end-of-options", ours, theirs
    )
    fields = [f.decode("utf-8", "surrogateescape") for f in done.stdout.split(b"\0") if f]
    if done.returncode == 0 and fields:
        return Merge(fields[0])
    if done.returncode == 1:
        return Merge(None, tuple(dict.fromkeys(fields[1:])))
    raise Conflict(f"git merge-tree: {done.stderr.decode('utf-8', 'replace').strip()}", remedy="git merge by hand")


def replay(git: Git, commits: Sequence[str], onto: str) -> str:
    """Commits of a first-parent line made again on another commit, in memory: what each changed against its first parent.

    Author, committer, times and message stay, so the same commits on the same one give the same again; a signature goes. What
    is there already is left out, unless it is a merge. Conflict names the paths that both sides changed.
    """
    for commit in commits:
        parents = git.text("rev-parse", f"{commit}^@").split()
        base = _alone_with(git, parents[0], [])
        merged = merge_in_memory(git, _alone_with(git, onto, [base]), _alone_with(git, commit, [base]))
        if merged.tree is None:
            paths = ", ".join(merged.conflicts)
            raise Conflict(
                "changed here and by others", where=paths, remedy="git merge by hand, then the command again"
            )
        if len(parents) == 1 and git.text("rev-parse", f"{onto}^{{tree}}") == merged.tree:
            continue
        onto = _again(git, commit, merged.tree, [onto, *parents[1:]])
    return onto


def _alone_with(git: Git, commit: str, parents: Sequence[str]) -> str:
    """A commit's tree with other parents: so a merge takes the base that is meant (`--merge-base` came with git 2.40)."""
    tree = git.text("rev-parse", f"{commit}^{{tree}}")
    who = "cdl <cdl@localhost> 0 +0000"
    lines = [f"tree {tree}", *(f"parent {p}" for p in parents), f"author {who}", f"committer {who}", "", "replay", ""]
    return git.run("hash-object", "-t", "commit", "-w", "--stdin", input="\n".join(lines).encode()).decode().strip()


def _again(git: Git, commit: str, tree: str, parents: Sequence[str]) -> str:
    """The same commit with another tree and other parents."""
    headers, _, text = git.run("cat-file", "commit", commit).partition(b"\n\n")
    kept = []
    signature = False
    for line in headers.split(b"\n"):
        signature = line.startswith(b"gpgsig") or (signature and line.startswith(b" "))
        if not signature and not line.startswith((b"tree ", b"parent ")):
            kept.append(line)
    made = [f"tree {tree}".encode(), *(f"parent {p}".encode() for p in parents), *kept]
    data = b"\n".join(made) + b"\n\n" + text
    return git.run("hash-object", "-t", "commit", "-w", "--stdin", input=data).decode().strip()


def repair(git: Git) -> None:
    """Finishes what a killed command left: work tree and index of a branch that has moved already."""
    folder = git.common_dir / "cdl"
    if not folder.is_dir() or not any(folder.glob("intent-*.json")):
        return
    with _alone(git):
        for path in sorted(folder.glob("intent-*.json")):
            intent = Intent.read(path)
            tip = git.resolve(f"refs/heads/{intent.branch}")
            moved = tip is not None and git.is_ancestor(intent.new, tip)
            for tree in _checked_out(git, intent.branch):
                with index_lock(tree):
                    if tip and moved:
                        _finish(tree, intent.old, intent.new, tip)
                    else:
                        _take_back(tree, intent, states(tree, difference(tree, intent.old, intent.new)))
            path.unlink()


def _lock(git: Git, branch: str, locks: ExitStack) -> list[Path]:
    """Locks the index wherever a branch is checked out, so that others' commits wait until ours is made; the work trees."""
    trees = _checked_out(git, branch)
    for tree in trees:
        locks.enter_context(index_lock(tree))
    return [tree.root for tree in trees]


def _move(git: Git, branch: str, old: str | None, new: str, because: str = MADE, *, held: Sequence[Path] = ()) -> None:
    _not_in_rebase(git, branch)
    trees = _checked_out(git, branch)
    changes = difference(git, old, new)
    intent = Intent(git.common_dir / "cdl" / f"intent-{new[:16]}.json", branch, old, new)
    if trees:
        intent.write({})
    with ExitStack() as locks:
        found: list[tuple[Git, dict[str, State]]] = []
        try:
            for tree in trees:
                if tree.root not in held:
                    locks.enter_context(index_lock(tree))
                found.append((tree, states(tree, changes)))
                _undisturbed(*found[-1])
            staged = {
                str(tree.root): [p for p, s in stand.items() if s.index == s.old != s.new] for tree, stand in found
            }
            if trees:
                intent.write(staged)
            for tree, stand in found:
                stage(tree, {path: stand[path].new for path in staged[str(tree.root)]})
            git.set_ref(f"refs/heads/{branch}", new, old or NOWHERE, because=because)
        except (CdlError, OSError):
            for tree, stand in found:
                _take_back(tree, intent, stand)
            intent.place.unlink(missing_ok=True)
            raise
        for tree, stand in found:
            now = {p: replace(s, index=s.new if p in staged[str(tree.root)] else s.index) for p, s in stand.items()}
            follow(tree, now)
    intent.place.unlink(missing_ok=True)


def _take_back(tree: Git, intent: Intent, stand: Mapping[str, State]) -> None:
    """Puts the entries of the index that were staged for a branch that did not move back to what they were."""
    paths = intent.staged.get(str(tree.root), [])
    now = states(tree, {path: (stand[path].old, stand[path].new) for path in paths})
    stage(tree, {path: s.old for path, s in now.items() if s.index == s.new})


def _finish(tree: Git, old: str | None, new: str, tip: str) -> None:
    """Follows where a kill stopped; paths that the person or a later commit changed since are left as they are."""
    since = difference(tree, new, tip)
    changes = {path: change for path, change in difference(tree, old, new).items() if path not in since}
    found = states(tree, changes)
    torn = {p: replace(s, work=s.old) for p, s in found.items() if s.work != s.old and unfinished(tree, p, s)}
    follow(tree, {**found, **torn})


def _checked_out(git: Git, branch: str) -> list[Git]:
    """The work trees where a branch is checked out."""
    return [Git(t.path) for t in git.worktrees() if t.branch == branch and t.path.exists()]


def _not_in_rebase(git: Git, branch: str) -> None:
    """Conflict when a branch is being rebased somewhere: HEAD is detached there, and the rebase will move the branch."""
    for tree in git.worktrees():
        if tree.branch is not None or not tree.path.exists():
            continue
        for name in ("rebase-merge", "rebase-apply"):
            place = Git(tree.path).git_dir / name / "head-name"
            if place.exists() and place.read_text().strip() == f"refs/heads/{branch}":
                raise _busy(BUSY[name], tree.path)


def _busy(what: str, where: Path) -> Conflict:
    return Conflict(f"{what} is under way", where=str(where), remedy="finish it or abort it, then the command again")


def _undisturbed(tree: Git, found: Mapping[str, State]) -> None:
    """Conflict when a merge is under way in a work tree, or the person changed one of the paths there."""
    for name, what in BUSY.items():
        if (tree.git_dir / name).exists():
            raise _busy(what, tree.root)
    for path, state in found.items():
        if not state.undisturbed:
            raise Conflict(
                "changed by you and not committed",
                where=path,
                remedy=f"git commit it, or git restore --staged --worktree -- {path}",
            )


def _same_files(git: Git, first: str | None, tip: str | None, files: Mapping[str, bytes | None]) -> None:
    """Conflict when somebody changed one of the files since the first try."""
    if first != tip and first and tip:
        changed = sorted(set(difference(git, first, tip)) & set(files))
        if changed:
            raise Conflict("changed by somebody else just now", where=changed[0], remedy="the command again")


@contextmanager
def _alone(git: Git) -> Iterator[None]:
    """Holds off other processes of this product; other git processes are met by compare-and-swap."""
    git.require_version()
    folder = git.common_dir / "cdl"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tip_of(git: Git, branch: str) -> str:
    """The commit of a branch. NotFound."""
    found = git.resolve(f"refs/heads/{branch}")
    if found is None:
        raise _no_branch(branch)
    return found


def _no_branch(branch: str) -> NotFound:
    return NotFound(f"no branch {branch}", remedy=f"git branch {branch}")
