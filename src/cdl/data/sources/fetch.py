"""Sources: where raw files come from. Fetching the same declared source gives the same files, or says what changed.

Archives are read member by member, never extracted: regular files with normalized names only, within limits.
"""

import contextlib
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from cdl.config.schema import Source
from cdl.data.sources.download import download
from cdl.data.sources.files import Files, Folder, Packed
from cdl.data.sources.objects import Objects, listed, open_bucket, sight
from cdl.data.sources.walk import Sight, file, glance, walk
from cdl.errors import ConfigError, Corrupt, JobFailed
from cdl.jobs.folder import held_folder
from cdl.jobs.start import PASSED_ON
from cdl.jobs.worker import ends_with_this
from cdl.registry.records import Source as Kept
from cdl.store.tree import check_name

LARGEST = 8_000_000_000  # bytes of one source, unpacked
MOST_FILES = 2_000_000
RATIO = 200  # unpacked bytes for one packed byte, beyond the first 10 MB
FREE = 10_000_000
COMMAND_SECONDS = 3600
TAPES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
Sift = Callable[[str, Sight], Sight]  # a source as it is shown and the files there; those that may be taken now


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What the last run here saw at an address, what the server told, and the files that the version made of it holds."""

    seen: Sight
    told: Mapping[str, str]
    files: Callable[[], dict[str, bytes]]


@contextlib.contextmanager
def fetched(source: Source, root: Path, *, sift: Sift | None = None, earlier: Earlier | None = None) -> Iterator[Files]:
    """The files of a source by name, in order, read when they are asked for while the context lasts.

    `sift` says which of the files that lie there may be taken. What an address holds as `earlier` is not fetched again.

    ConfigError, Unavailable or JobFailed name what is wrong and the remedy.
    """
    with contextlib.ExitStack() as held:
        if source.path is not None:
            files = _path(root / source.path, source, sift or _all)
        elif source.url is not None:
            files = _at(source, earlier)
        elif source.bucket is not None:
            files = held.enter_context(_objects(source.bucket, sift or _all))
        else:
            out = held.enter_context(_command(source.command or [], root))
            files = Folder(out, "CDL_OUT", walk(out, "CDL_OUT"))
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


def read_archive(where: str, data: bytes) -> dict[str, bytes]:
    """The regular files in a zip or tar archive. ConfigError names a member that escapes or is too much."""
    found: dict[str, bytes] = {}
    total = 0
    try:
        for name, size, read in _members(where, data):
            _check_member(where, name)
            total += size
            if total > LARGEST or len(found) >= MOST_FILES or total > FREE + RATIO * len(data):
                raise ConfigError(
                    "unpacks to too much", where=f"{where}: {name}", remedy="unpack it yourself and give the folder"
                )
            if name in found:
                raise ConfigError("a member stands twice", where=f"{where}: {name}", remedy="pack it again")
            found[name] = read()
    except UNREADABLE as error:
        said = str(error).partition("\n")[0].rstrip(":")
        raise ConfigError(f"not a readable archive: {said}", where=where, remedy="pack it again") from error
    return found


def _members(where: str, data: bytes) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Each regular member: its name, the size that it announces, and what reads it."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            for member in pack.infolist():
                if member.is_dir():
                    continue
                if (member.external_attr >> 28) not in (0, 0o10):
                    raise _irregular(where, member.filename)
                yield member.filename, member.file_size, partial(_announced, pack, member)
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as tape:
        for entry in tape:
            if entry.isdir():
                continue
            if not entry.isreg():
                raise _irregular(where, entry.name)
            yield entry.name.removeprefix("./"), entry.size, partial(_on_tape, tape, entry)
        _to_the_end(where, tape, len(data))


def _irregular(where: str, name: str) -> ConfigError:
    return ConfigError("a member that is no regular file", where=f"{where}: {name}", remedy="leave it out")


def _announced(pack: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, never more than it announced."""
    with pack.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} has another size than announced")
    return content


def _on_tape(tape: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tape.extractfile(entry)
    return b"" if file is None else file.read()


def _to_the_end(where: str, tape: tarfile.TarFile, packed: int) -> None:
    """Reads what follows the last member: there stands the checksum of a packed archive."""
    assert tape.fileobj is not None  # it was opened to be read
    left = FREE + RATIO * packed
    while part := tape.fileobj.read(1 << 20):
        left -= len(part)
        if left < 0:
            raise ConfigError("unpacks to too much", where=where, remedy="unpack it yourself and give the folder")


def _check_member(where: str, name: str) -> None:
    try:
        check_name(name)
    except Corrupt as error:
        raise ConfigError(
            f"a member's path escapes: {name!r}", where=where, remedy="pack it with relative names"
        ) from error


def _all(shown: str, seen: Sight) -> Sight:
    return seen


def _path(path: Path, source: Source, sift: Sift) -> Files:
    where = source.path or ""
    if path.is_dir():
        return Folder(path, where, sift(where, walk(path, where)))
    if not path.is_file():
        raise no_file(source)
    if not source.copy:
        raise ConfigError(
            "only the files of a folder can stay in place", where=where, remedy="leave `copy` out, or give the folder"
        )
    seen = sift(where, file(path))
    alone = Folder(path.parent, str(Path(where).parent), seen)
    return Packed(seen, lambda: _unpacked(where, path.name, _checked(source, alone[path.name], where)))


def _unpacked(where: str, name: str, data: bytes) -> dict[str, bytes]:
    """An archive's files; any other file as itself."""
    return read_archive(where, data) if _is_archive(name, data[:4]) else {name: data}


def is_archive(place: Path) -> bool:
    """Whether a file is read as the files in it."""
    with place.open("rb") as file:
        return _is_archive(place.name, file.read(4))


def _is_archive(name: str, begins: bytes) -> bool:
    return name.endswith(TAPES) or (begins == b"PK\x03\x04" and not name.endswith(".npz"))


def _checked(source: Source, data: bytes, where: str) -> bytes:
    """Some bytes, where they have the hash that the source declares."""
    found = hashlib.sha256(data).hexdigest()
    if source.sha256 is not None and found != source.sha256.lower():
        raise ConfigError(f"its sha256 is {found}, not {source.sha256}", where=where, remedy="check where it came from")
    return data


def _at(source: Source, earlier: Earlier | None) -> Files:
    """The files at an address. A pinned one is asked for when they are read; any other now, whether it is as it was."""
    url = source.url or ""
    name = url.rsplit("/", 1)[-1] or "download"
    if not source.unpinned:
        again = earlier.files if earlier is not None else None
        return Packed(None, again or (lambda: _unpacked(url, name, _checked(source, download(url).data or b"", url))))
    answer = download(url, earlier.told if earlier is not None else None)
    data = answer.data
    if data is None and earlier is not None:
        return Packed(earlier.seen, earlier.files, told=answer.told)
    whole = data or b""
    number = int.from_bytes(hashlib.sha256(whole).digest()[:8], "little") >> 1
    seen = Sight([name], array("q", [len(whole), 0, 0, number]))  # the hash stands where a file has its inode
    return Packed(seen, lambda: _unpacked(url, name, whole), told=answer.told)


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
