"""Reads what commits changed in a folder, many commits in two git processes.

`rev-list` names the commits, `diff-tree --stdin` says what each changed against its first parent; merges and root commits
included, which a path-limited `git log` may leave out.
"""

from collections.abc import Iterable, Iterator

import msgspec

from cdl.git.repository import Git

NO_BLOB = "0"


class ScannedChange(msgspec.Struct, frozen=True):
    """A path with its blob before and after; None where there was or is none."""

    path: str
    old: str | None
    new: str | None


class ScannedCommit(msgspec.Struct, frozen=True):
    """A commit, its author, its subject line, and what it changed in the folder against its first parent."""

    id: str
    author_email: str
    author_time: int
    merge: bool
    subject: str
    changes: tuple[ScannedChange, ...]


def scan(
    git: Git,
    tips: Iterable[str],
    known: Iterable[str],
    *,
    folder: str = "registry",
    first_parent: bool = False,
    every_parent: bool = False,
) -> Iterator[ScannedCommit]:
    """Commits reachable from `tips` but not from `known` that changed `folder`, parents first.

    With `every_parent` a merge comes once for each parent that it differs from.
    """
    wanted = "\n".join([*tips, *(f"^{k}" for k in known)]) + "\n"
    options = ["--first-parent"] if first_parent else []
    commits = git.run("rev-list", "--topo-order", "--reverse", *options, "--stdin", input=wanted.encode())
    if not commits:
        return
    merges = "separate" if every_parent else "first-parent"
    shown = git.run(
        "diff-tree", "--stdin", "--root", "-r", "--raw", "--no-abbrev", "--no-renames", "-z",
        f"--diff-merges={merges}", "--format=%x01%H%x02%at%x02%ae%x02%P%x02%s", "--", folder,
        input=commits,
    )  # fmt: skip
    yield from _parse(shown.split(b"\0"))


def _parse(fields: list[bytes]) -> Iterator[ScannedCommit]:
    """Commits from fields that end with NUL: a header, then for each change what it is and its path."""
    header: list[str] | None = None
    changes: list[ScannedChange] = []
    rest = iter(fields)
    for field in rest:
        if field.lstrip(b"\n").startswith(b":"):
            _, _, old, new, _ = field.lstrip(b"\n").decode().split(" ")
            changes.append(ScannedChange(next(rest).decode("utf-8", "surrogateescape"), _blob(old), _blob(new)))
        elif field.startswith(b"\x01"):
            if header is not None:
                yield _commit(header, changes)
            header, changes = field[1:].decode("utf-8", "replace").split("\x02", 4), []
    if header is not None:
        yield _commit(header, changes)


def _commit(header: list[str], changes: list[ScannedChange]) -> ScannedCommit:
    identity, time, email, parents, subject = header
    return ScannedCommit(identity, email, int(time), " " in parents, subject, tuple(changes))


def _blob(name: str) -> str | None:
    return None if set(name) == {NO_BLOB} else name
