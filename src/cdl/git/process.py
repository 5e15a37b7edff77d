"""One call to git: an argument list, a clean environment, bytes in and out.

Variables that a hook hands down (GIT_DIR, GIT_INDEX_FILE, ...) would point a call at the wrong repository or index, so they are
dropped; the person's GIT_AUTHOR_* and GIT_COMMITTER_* stay. Paths are literal, messages are in one language, nothing asks for a
password, and no hook runs: `update-ref` alone would start `reference-transaction`, an index that is written
`post-index-change`.

    GitProcess(root).run("rev-parse", "--verify", "--end-of-options", "main")     -> b"4f5e...\\n"
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from cdl.errors import Conflict, NotFound, Unavailable

OLDEST = (2, 38)
"""The first git whose `merge-tree` merges in memory and whose `cat-file --batch` takes names that end in NUL."""

HANDED_DOWN = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INDEX_VERSION",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_WORK_TREE",
)
FIXED = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "i18n.commitEncoding=UTF-8")


class GitFailed(Conflict):
    """git refused; its own words are the message."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call to git gave: exit status, standard output, standard error."""

    code: int
    out: bytes
    err: str


class GitProcess:
    """Calls git in one work tree. Holds nothing but paths; safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def git_dir(self) -> Path:
        """The folder of this work tree's HEAD and index. NotFound where `root` is not the top of a work tree."""
        return git_dir(self.root)

    @cached_property
    def common_dir(self) -> Path:
        """The folder of refs and objects, one for all work trees."""
        pointer = self.git_dir / "commondir"
        return (self.git_dir / pointer.read_text().strip()).resolve() if pointer.is_file() else self.git_dir

    @property
    def own_dir(self) -> Path:
        """The folder for files of our own beside git's; made when missing."""
        folder = self.common_dir / "cdl"
        folder.mkdir(exist_ok=True)
        return folder

    def call(self, *args: str, input: bytes | None = None, env: Mapping[str, str] | None = None) -> Answer:
        """Calls git and says how it ended. Unavailable where git is missing or too old."""
        require_git()
        return _call([*OPTIONS, *args], self.root, input, {**environment(), **(env or {})})

    def run(
        self, *args: str, input: bytes | None = None, env: Mapping[str, str] | None = None, check: bool = True
    ) -> bytes:
        """Calls git and gives its standard output. GitFailed where it fails, unless `check` is False."""
        answer = self.call(*args, input=input, env=env)
        if check and answer.code != 0:
            raise GitFailed(f"git {args[0]}: {answer.err.strip() or f'ended with {answer.code}'}", where=str(self.root))
        return answer.out


def environment() -> dict[str, str]:
    """The environment of every call: the person's, without what a hook handed down."""
    kept = {name: value for name, value in os.environ.items() if name not in HANDED_DOWN}
    for what in ("NAME", "EMAIL"):
        if f"GIT_AUTHOR_{what}" in kept:
            kept.setdefault(f"GIT_COMMITTER_{what}", kept[f"GIT_AUTHOR_{what}"])
    return {**kept, **FIXED}


def git_dir(root: Path) -> Path:
    """The git folder of a work tree: `.git`, or where the file `.git` points to. NotFound where there is none."""
    place = root / ".git"
    if place.is_dir():
        return place.resolve()
    if place.is_file():
        text = place.read_text().strip()
        return (root / text.removeprefix("gitdir: ")).resolve()
    raise NotFound("not the top folder of a git work tree", where=str(root), remedy="git init, or cdl init")


@cache
def require_git() -> None:
    """Unavailable where git is missing or older than 2.38. Asked once a process."""
    answer = _call(["version"], Path("/"), None, environment())
    found = re.match(r"git version (\d+)\.(\d+)", answer.out.decode("utf-8", "replace"))
    if found is None:
        raise Unavailable(f"git answers {answer.out!r} when asked for its version", remedy="install git 2.38 or newer")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise Unavailable(f"git {found[1]}.{found[2]} is too old", remedy="install git 2.38 or newer")


def _call(args: list[str], folder: Path, input: bytes | None, env: Mapping[str, str]) -> Answer:
    try:
        done = subprocess.run(["git", *args], cwd=folder, input=input or b"", env=env, capture_output=True, check=False)
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise NotFound("no such folder", where=str(folder)) from error
        raise Unavailable("git is not installed", remedy="install git 2.38 or newer") from error
    return Answer(code=done.returncode, out=done.stdout, err=done.stderr.decode("utf-8", "replace"))


def text_of(name: bytes) -> str:
    """A path or name of git's as text; bytes that are not UTF-8 survive the way back."""
    return name.decode("utf-8", "surrogateescape")


def bytes_of(name: str) -> bytes:
    """The way back of `text_of`."""
    return name.encode("utf-8", "surrogateescape")
