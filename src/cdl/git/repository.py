"""A repository: every call to git goes through here, as an argument list, with refs after --end-of-options.

Reading takes no locks. Writing (commit.py, snapshot.py) never runs hooks and never touches what the person is doing.
"""

import errno
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from cdl.errors import CdlError, Conflict, NotFound, Unavailable
from cdl.git.refs import KEPT, Refs

OLDEST = (2, 38)  # merge-tree --write-tree
IDENT = re.compile(rb"(?P<name>.*) <(?P<email>[^<>]*)> (?P<time>\d+) (?P<zone>[+-]\d{4})")
INHERITED = (  # what a hook hands down: it would point a call at another repository or index
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
)  # fmt: skip
QUIET = (  # update-ref alone would run reference-transaction, an index that is written post-index-change
    "-c", "core.quotePath=false", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
)  # fmt: skip
PULLED = re.compile(r"pull\b.*: Fast-forward|fetch|clone|branch: Created")  # what a reflog says of others' commits
MADE = "cdl"  # what a reflog says of a commit made here
FETCHED = "fetch: cdl sync"  # of others' commits
REPLAYED = (
    "cdl replay onto "  # of commits made here that were made again on others', before the commit that they now follow
)
REF = re.compile(r"refs/[\w./+-]+")  # a ref's own name, without the marks of a revision (~ ^ @{ :)
NOWHERE = "refs/heads/.invalid"  # what HEAD names where refs are kept in a table
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a whole id: what it names never changes
FULL = re.compile(r"No space left on device|Out of diskspace|Disk quota exceeded")
UNWRITTEN = re.compile(r"unable to (write|create|append)|failed to write|Permission denied")
LOCKED = re.compile(
    r"Unable to create '(.+\.lock)': File exists"
)  # what git says of a lock that another holds, or left
REMEMBERED, LARGEST_REMEMBERED = 512, 1 << 16  # small files of commits that are not read from git again; bytes of one


class Person(msgspec.Struct, frozen=True):
    """Who is working, as git says it: declared, not proved."""

    name: str
    email: str


class Worktree(msgspec.Struct, frozen=True):
    """A work tree with the branch checked out there; None when detached."""

    path: Path
    branch: str | None


class Git:
    """The repository around a work tree's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._remembered: dict[tuple[str, str], bytes | None] = {}

    @classmethod
    def init(cls, root: Path, branch: str = "main") -> "Git":
        """Makes a repository in a folder."""
        git = cls(root)
        git.run("init", "--quiet", f"--initial-branch={branch}")
        return git

    def run(
        self, *arguments: str, input: bytes | None = None, env: Mapping[str, str] | None = None, check: bool = True
    ) -> bytes:
        """Standard output of a git command. CdlError with what git said when it fails and `check` is set."""
        done = self.call(*arguments, input=input, env=env)
        if check and done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
            refuse(said, self.root)
            remedy = "make room or give access, then the command again" if UNWRITTEN.search(said) else None
            raise CdlError(f"git {arguments[0]}: {said}", where=str(self.root), remedy=remedy)
        return done.stdout

    def call(
        self, *arguments: str, input: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """A git command with its exit code. Unavailable when there is no git."""
        around = {k: v for k, v in os.environ.items() if k not in INHERITED}
        around |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", **(env or {})}
        try:
            return subprocess.run(
                ["git", *QUIET, *arguments],
                cwd=self.root,
                input=b"" if input is None else input,
                env=around,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            if not self.root.is_dir():
                raise NotFound("no such folder", where=str(self.root)) from error
            raise Unavailable("git is not installed", remedy=f"install git {OLDEST[0]}.{OLDEST[1]} or newer") from error

    def text(self, *arguments: str, check: bool = True) -> str:
        """Standard output as text without the line end."""
        return self.run(*arguments, check=check).decode("utf-8", "surrogateescape").rstrip("\n")

    # who and where

    def person(self) -> Person:
        """Who is working. Unavailable when git knows no name."""
        done = self.call("var", "GIT_AUTHOR_IDENT")
        match = IDENT.match(done.stdout)
        if done.returncode != 0 or match is None:
            raise Unavailable(
                "git does not know who you are", remedy="git config user.name NAME; git config user.email MAIL"
            )
        return Person(match["name"].decode("utf-8", "replace"), match["email"].decode("utf-8", "replace"))

    @cached_property
    def _folders(self) -> tuple[Path, Path]:
        said = self.text("rev-parse", "--path-format=absolute", "--git-common-dir", "--absolute-git-dir")
        for at in (place for place, letter in enumerate(said) if letter == "\n"):  # a path may hold one itself
            shared, own = said[:at], said[at + 1 :]
            if own == shared or own.startswith(f"{shared}/"):
                return Path(shared).resolve(), Path(own).resolve()
        raise CdlError(f"git rev-parse: {said}", where=str(self.root))

    @property
    def common_dir(self) -> Path:
        """The folder that all work trees of this repository share."""
        return self._folders[0]

    @property
    def git_dir(self) -> Path:
        """The git folder of this work tree."""
        return self._folders[1]

    @cached_property
    def empty_tree(self) -> str:
        """The name of the tree without entries, in this repository's hash (SHA-1 or SHA-256)."""
        return self.run("hash-object", "-t", "tree", "--stdin").decode().strip()

    @property
    def nothing(self) -> str:
        """What stands where there is no object: zeros, as many as a name has digits."""
        return "0" * len(self.empty_tree)

    def whole(self) -> bool:
        """Whether all of history is here; in a shallow clone it is not."""
        return self.text("rev-parse", "--is-shallow-repository") == "false"

    def require_version(self) -> None:
        """Unavailable when git is too old for merging in memory."""
        found = tuple(int(n) for n in re.findall(r"\d+", self.text("version"))[:2])
        if found < OLDEST:
            raise Unavailable(
                f"git {found[0]}.{found[1]} is too old", remedy=f"install git {OLDEST[0]}.{OLDEST[1]} or newer"
            )

    def branch(self) -> str | None:
        """The branch checked out; None on a detached HEAD."""
        return self.text("symbolic-ref", "--quiet", "HEAD", check=False).removeprefix("refs/heads/") or None

    def head(self) -> str:
        """The commit checked out; NotFound before the first commit."""
        found = self.resolve("HEAD")
        if found is None:
            raise NotFound("there is no commit yet", where=str(self.root), remedy="git commit")
        return found

    @cached_property
    def _known(self) -> Refs:
        def ask() -> dict[str, str]:
            lines = self.text("for-each-ref", "--format=%(refname) %(objectname)", "--", *KEPT).split("\n")
            return {name: commit for name, _, commit in (line.rpartition(" ") for line in lines if line)}

        return Refs(self.common_dir, ask)

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision names, or None."""
        if revision == "HEAD":
            revision = self._checked_out()
        if revision.startswith(KEPT) and REF.fullmatch(revision):
            return self._known.now().get(revision)
        name = self.text("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}", check=False)
        return name or None

    def _checked_out(self) -> str:
        """The branch that HEAD names, as its file tells; 'HEAD' where git has to be asked: it is detached, or kept elsewhere."""
        said = (self.git_dir / "HEAD").read_bytes().decode("utf-8", "surrogateescape").rstrip()
        name = said.removeprefix("ref: ")
        return (
            name
            if name != said and name.startswith("refs/heads/") and REF.fullmatch(name) and name != NOWHERE
            else "HEAD"
        )

    def present(self, commits: Iterable[str]) -> list[str]:
        """Those of some commits, by their whole ids, that are here; in one process."""
        wanted = list(commits)
        if not wanted:
            return []
        asked = "".join(f"{commit}\n" for commit in wanted).encode()
        found = self.run("cat-file", "--batch-check=%(objecttype)", input=asked).splitlines()
        return [commit for commit, kind in zip(wanted, found, strict=True) if kind == b"commit"]

    def worktrees(self) -> list[Worktree]:
        """All work trees with their branches."""
        found: list[Worktree] = []
        for block in self.run("worktree", "list", "--porcelain", "-z").split(b"\0\0"):
            fields = dict(f.partition(b" ")[::2] for f in block.split(b"\0") if f)
            if b"worktree" not in fields or b"bare" in fields:
                continue
            branch = fields.get(b"branch")
            name = branch.decode("utf-8", "surrogateescape").removeprefix("refs/heads/") if branch else None
            found.append(Worktree(Path(os.fsdecode(fields[b"worktree"])), name))
        return found

    # reading

    def read(self, commit: str, path: str) -> bytes | None:
        """A file in a commit; None when it is not there."""
        if (commit, path) in self._remembered:
            return self._remembered[commit, path]
        data = self.read_many(commit, [path]).get(path)
        if COMMIT.fullmatch(commit) and len(data or b"") <= LARGEST_REMEMBERED and len(self._remembered) < REMEMBERED:
            self._remembered[commit, path] = data
        return data

    def read_many(self, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Files in a commit by path; those that are not there are left out."""
        wanted = list(paths)
        if not wanted:
            return {}
        found = self._batch([f"{commit}:{path}" for path in wanted])
        return {path: data for path, data in zip(wanted, found, strict=True) if data is not None}

    def files(self, commit: str, folder: str = "") -> dict[str, str]:
        """Paths and blobs of the files in a commit or tree, below a folder given with a final slash."""
        paths = [folder] if folder else []
        found = self.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *paths)
        files = {}
        for line in found.split(b"\0"):
            meta, _, path = line.partition(b"\t")
            if path and meta.split()[1] == b"blob":
                files[path.decode("utf-8", "surrogateescape")] = meta.split()[2].decode()
        return files

    def cat(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Blobs by name. NotFound names one that is missing."""
        wanted = sorted(set(blobs))
        found: dict[str, bytes | None] = dict(zip(wanted, self._batch(wanted), strict=True))
        missing = [name for name, data in found.items() if data is None]
        if missing:
            raise NotFound(f"git has no object {missing[0]}", where=str(self.root), remedy="git fsck")
        return {name: data for name, data in found.items() if data is not None}

    def _batch(self, names: list[str]) -> list[bytes | None]:
        """The bytes of each object, None for one that is missing, from one process."""
        if not names:
            return []
        asked = b"\n".join(n.encode("utf-8", "surrogateescape") for n in names) + b"\n"
        if any("\n" in n for n in names):
            raise CdlError("a path with a line end cannot be read from git here", remedy="rename the file")
        output = memoryview(self.run("cat-file", "--batch", input=asked))
        answers: list[bytes | None] = []
        position = 0
        for _ in names:
            end = bytes(output[position : position + 4096]).find(b"\n") + position
            header = bytes(output[position:end]).split()
            position = end + 1
            if header[-1] in (b"missing", b"ambiguous") or header[-2:-1] != [b"blob"]:
                size = int(header[-1]) + 1 if header[-1].isdigit() else 0
                answers.append(None)
                position += size
                continue
            size = int(header[-1])
            answers.append(bytes(output[position : position + size]))
            position += size + 1
        return answers

    # refs

    def refs(self, prefix: str) -> dict[str, str]:
        """Branches or own refs below a prefix with a final slash, and what they name."""
        return {name: commit for name, commit in self.every_ref().items() if name.startswith(prefix)}

    def every_ref(self) -> Mapping[str, str]:
        """All branches and own refs, and what they name; the same object again while none of them moved."""
        return self._known.now()

    def set_ref(self, ref: str, commit: str, old: str | None = None, *, because: str = MADE) -> None:
        """Points a ref at a commit; with `old`, only when it points there now (Conflict otherwise)."""
        expected = [old] if old is not None else []
        done = self.call("update-ref", "--create-reflog", "-m", because, "--end-of-options", ref, commit, *expected)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            refuse(said, self.root)
            raise Conflict(f"{ref} was moved by somebody else: {said}", remedy="the command again")

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is reachable from `new`."""
        return self.call("merge-base", "--is-ancestor", "--end-of-options", old, new).returncode == 0

    def made_here(self, commit: str, branch: str) -> bool:
        """Whether a commit of a branch was made in this clone, as its reflog says; a pulled one was not."""
        lines = self.text("reflog", "show", "--format=%H %gs", f"refs/heads/{branch}", "--", check=False).splitlines()
        said = [(new, because) for new, _, because in (line.partition(" ") for line in lines)]
        if any(new == commit and not PULLED.match(because) for new, because in said):
            return True
        replayed = [(new, because.removeprefix(REPLAYED)) for new, because in said if because.startswith(REPLAYED)]
        return any(commit in self.line(new, since=onto) for new, onto in replayed)

    def line(self, commit: str, *, since: str) -> list[str]:
        """The commits of a first-parent line after another commit, oldest first."""
        found = self.text("rev-list", "--first-parent", "--reverse", "--end-of-options", commit, f"^{since}", "--")
        return found.split()


def refuse(said: str, root: Path) -> None:
    """Raises what git says of the machine and not of its work: OSError for a full disk, Conflict for a lock.

    A lock is held by another process, or a killed one left it.
    """
    if FULL.search(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
    if (found := LOCKED.search(said)) is not None:
        raise Conflict(
            "another git process holds this lock",
            where=found[1],
            remedy="end it, or remove the file when there is none; then the command again",
        )
