"""Sources: where raw files come from. Fetching the same declared source gives the same files, or says what changed.

What comes from an address, and what an archive holds, lies in files below `.cdl/fetched` while it is used.
"""

import contextlib
import hashlib
import os
import subprocess
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from cdl.config.schema import Source
from cdl.data.sources.archive import Unpacked, is_archive, unpacked
from cdl.data.sources.files import Files, Folder, Packed
from cdl.data.sources.objects import Objects, listed, open_bucket, sight
from cdl.data.sources.walk import Sight, file, glance, walk
from cdl.errors import ConfigError, JobFailed
from cdl.jobs.folder import held_folder
from cdl.jobs.start import PASSED_ON
from cdl.jobs.worker import ends_with_this
from cdl.registry.records import Source as Kept

if TYPE_CHECKING:
    from cdl.data.sources.download import Answer

FETCHED = "fetched"  # the folder below `.cdl`
COMMAND_SECONDS = 3600
Sift = Callable[[str, Sight], Sight]  # a source as it is shown and the files there; those that may be taken now


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What the last run here saw at an address, what the server told, and the files that the version made of it holds."""

    seen: Sight
    told: Mapping[str, str]
    files: Callable[[], Files]


@contextlib.contextmanager
def fetched(
    source: Source,
    root: Path,
    *,
    sift: Sift | None = None,
    earlier: Earlier | None = None,
    folder: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Files]:
    """The files of a source by name, in order, read when they are asked for while the context lasts.

    `sift` says which of the files that lie there may be taken. What an address holds as `earlier` is not fetched again. `folder`
    is `.cdl` (None: the temporary folder); what takes long is told.

    ConfigError, Unavailable or JobFailed name what is wrong and the remedy.
    """
    with contextlib.ExitStack() as held:
        desk = _Desk(held, folder / FETCHED if folder is not None else None, tell or (lambda line: None))
        if source.path is not None:
            files = _path(root / source.path, source, sift or _all, desk)
        elif source.url is not None:
            files = _at(source, earlier, desk)
        elif source.bucket is not None:
            files = held.enter_context(_objects(source.bucket, sift or _all))
        else:
            out = held.enter_context(_command(source.command or [], root))
            files = desk.closed(Folder(out, "CDL_OUT", walk(out, "CDL_OUT")))
        yield files


def check_names(source: Source, names: Iterable[str]) -> None:
    """ConfigError for a source without files, and for a name that no text can hold."""
    some = False
    for name in names:
        some = True
        if not name.isprintable() and any("\ud800" <= character <= "\udfff" for character in name):
            raise ConfigError("its name is not UTF-8", where=ascii(name), remedy="rename the file")
    if not some:
        raise ConfigError("the source is empty", where=called(source), remedy="put files there, or correct the source")


def called(source: Source | Kept) -> str:
    """What a source is called, for people."""
    return source.path or source.url or source.bucket or " ".join(source.command or [])


def watchable(source: Source | Kept) -> str | None:
    """What a source is called whose files can be listed: a folder or a bucket."""
    return source.path or source.bucket or None


def glanced(source: Source, root: Path) -> Sight:
    """What is seen of such a source now; no file is read."""
    if source.bucket is not None:
        return sight(listed(open_bucket(source.bucket)))
    return glance(root / (source.path or ""))


@contextlib.contextmanager
def _objects(place: str, sift: Sift) -> Iterator[Files]:
    """The objects of a bucket, fetched when they are read."""
    client = open_bucket(place)
    objects = listed(client)
    with held_folder("source") as folder:
        files = Objects(client, objects, sift(place, sight(objects)), folder)
        try:
            yield files
        finally:
            files.close()


def no_file(source: Source) -> ConfigError:
    """That a source's path is not there, and what to do."""
    remedy = f"put it there: {source.get}" if source.get else "put it there, or correct `source.path` in cdl.yaml"
    return ConfigError("there is no such file or folder", where=source.path, remedy=remedy)


def _all(shown: str, seen: Sight) -> Sight:
    return seen


class _Desk:
    """Where what was fetched lies while `held` lasts: a folder that is made once something does."""

    def __init__(self, held: contextlib.ExitStack, within: Path | None, tell: Callable[[str], None]) -> None:
        self._held, self._within, self.tell = held, within, tell

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return self._held.enter_context(held_folder("source", within=self._within))

    def unpacked(self, where: str, name: str, file: IO[bytes]) -> Files | None:
        """An archive's files; None for any other file."""
        if not is_archive(name, file.read(4)):
            return None
        return self.closed(unpacked(where, file, self.folder / "unpacked"))

    def downloaded(self, source: Source, told: Mapping[str, str] | None = None) -> "Answer":
        """What lies at an address, in a file here. ConfigError where it has another hash than is declared."""
        download = import_module("cdl.data.sources.download").download  # late: http takes 15 ms to import
        answer: Answer = download(source.url or "", self.folder / "download", told, tell=self.tell)
        _check_hash(source, answer.sha256, source.url or "")
        return answer

    def came(self, source: Source, name: str, size: int) -> Files:
        """The files in what was downloaded."""
        with open(self.folder / "download", "rb") as file:
            found = self.unpacked(source.url or "", name, file)
        return found or self.closed(Unpacked(self.folder / "download", {name: (0, size)}))

    def closed(self, files: Unpacked | Folder) -> Files:
        """Some files, closed at the end."""
        self._held.callback(files.close)
        return files


def _path(path: Path, source: Source, sift: Sift, desk: _Desk) -> Files:
    where = source.path or ""
    if path.is_dir():
        return desk.closed(Folder(path, where, sift(where, walk(path, where))))
    if not path.is_file():
        raise no_file(source)
    if not source.copy:
        raise ConfigError(
            "only the files of a folder can stay in place", where=where, remedy="leave `copy` out, or give the folder"
        )
    seen = sift(where, file(path))
    alone = Folder(path.parent, str(Path(where).parent), seen)
    return Packed(seen, lambda: _opened(source, alone, path.name, desk))


def _opened(source: Source, alone: Folder, name: str, desk: _Desk) -> Files:
    """An archive's files; any other file as itself."""
    where = source.path or ""
    with alone.opened(alone.seen[0]) as handle, open(os.dup(handle), "rb") as stream:
        if source.sha256 is not None:
            _check_hash(source, hashlib.file_digest(stream, "sha256").hexdigest(), where)
            stream.seek(0)
        return desk.unpacked(where, name, stream) or alone


def _check_hash(source: Source, found: str, where: str) -> None:
    """ConfigError where a file has another hash than the source declares."""
    if source.sha256 is not None and found != source.sha256.lower():
        raise ConfigError(f"its sha256 is {found}, not {source.sha256}", where=where, remedy="check where it came from")


def _at(source: Source, earlier: Earlier | None, desk: _Desk) -> Files:
    """The files at an address. A pinned one is asked for when they are read; any other now, whether it is as it was."""
    name = (source.url or "").rsplit("/", 1)[-1] or "download"
    if not source.unpinned:
        again = earlier.files if earlier is not None else None
        return Packed(None, again or (lambda: desk.came(source, name, desk.downloaded(source).size)))
    answer = desk.downloaded(source, earlier.told if earlier is not None else None)
    if answer.same and earlier is not None:
        return Packed(earlier.seen, earlier.files, told=answer.told)
    number = int(answer.sha256[:16], 16) >> 1
    seen = Sight([name], array("q", [answer.size, 0, 0, number]))  # the hash stands where a file has its inode
    return Packed(seen, lambda: desk.came(source, name, answer.size), told=answer.told)


@contextlib.contextmanager
def _command(command: list[str], root: Path) -> Iterator[Path]:
    """The folder CDL_OUT, with the files that a program left there."""
    with held_folder("source") as folder:
        out = folder / "out"
        out.mkdir()
        around = {k: v for k, v in os.environ.items() if k in PASSED_ON or k == "HOME"}
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env={**around, "CDL_OUT": str(out)},
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
                preexec_fn=ends_with_this(),
            )
        except FileNotFoundError as error:
            raise ConfigError(
                "no such program", where=command[0], remedy="install it, or correct `source.command`"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise JobFailed(f"took more than {COMMAND_SECONDS} s", where=command[0], remedy="run it by hand") from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise JobFailed(
                said[0], where=" ".join(command), remedy="run it by hand with CDL_OUT set to an empty folder"
            )
        yield out
