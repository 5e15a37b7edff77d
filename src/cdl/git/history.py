"""Commits and what each changed, read by plumbing so that no setting of the person's alters the answer.

    CommitInfo(id="4f5e...", parents=("9ac1...",), author_name="Ada", author_email="ada@example.org", author_time=1795000000,
               subject="label release: l-1a2b3c4d", trailers={"Cdl-Record": ("l-1a2b...",)})
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cdl.git.process import GitProcess, text_of

FIELDS = "%H%x00%P%x00%an%x00%ae%x00%at%x00%s%x00%(trailers:only,unfold,separator=%x01,key_value_separator=%x02)"
FIELD_COUNT = 7


@dataclass(frozen=True, kw_only=True)
class CommitInfo:
    """A commit; `author_time` in seconds since 1970, `trailers` with every value of each key, in order."""

    id: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    author_time: int
    subject: str
    trailers: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in a tree or an index: its mode ("100644", ...) and its blob."""

    mode: str
    blob: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A path with its blob before and after; None where there was or is none."""

    path: str
    old: str | None
    new: str | None


def log(git: GitProcess, rev: str, *, since: str | None = None, first_parent: bool = True) -> list[CommitInfo]:
    """The commits reachable from `rev` but not from `since`, newest first. GitFailed for an unknown name."""
    options = ["--first-parent"] if first_parent else []
    limits = [f"^{since}"] if since else []
    out = git.run(
        "log", "-z", "--no-show-signature", "--encoding=UTF-8", "--no-color", f"--format={FIELDS}", *options,
        "--end-of-options", rev, *limits, "--",
    )  # fmt: skip
    fields = out.split(b"\0")[:-1]
    return [_commit(fields[at : at + FIELD_COUNT]) for at in range(0, len(fields), FIELD_COUNT)]


def changes(git: GitProcess, commit: str, prefix: str = "") -> list[Change]:
    """What a commit changed against its first parent, in one folder or everywhere; root commits and merges too."""
    out = git.run(
        "diff-tree", "--root", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-commit-id",
        "--diff-merges=first-parent", "--end-of-options", commit, "--", *([prefix] if prefix else []),
    )  # fmt: skip
    return [
        Change(path=path, old=old and old.blob, new=new and new.blob) for path, (old, new) in parse_raw(out).items()
    ]


def difference(git: GitProcess, old: str | None, new: str) -> dict[str, tuple[Entry | None, Entry | None]]:
    """Path -> entry before and after, of all that differs between two commits; `old` None is the empty tree."""
    base = old or git.run("hash-object", "-t", "tree", "--stdin").decode().strip()
    out = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", base, new)
    return parse_raw(out)


def parse_raw(out: bytes) -> dict[str, tuple[Entry | None, Entry | None]]:
    """The output of `diff-tree -z --raw --no-abbrev`: ":100644 100755 <old> <new> M" NUL path NUL ..."""
    fields = out.split(b"\0")[:-1]
    found = {}
    for facts, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, old, new, _ = facts.decode().removeprefix(":").split(" ")
        found[text_of(path)] = (_entry(old_mode, old), _entry(new_mode, new))
    return found


def _entry(mode: str, blob: str) -> Entry | None:
    return None if set(mode) == {"0"} else Entry(mode=mode, blob=blob)


def _commit(fields: list[bytes]) -> CommitInfo:
    identity, parents, name, email, time, subject, trailers = (f.decode("utf-8", "replace") for f in fields)
    values: dict[str, tuple[str, ...]] = {}
    for line in trailers.split("\x01"):
        key, found, value = line.partition("\x02")
        if found:
            values[key] = (*values.get(key, ()), value)
    return CommitInfo(
        id=identity,
        parents=tuple(parents.split()),
        author_name=name,
        author_email=email,
        author_time=int(time),
        subject=subject,
        trailers=values,
    )
