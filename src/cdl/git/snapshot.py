"""A snapshot: the whole work tree, dirty or not, as a commit. Index and work tree are left as they are.

Ignored files are left out by git; large and secret-looking ones, repositories inside this one, and paths that the caller
excludes are left out and named: a new one is missing, a changed one stands as in HEAD, staged or not.
"""

import os
import re
import secrets
import shutil
from collections.abc import Sequence

import msgspec

from cdl.git.commit import make_commit
from cdl.git.follow import difference, index_line
from cdl.git.repository import Git

LARGEST = 10_000_000  # bytes of a file that a snapshot keeps
SECRET = re.compile(
    r"(^|/)(\.env(\..*)?|.*\.pem|.*\.key|id_(rsa|dsa|ecdsa|ed25519)|credentials(\..*)?|keyring|\.netrc|\.pypirc)$"
)
FIELDS = {b"1": 8, b"u": 10, b"?": 1}  # before the path, in each kind of line of `status --porcelain=v2`


class Snapshot(msgspec.Struct, frozen=True):
    """A commit of the work tree; `dirty` says whether it differs from HEAD. `left_out` names what was not kept."""

    commit: str
    tree: str
    left_out: tuple[str, ...]
    dirty: bool


def snapshot(git: Git, *, exclude: Sequence[str] = ()) -> Snapshot:
    """The work tree as a commit whose parent is HEAD; HEAD itself when nothing differs. No ref is set."""
    head = git.resolve("HEAD")
    index = git.common_dir / "cdl" / f"snapshot-{os.getpid()}-{secrets.token_hex(4)}"
    index.parent.mkdir(parents=True, exist_ok=True)
    real = git.git_dir / "index"
    if real.exists():
        shutil.copy2(real, index)  # with its time, by which git knows which entries to look at again
    env = {"GIT_INDEX_FILE": str(index), "GIT_OPTIONAL_LOCKS": "1"}
    try:
        changed = _changed(git, env)
        if head is not None and not changed:
            return Snapshot(head, git.text("rev-parse", f"{head}^{{tree}}"), (), False)
        left_out = sorted(path for path in changed if _unwanted(git, path, exclude))
        kept = sorted(changed - set(left_out))
        _stage(git, kept, env)
        _as_committed(git, head, left_out, env)
        tree = git.run("write-tree", env=env).decode().strip()
    finally:
        index.unlink(missing_ok=True)
    if head is not None and git.text("rev-parse", f"{head}^{{tree}}") == tree:
        return Snapshot(head, tree, tuple(left_out), False)
    return Snapshot(make_commit(git, tree, [head] if head else [], "snapshot\n"), tree, tuple(left_out), True)


def _changed(git: Git, env: dict[str, str]) -> set[str]:
    """Paths whose index entry or file is not as in HEAD; a repository inside this one ends with a slash."""
    looked = git.run(
        "status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty", env=env
    )
    lines = [line for line in looked.split(b"\0") if line[:1] in FIELDS]
    return {os.fsdecode(line.split(b" ", FIELDS[line[:1]])[-1]) for line in lines}


def _stage(git: Git, paths: Sequence[str], env: dict[str, str]) -> None:
    """Takes files into the index as they stand in the work tree; removes those that are gone."""
    asked = b"".join(os.fsencode(path) + b"\0" for path in paths)
    git.run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", input=asked, env=env)


def _as_committed(git: Git, head: str | None, paths: Sequence[str], env: dict[str, str]) -> None:
    """Sets index entries to those of HEAD, or removes them."""
    committed = difference(git, None, head) if head and paths else {}
    lines = [index_line(git, path, committed.get(path, (None, None))[1]) for path in paths if not path.endswith("/")]
    git.run("update-index", "-z", "--index-info", input=b"".join(lines), env=env)


def _unwanted(git: Git, path: str, exclude: Sequence[str]) -> bool:
    target = git.root / path
    if path.endswith("/"):
        return True
    if any(path == e.rstrip("/") or path.startswith(e.rstrip("/") + "/") for e in exclude):
        return True
    if SECRET.search(path):
        return True
    return target.is_file() and not target.is_symlink() and target.stat().st_size > LARGEST
