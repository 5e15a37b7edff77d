"""Work tree and index follow a branch that moves, for the paths that differ, under git's own index.lock.

Of each path there are four states: in the old commit, in the new one, in the index, in the work tree. Index and work tree must
each be as the old commit or already as the new one; anything else is the person's and is named before something moves.

    path                    old      new      index    work tree
    registry/models/n.yaml  a1       b2       a1       a1           both are written
    cdl.yaml                -        c3       -        c3           untracked, but what is committed: the index follows
    cdl.yaml                -        c3       -        d4           Conflict

A branch moves between the two: the index follows before, the work tree after. `git commit` reads first HEAD, then the index,
and only then takes index.lock: so it never holds the old index for the new HEAD, and would not take back what was committed here.

While it works, index.lock holds MARK, so that the next command knows what a kill left from what another git holds.
"""

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cdl.errors import Conflict
from cdl.git.repository import Git

LOCK_SECONDS = 30.0  # waiting for another process's index.lock
MARK = b"cdl\n"
LINK, MODULE = "120000", "160000"
FEW = 200  # paths that are named on a command line; of more, all are asked for


class Entry(msgspec.Struct, frozen=True):
    """A file in a tree, an index or a work tree: mode and blob."""

    mode: str
    blob: str


OTHER = Entry("other", "")  # a conflict in the index, a folder or a link in the way: nothing that we may write over


class State(msgspec.Struct, frozen=True):
    """A path in the old and the new commit, the index and the work tree; None where it is not there."""

    old: Entry | None
    new: Entry | None
    index: Entry | None
    work: Entry | None

    @property
    def undisturbed(self) -> bool:
        """Whether nothing of the person's would be lost."""
        return self.index in (self.old, self.new) and self.work in (self.old, self.new)


Difference = Mapping[str, tuple[Entry | None, Entry | None]]


def difference(git: Git, old: str | None, new: str) -> Difference:
    """Path -> entry before and after, of all that differs between two commits; `old` None is the empty tree."""
    out = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old or git.empty_tree, new)
    fields = out.split(b"\0")[:-1]
    found = {}
    for facts, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, before, after, _ = facts.decode().removeprefix(":").split(" ")
        found[os.fsdecode(path)] = (_entry(old_mode, before), _entry(new_mode, after))
    return found


def states(tree: Git, changes: Difference) -> dict[str, State]:
    """How the changed paths stand in a work tree."""
    index = _index(tree, changes)
    work = _work(tree, changes)
    return {path: State(old, new, index.get(path), work[path]) for path, (old, new) in changes.items()}


def stage(tree: Git, entries: Mapping[str, Entry | None]) -> None:
    """Sets entries of the index, or removes them, in one rename. The caller holds `index_lock`."""
    if entries:
        with _index_made(tree) as env:
            _set(tree, entries, env)


def follow(tree: Git, found: Mapping[str, State]) -> None:
    """Writes to index and work tree what is not as in the new commit yet. The caller holds `index_lock`.

    The work tree is written first, then the index in one rename. What is neither old nor new is left as it is.
    """
    entries = {path: s.new for path, s in found.items() if s.index == s.old and s.old != s.new}
    files = [path for path, s in found.items() if s.work == s.old and s.old != s.new and not _module(s.old, s.new)]
    if not entries and not files:
        return
    with _index_made(tree) as env:
        _set(tree, entries, env)
        _remove(tree.root, [path for path in files if found[path].new is None])
        written = [os.fsencode(path) + b"\0" for path in files if found[path].new is not None]
        tree.run("checkout-index", "-z", "-f", "-u", "--stdin", input=b"".join(written), env=env)
        if len(files) < len(found):
            tree.call("update-index", "-q", "--refresh", env=env)  # its exit code tells of the person's changes only


@contextmanager
def _index_made(tree: Git) -> Iterator[Mapping[str, str]]:
    """A copy of the index to change, as GIT_INDEX_FILE; it takes the place of the index at the end."""
    index = tree.git_dir / "index"
    made = tree.git_dir / f"cdl-index-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if index.exists():
            shutil.copy2(index, made)  # with its time, by which git knows which entries to look at again
        yield {"GIT_INDEX_FILE": str(made)}
        made.replace(index)
    finally:
        made.unlink(missing_ok=True)


def _set(tree: Git, entries: Mapping[str, Entry | None], env: Mapping[str, str]) -> None:
    if not entries:
        return
    lines = sorted((index_line(tree, path, new) for path, new in entries.items()), key=lambda line: line[:2] != b"0 ")
    tree.run("update-index", "-z", "--index-info", input=b"".join(lines), env=env)


@contextmanager
def index_lock(tree: Git) -> Iterator[None]:
    """Holds index.lock of a work tree. Conflict names it when another process holds it for 30 s.

    The caller holds the product's own lock: a lock with MARK is then one that a killed command left.
    """
    lock = tree.git_dir / "index.lock"
    for left in [*tree.git_dir.glob("cdl-index-*"), *tree.git_dir.glob("cdl-lock-*")]:
        left.unlink()  # of a killed command
    marked = tree.git_dir / f"cdl-lock-{os.getpid()}-{secrets.token_hex(4)}"
    marked.write_bytes(MARK)
    try:
        _take(lock, marked)
    finally:
        marked.unlink()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: Path, marked: Path) -> None:
    deadline, pause = time.monotonic() + LOCK_SECONDS, 0.01
    while True:
        try:
            os.link(marked, lock)
        except FileExistsError as error:
            if _left_by_us(lock):
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise Conflict(
                    "another git process holds the index",
                    where=str(lock),
                    remedy="end it, or remove the file when there is none; then the command again",
                ) from error
            else:
                time.sleep(pause)
                pause = min(2 * pause, 0.5)
        else:
            return


def _left_by_us(lock: Path) -> bool:
    try:
        return lock.read_bytes() == MARK
    except FileNotFoundError:
        return False


def unfinished(tree: Git, path: str, state: State) -> bool:
    """Whether a kill stopped the writing of a file: it is gone, or holds the beginning of what it was to hold."""
    if state.new is None or state.new.mode == MODULE or state.work == OTHER:
        return False
    if state.work is None:
        return True
    whole = tree.cat([state.new.blob])[state.new.blob]
    target = tree.root / path
    return not target.is_symlink() and whole.startswith(target.read_bytes())


def _index(tree: Git, paths: Iterable[str]) -> dict[str, Entry]:
    wanted = set(paths)
    named = ["--", *wanted] if len(wanted) <= FEW else []
    found: dict[str, Entry] = {}
    out = tree.run("ls-files", "--stage", "-z", "--full-name", *named, env={"GIT_LITERAL_PATHSPECS": "1"})
    for line in out.split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        mode, blob, stage = facts.decode().split(" ")
        path = os.fsdecode(name)
        if path in wanted:
            found[path] = Entry(mode, blob) if stage == "0" else OTHER
    return found


def _work(tree: Git, changes: Difference) -> dict[str, Entry | None]:
    going = {path for path, (old, new) in changes.items() if new is None}
    found: dict[str, Entry | None] = {}
    plain: dict[str, str] = {}
    for path, (old, new) in changes.items():
        kind = _kind(tree.root, path, going)
        if _module(old, new):
            found[path] = old  # a submodule's folder is left to the person, as git's own merge does
        elif kind in (None, OTHER.mode):
            found[path] = OTHER if kind else None
        elif kind == LINK:
            target = os.fsencode(os.readlink(tree.root / path))
            found[path] = Entry(LINK, tree.run("hash-object", "--stdin", input=target).decode().strip())
        else:
            plain[path] = str(kind)
    for path, blob in _hash(tree, list(plain)).items():
        found[path] = _same_mode(tree, Entry(plain[path], blob), changes[path])
    return found


def _kind(root: Path, path: str, going: set[str]) -> str | None:
    """The mode of a file of the work tree; None where there is none, OTHER's where something else is in the way."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if not os.path.lexists(root / folder):
            return None
        if (root / folder).is_symlink() or not (root / folder).is_dir():
            return None if folder in going else OTHER.mode
    if not os.path.lexists(root / path):
        return None
    mode = (root / path).lstat().st_mode
    if stat.S_ISLNK(mode):
        return LINK
    if stat.S_ISREG(mode):
        return "100755" if mode & stat.S_IXUSR else "100644"
    below = (f.relative_to(root).as_posix() for f in (root / path).rglob("*") if f.is_symlink() or not f.is_dir())
    return None if stat.S_ISDIR(mode) and all(f in going for f in below) else OTHER.mode


def _hash(tree: Git, paths: list[str]) -> dict[str, str]:
    """The blobs that files would become, with the filters that git applies to them."""
    listed = [p for p in paths if "\n" not in p and not p.startswith('"')]
    asked = b"".join(os.fsencode(p) + b"\n" for p in listed)
    blobs = tree.run("hash-object", "--stdin-paths", input=asked).decode().split() if listed else []
    alone = {p: tree.run("hash-object", "--", p).decode().strip() for p in paths if p not in set(listed)}
    return {**dict(zip(listed, blobs, strict=True)), **alone}


def _same_mode(tree: Git, entry: Entry, wanted: tuple[Entry | None, Entry | None]) -> Entry:
    """The entry with the mode that git takes it to have: where core.fileMode is off, that of the commit."""
    equal = [w for w in wanted if w is not None and w.blob == entry.blob and w.mode != LINK]
    if entry in wanted or not equal:
        return entry
    off = tree.text("config", "--type=bool", "--get", "core.fileMode", check=False) == "false"
    return equal[0] if off else entry


def _remove(root: Path, paths: Iterable[str]) -> None:
    """Removes files and the folders that become empty."""
    for path in paths:
        (root / path).unlink(missing_ok=True)
        for folder in (root / path).parents:
            if folder == root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def index_line(git: Git, path: str, entry: Entry | None) -> bytes:
    """A line for `update-index -z --index-info` that sets an entry, or removes it."""
    facts = f"{entry.mode} {entry.blob}\t" if entry else f"0 {git.nothing}\t"
    return facts.encode() + os.fsencode(path) + b"\0"


def _module(*entries: Entry | None) -> bool:
    return any(e is not None and e.mode == MODULE for e in entries)


def _entry(mode: str, blob: str) -> Entry | None:
    return None if set(mode) == {"0"} else Entry(mode, blob)
