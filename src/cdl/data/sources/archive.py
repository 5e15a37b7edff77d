"""Archives (zip, tar): their members are read one by one, never extracted by their names, into one file beside, in which the
source's files are then found.

Regular files with normalized names only, within limits that hold while it is read.
"""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from cdl.data.sources.files import Files, Large
from cdl.errors import ConfigError, Corrupt
from cdl.store import chunk
from cdl.store.tree import check_name

LARGEST = 8_000_000_000  # bytes of one source, unpacked
MOST_FILES = 2_000_000
RATIO = 200  # unpacked bytes for one packed byte, beyond the first 10 MB
FREE = 10_000_000
BLOCK = 1 << 20  # bytes that are in memory
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
TAPES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def is_archive(name: str, begins: bytes) -> bool:
    """Whether a file is an archive, by its name and first four bytes; an npz file is none."""
    return (begins[:4] == b"PK\x03\x04" and not name.endswith(".npz")) or name.endswith(TAPES)


def unpacked(where: str, archive: IO[bytes], beside: Path) -> "Unpacked":
    """The regular files in a zip or tar archive; their contents lie in the file `beside` from now on.

    ConfigError names a member that escapes or is too much.
    """
    packed = archive.seek(0, os.SEEK_END)
    most = min(LARGEST, FREE + RATIO * packed)
    found: dict[str, tuple[int, int]] = {}
    total = 0
    try:
        with open(beside, "wb") as file:
            for name, size, content in _members(where, archive, most):
                _check_member(where, name)
                if name in found:
                    raise ConfigError("a member stands twice", where=f"{where}: {name}", remedy="pack it again")
                found[name] = total, size
                total += size
                if total > most or len(found) > MOST_FILES:
                    raise ConfigError(
                        "unpacks to too much", where=f"{where}: {name}", remedy="unpack it yourself and give the folder"
                    )
                _copy(name, content, file, size)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's: full, or broken
        said = str(error).partition("\n")[0].rstrip(":")
        raise ConfigError(f"not a readable archive: {said}", where=where, remedy="pack it again") from error
    return Unpacked(beside, found)


def _members(where: str, archive: IO[bytes], most: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, announced bytes and content of each file, one after the other; `most` bytes may follow the last one."""
    archive.seek(0)
    begins = archive.read(2)
    archive.seek(0)
    if begins == b"PK":
        with zipfile.ZipFile(archive) as pack:
            for member in pack.infolist():
                if member.is_dir():
                    continue
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise _irregular(where, member.filename)
                with pack.open(member) as content:
                    yield member.filename, member.file_size, content
        return
    with tarfile.open(fileobj=archive) as tape:
        for entry in tape:
            if entry.isdir():
                continue
            if not entry.isreg():
                raise _irregular(where, entry.name)
            file = tape.extractfile(entry)
            assert file is not None  # it is a regular one
            yield entry.name.removeprefix("./"), entry.size, file
        _to_the_end(where, tape, most)


def _irregular(where: str, name: str) -> ConfigError:
    return ConfigError("a member that is no regular file", where=f"{where}: {name}", remedy="leave it out")


def _to_the_end(where: str, tape: tarfile.TarFile, most: int) -> None:
    """Reads what follows the last member: there stands the checksum of a packed archive."""
    assert tape.fileobj is not None  # it was opened to be read
    left = most
    while part := tape.fileobj.read(BLOCK):
        left -= len(part)
        if left < 0:
            raise ConfigError("unpacks to too much", where=where, remedy="unpack it yourself and give the folder")


def _copy(name: str, content: IO[bytes], file: IO[bytes], size: int) -> None:
    """A member's bytes, never more than it announced. BadZipFile where it has others."""
    left = size
    while part := content.read(min(BLOCK, left + 1)):
        left -= len(part)
        if left < 0:
            break
        file.write(part)
    if left:
        raise zipfile.BadZipFile(f"{name} has another size than announced")


def _check_member(where: str, name: str) -> None:
    try:
        check_name(name)
    except Corrupt as error:
        raise ConfigError(
            f"a member's path escapes: {name!r}", where=where, remedy="pack it with relative names"
        ) from error


class Unpacked(Files):
    """Files that lie in one file after the other: first byte and size of each."""

    def __init__(self, beside: Path, places: Mapping[str, tuple[int, int]]) -> None:
        self._file = os.open(beside, os.O_RDONLY | os.O_CLOEXEC)
        self._places = dict(sorted(places.items()))

    def __getitem__(self, name: str) -> bytes:
        start, size = self._places[name]
        return self.read(start, size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def close(self) -> None:
        """Nothing is read from here on."""
        os.close(self._file)

    def size(self, name: str) -> int:
        """Its bytes."""
        return self._places[name][1]

    def large(self, name: str) -> Large | None:
        """A file that is read in pieces."""
        start, size = self._places[name]
        return _Piece(self, start, size) if size >= chunk.CHUNKED_BYTES else None

    def read(self, start: int, size: int) -> bytes:
        """So many bytes, from a place on; one call reads at most 2 GB."""
        parts = []
        while size and (part := os.pread(self._file, size, start)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fill(self, room: memoryview, start: int) -> int:
        """Puts what stands from a place on into some room; how many bytes."""
        return os.preadv(self._file, [room], start)


class _Piece(Large):
    """A large one of them."""

    def __init__(self, among: Unpacked, start: int, size: int) -> None:
        self._among, self._start, self._size = among, start, size

    def cuts(self) -> chunk.Cuts:
        """Where it is cut into chunks; reads all of it."""
        at = self._start

        def fill(room: memoryview) -> int:
            nonlocal at
            found = self._among.fill(room[: self._start + self._size - at], at)
            at += found
            return found

        return chunk.cuts(fill)

    def read(self, at: int, size: int) -> bytes:
        """So many bytes, from a place on."""
        return self._among.read(self._start + at, min(size, self._size - at))
