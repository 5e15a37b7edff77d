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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdl.errors import Conflict, NotFound
from cdl.git.repository import Git

ATTEMPTS = 20  # lost races for a branch before giving up
LOCK_SECONDS = 30.0  # waiting for another process's index.lock
BUSY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}
NOWHERE = "0" * 40


@dataclass(frozen=True)
class Merge:
    """A merge made in memory: its tree, or the paths that conflict."""

    tree: str | None
    conflicts: tuple[str, ...] = ()


def commit_files(
    git: Git, branch: str, files: Mapping[str, bytes | None], message: str, *, expect: str | None = None
) -> str:
    """Adds, changes or (None) removes files in one commit on a branch; returns the commit.

    Conflict: the branch is not at `expect`; a merge or rebase is under way where it is checked out; or the person changed
    one of the files there.
    """
    with _alone(git):
        for _ in range(ATTEMPTS):
            tip = git.resolve(f"refs/heads/{branch}")
            if expect is not None and tip != expect:
                raise Conflict(f"{branch} was moved by somebody else", remedy="the command again")
            commit = make_commit(git, make_tree(git, tip, files), [tip] if tip else [], message)
            try:
                _move(git, branch, tip, commit, sorted(files))
            except Conflict:
                if git.resolve(f"refs/heads/{branch}") == tip or expect is not None:
                    raise
                continue
            return commit
    raise Conflict(f"{branch} moves too often", remedy="the command again")


def advance(git: Git, branch: str, new: str, *, expect: str) -> None:
    """Moves a branch from `expect` to a commit made in memory; work tree and index follow for the paths that differ."""
    with _alone(git):
        changed = git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", expect, new)
        paths = [p.decode("utf-8", "surrogateescape") for p in changed.split(b"\0") if p]
        _move(git, branch, expect, new, paths)


def make_tree(git: Git, base: str | None, files: Mapping[str, bytes | None]) -> str:
    """A tree: that of `base` (commit or tree) with files written over it, or removed where None."""
    index = git.common_dir / "cdl" / f"index-{os.getpid()}-{secrets.token_hex(4)}"
    index.parent.mkdir(parents=True, exist_ok=True)
    env = {"GIT_INDEX_FILE": str(index)}
    try:
        git.run("read-tree", *([base] if base else ["--empty"]), env=env)
        _write_entries(git, {p: None if d is None else _blob(git, d) for p, d in files.items()}, {}, env)
        return git.run("write-tree", env=env).decode().strip()
    finally:
        index.unlink(missing_ok=True)


def make_commit(git: Git, tree: str, parents: Sequence[str], message: str) -> str:
    """A commit object; nothing points to it yet. The committer is the author where none is set."""
    person = git.person()
    env = {k: os.environ.get(k, v) for k, v in _committer(person.name, person.email).items()}
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


def repair(git: Git) -> None:
    """Finishes what a killed command left: work tree and index of a branch that has moved already."""
    folder = git.common_dir / "cdl"
    if not folder.is_dir() or not any(folder.glob("intent-*.json")):
        return
    with _alone(git):
        for path in sorted(folder.glob("intent-*.json")):
            intent = json.loads(path.read_text())
            tip = git.resolve(f"refs/heads/{intent['branch']}")
            if tip and git.is_ancestor(intent["new"], tip):
                for tree in git.worktrees():
                    if tree.branch == intent["branch"]:
                        _follow(Git(tree.path), intent["old"], intent["new"], intent["paths"])
            path.unlink()


def _move(git: Git, branch: str, old: str | None, new: str, paths: Sequence[str]) -> None:
    checked_out = [Git(t.path) for t in git.worktrees() if t.branch == branch and t.path.exists()]
    for tree in checked_out:
        _undisturbed(tree, old, paths)
    intent = git.common_dir / "cdl" / f"intent-{new[:16]}.json"
    if checked_out:
        content = {"branch": branch, "old": old, "new": new, "paths": list(paths)}
        temporary = intent.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(content))
        temporary.replace(intent)
    try:
        git.set_ref(f"refs/heads/{branch}", new, old or NOWHERE)
    except Conflict:
        intent.unlink(missing_ok=True)
        raise
    for tree in checked_out:
        _follow(tree, old, new, paths)
    intent.unlink(missing_ok=True)


def _undisturbed(tree: Git, old: str | None, paths: Sequence[str]) -> None:
    """Conflict when a merge is under way in a work tree, or the person changed one of the paths there."""
    for name, what in BUSY.items():
        if (tree.git_dir / name).exists():
            raise Conflict(
                f"{what} is under way", where=str(tree.root), remedy="finish it or abort it, then the command again"
            )
    committed = tree.files(old) if old else {}
    staged = _index_entries(tree)
    for path in paths:
        before = committed.get(path)
        if staged.get(path) != before or _file_blob(tree, path) != before:
            raise Conflict(
                "changed by you and not committed",
                where=path,
                remedy=f"git commit it, or git restore --staged --worktree -- {path}",
            )


def _follow(tree: Git, old: str | None, new: str, paths: Sequence[str]) -> None:
    """Writes paths as they are in `new` to a work tree and its index, where they still are as in `old`."""
    before = tree.files(old) if old else {}
    after = tree.files(new)
    modes = _modes(tree, new)
    data = tree.cat(after[p] for p in paths if p in after)
    entries: dict[str, str | None] = {}
    for path in paths:
        if _file_blob(tree, path) == before.get(path):
            _put_file(tree.root / path, data[after[path]] if path in after else None, modes.get(path))
        entries[path] = after.get(path)
    _write_entries(tree, entries, modes, {}, wait=True)


def _write_entries(
    git: Git, entries: Mapping[str, str | None], modes: Mapping[str, str], env: Mapping[str, str], *, wait: bool = False
) -> None:
    """Sets or (None) removes index entries, and refreshes their stat data."""
    lines = []
    for path, blob in entries.items():
        name = path.encode("utf-8", "surrogateescape")
        meta = f"{modes.get(path, '100644')} {blob}\t" if blob else f"0 {NOWHERE}\t"
        lines.append(meta.encode() + name + b"\0")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        done = git.call("update-index", "-z", "--index-info", input=b"".join(lines), env=env)
        if done.returncode == 0:
            break
        said = done.stderr.decode("utf-8", "replace").strip()
        if not wait or "index.lock" not in said or time.monotonic() > deadline:
            raise Conflict(
                f"the index could not be written: {said}", remedy="end the other git process, then the command again"
            )
        time.sleep(0.05)
    if wait:
        git.call("update-index", "-q", "--refresh", env={"GIT_OPTIONAL_LOCKS": "1"})


def _index_entries(tree: Git) -> dict[str, str]:
    found = {}
    for line in tree.run("ls-files", "--stage", "-z", "--full-name").split(b"\0"):
        meta, _, path = line.partition(b"\t")
        if path:
            found[path.decode("utf-8", "surrogateescape")] = meta.split()[1].decode()
    return found


def _modes(git: Git, commit: str) -> dict[str, str]:
    found = {}
    for line in git.run("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
        meta, _, path = line.partition(b"\t")
        if path:
            found[path.decode("utf-8", "surrogateescape")] = meta.split()[0].decode()
    return found


def _file_blob(tree: Git, path: str) -> str | None:
    """The blob that a file of the work tree would be; None when there is none."""
    target = tree.root / path
    if target.is_symlink() or not target.is_file():
        return None
    done = tree.run("hash-object", "--stdin", "--path", path, input=target.read_bytes())
    return done.decode().strip()


def _put_file(target: Path, data: bytes | None, mode: str | None) -> None:
    if data is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    if mode == "100755":
        temporary.chmod(temporary.stat().st_mode | 0o111)
    temporary.replace(target)


def _blob(git: Git, data: bytes) -> str:
    return git.run("hash-object", "-w", "--stdin", input=data).decode().strip()


def _committer(name: str, email: str) -> dict[str, str]:
    return {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}


@contextmanager
def _alone(git: Git) -> Iterator[None]:
    """Holds off other processes of this product; other git processes are met by compare-and-swap."""
    folder = git.common_dir / "cdl"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tip_of(git: Git, branch: str) -> str:
    """The commit of a branch. NotFound."""
    found = git.resolve(f"refs/heads/{branch}")
    if found is None:
        raise NotFound(f"no branch {branch}", remedy=f"git branch {branch}")
    return found
