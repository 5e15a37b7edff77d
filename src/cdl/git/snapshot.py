"""A snapshot: the whole work tree, dirty or not, as a commit. Index and work tree are left as they are.

Ignored files are left out by git; large and secret-looking ones, and paths that the caller excludes, are left out and named.
"""

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from cdl.git.commit import make_commit
from cdl.git.repository import Git

LARGEST = 10_000_000  # bytes of a file that a snapshot keeps
SECRET = re.compile(
    r"(^|/)(\.env(\..*)?|.*\.pem|.*\.key|id_(rsa|dsa|ecdsa|ed25519)|credentials(\..*)?|keyring|\.netrc|\.pypirc)$"
)


@dataclass(frozen=True)
class Snapshot:
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
        shutil.copyfile(real, index)
    env = {"GIT_INDEX_FILE": str(index), "GIT_OPTIONAL_LOCKS": "1"}
    try:
        left_out = [path for path in _changed(git, env) if _unwanted(git, path, exclude)]
        skipped = [f":(exclude,literal,top){p}" for p in left_out]
        git.run("add", "--all", "--", ".", *skipped, env=env)
        tree = git.run("write-tree", env=env).decode().strip()
    finally:
        index.unlink(missing_ok=True)
    if head is not None and git.text("rev-parse", f"{head}^{{tree}}") == tree:
        return Snapshot(head, tree, tuple(left_out), False)
    return Snapshot(make_commit(git, tree, [head] if head else [], "snapshot\n"), tree, tuple(left_out), True)


def _changed(git: Git, env: dict[str, str]) -> list[str]:
    """Paths that `add` would look at: untracked and changed ones."""
    found = git.run("ls-files", "-z", "--others", "--modified", "--exclude-standard", "--full-name", ":(top)", env=env)
    return sorted({p.decode("utf-8", "surrogateescape") for p in found.split(b"\0") if p})


def _unwanted(git: Git, path: str, exclude: Sequence[str]) -> bool:
    target = git.root / path
    if any(path == e.rstrip("/") or path.startswith(e.rstrip("/") + "/") for e in exclude):
        return True
    if SECRET.search(path):
        return True
    return target.is_file() and not target.is_symlink() and target.stat().st_size > LARGEST
