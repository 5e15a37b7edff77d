"""Reads what commits changed in a folder, many commits in two git processes.

`rev-list` names the commits, `diff-tree --stdin` says what each changed against its first parent; merges and root commits
included, which a path-limited `git log` may leave out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cdl.git.repository import Git

NO_BLOB = "0"


@dataclass(frozen=True)
class ScannedChange:
    """A path with its blob before and after; None where there was or is none."""

    path: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class ScannedCommit:
    """A commit, its author, and what it changed in the folder against its first parent."""

    id: str
    author_email: str
    author_time: int
    changes: tuple[ScannedChange, ...]


def scan(
    git: Git, tips: Iterable[str], known: Iterable[str], *, folder: str = "registry", first_parent: bool = False
) -> Iterator[ScannedCommit]:
    """Commits reachable from `tips` but not from `known` that changed `folder`, parents first."""
    wanted = "\n".join([*tips, *(f"^{k}" for k in known)]) + "\n"
    options = ["--first-parent"] if first_parent else []
    commits = git.run("rev-list", "--topo-order", "--reverse", *options, "--stdin", input=wanted.encode())
    if not commits:
        return
    shown = git.run(
        "diff-tree", "--stdin", "--root", "-r", "--raw", "--no-abbrev", "--no-renames", "-z",
        "--diff-merges=first-parent", "--format=%x01%H%x02%ae%x02%at", "--", folder,
        input=commits,
    )  # fmt: skip
    for block in shown.split(b"\x01")[1:]:
        yield _parse(block)


def _parse(block: bytes) -> ScannedCommit:
    header, _, rest = block.partition(b"\0")
    identity, email, time = header.decode("utf-8", "replace").split("\x02")
    fields = rest.lstrip(b"\n").split(b"\0")
    changes = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        if not meta.startswith(b":"):
            continue
        _, _, old, new, _ = meta.decode().split(" ")
        changes.append(ScannedChange(path.decode("utf-8", "surrogateescape"), _blob(old), _blob(new)))
    return ScannedCommit(identity, email, int(time), tuple(changes))


def _blob(name: str) -> str | None:
    return None if set(name) == {NO_BLOB} else name
