"""Blobs, trees and commits: read in batches, written without touching the work tree or the person's index.

One `cat-file --batch` answers any number of questions:

    in:   4f5e...:registry/models/news.yaml NUL ...
    out:  9ac1... blob 57 LF <57 bytes> LF          or    4f5e...:registry/models/news.yaml missing LF
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdl.git.process import GitProcess, bytes_of, text_of

FILE_MODE = "100644"
LINK_MODE = "120000"
MODULE_MODE = "160000"
"""A submodule: its object is a commit of another repository."""


def read_objects(git: GitProcess, names: Iterable[str]) -> dict[str, bytes]:
    """The bytes of the blobs among `names` (ids, or "commit:path"); what is missing or no blob is left out."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    asked = [bytes_of(name) for name in wanted]
    out = git.run("cat-file", "--batch", "-z", input=b"".join(a + b"\0" for a in asked))
    found, at = {}, 0
    for name, question in zip(wanted, asked, strict=True):
        missing = question + b" missing\n"
        if out.startswith(missing, at):
            at += len(missing)
            continue
        end = out.index(b"\n", at)
        _, kind, size = out[at:end].split(b" ")
        if kind == b"blob":
            found[name] = out[end + 1 : end + 1 + int(size)]
        at = end + 1 + int(size) + 1
    return found


def read_files(git: GitProcess, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
    """The files of a commit at `paths`; those that it lacks are left out."""
    start = f"{commit}:"
    found = read_objects(git, [start + path for path in paths])
    return {name.removeprefix(start): data for name, data in found.items()}


def list_files(git: GitProcess, commit: str, prefix: str = "") -> dict[str, str]:
    """Path -> blob id of all files of a commit (or tree), or of one folder or file of it. Submodules are left out."""
    where = ["--", prefix] if prefix else []
    out = git.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *where)
    found = {}
    for line in out.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        _, kind, blob = facts.decode().split()
        if kind == "blob":
            found[text_of(path)] = blob
    return found


def write_blobs(git: GitProcess, contents: Sequence[bytes]) -> list[str]:
    """Writes blobs exactly as given, no filter applied; their ids in the same order."""
    if len(contents) == 1:
        return [git.run("hash-object", "-w", "--stdin", "--no-filters", input=contents[0]).decode().strip()]
    with tempfile.TemporaryDirectory(prefix="blobs-", dir=git.own_dir) as folder:
        places = [Path(folder) / str(number) for number in range(len(contents))]
        for place, data in zip(places, contents, strict=True):
            place.write_bytes(data)
        return git.run(
            "hash-object", "-w", "--stdin-paths", "--no-filters", input=b"".join(bytes(p) + b"\n" for p in places)
        ).decode().split()  # fmt: skip


@contextmanager
def temporary_index(git: GitProcess) -> Iterator[Path]:
    """A place for an index of our own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="index-", dir=git.own_dir) as folder:
        yield Path(folder) / "index"


def index_line(path: str, mode: str, blob: str) -> bytes:
    """A line for `update-index -z --index-info`."""
    return f"{mode} {blob}\t".encode() + bytes_of(path) + b"\0"


def removal_line(path: str, digits: int) -> bytes:
    """The line for `update-index -z --index-info` that removes a path; `digits` is the length of an id."""
    return index_line(path, "0", "0" * digits)


def make_tree(git: GitProcess, base: str | None, files: Mapping[str, bytes | None]) -> str:
    """The tree of `base` (a commit or tree; None is empty) with `files` written over it; None removes a path.

    A file that stands in `base` keeps its mode. GitFailed where a path is a folder of `base`, or lies below a file of it.
    """
    written = [path for path, data in files.items() if data is not None]
    blobs = dict(zip(written, write_blobs(git, [data for data in files.values() if data is not None]), strict=True))
    with temporary_index(git) as index:
        env = {"GIT_INDEX_FILE": str(index)}
        modes: dict[str, str] = {}
        if base is None:
            git.run("read-tree", "--empty", env=env)
        else:
            git.run("read-tree", f"{base}^{{tree}}", env=env)
            modes = _modes(git, base, written)
        digits = len(git.run("write-tree", env=env).strip())
        lines = [removal_line(path, digits) for path, data in files.items() if data is None]
        lines += [index_line(path, modes.get(path, FILE_MODE), blob) for path, blob in blobs.items()]
        git.run("update-index", "-z", "--index-info", input=b"".join(lines), env=env)
        return git.run("write-tree", env=env).decode().strip()


def _modes(git: GitProcess, base: str, paths: list[str]) -> dict[str, str]:
    """The modes of the plain files among `paths` that stand in `base`."""
    if not paths:
        return {}
    out = git.run("ls-tree", "-r", "-z", "--full-tree", base, "--", *(paths if len(paths) <= 200 else []))
    found = {}
    for line in out.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode = facts.decode().split()[0]
        if mode not in (LINK_MODE, MODULE_MODE):
            found[text_of(path)] = mode
    return found


def make_commit(
    git: GitProcess, tree: str, parents: Iterable[str], message: str, env: Mapping[str, str] | None = None
) -> str:
    """A commit by the person, in memory: no ref, no hook. GitFailed where git knows no name and address."""
    options = [option for parent in dict.fromkeys(parents) for option in ("-p", parent)]
    return git.run("commit-tree", *options, "-F", "-", tree, input=message.encode(), env=env).decode().strip()
