"""What differs between two commits: files with their lines, and a unified difference. No program of the project is asked."""

from collections.abc import Sequence

import msgspec

from cdl.git.repository import Git

OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """A file that differs: lines added and removed; None where it is not text. `kind`: added, removed, changed."""

    path: str
    kind: str
    added: int | None
    removed: int | None


def changes(git: Git, first: str, second: str) -> list[FileChange]:
    """The files that differ between two commits, by path."""
    kinds = {"A": "added", "D": "removed"}
    told = git.run("diff", *OPTIONS, "--name-status", "-z", "--end-of-options", first, second).split(b"\0")
    kind = dict(zip(told[1::2], told[0::2], strict=False))
    found = []
    for line in git.run("diff", *OPTIONS, "--numstat", "-z", "--end-of-options", first, second).split(b"\0"):
        added, _, rest = line.partition(b"\t")
        removed, _, path = rest.partition(b"\t")
        if path:
            found.append(
                FileChange(
                    path=path.decode("utf-8", "surrogateescape"),
                    kind=kinds.get(kind.get(path, b"M").decode(), "changed"),
                    added=int(added) if added.isdigit() else None,
                    removed=int(removed) if removed.isdigit() else None,
                )
            )
    return sorted(found, key=lambda c: c.path)


def unified(git: Git, first: str, second: str, paths: Sequence[str]) -> str:
    """The unified difference of some files between two commits."""
    if not paths:
        return ""
    done = git.run("diff", *OPTIONS, "--unified=3", "--end-of-options", first, second, "--", *paths, env=LITERAL)
    return done.decode("utf-8", "replace")
