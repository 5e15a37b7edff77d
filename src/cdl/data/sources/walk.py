"""The files of a folder that is a source, as the file system shows them: one look at each, in order of their names.

What begins with a dot is left out. A link to a file inside of the folder counts as that file.
"""

import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, overload

from cdl.errors import ConfigError

NUMBERS = 4  # that are told of each file


class Seen(NamedTuple):
    """A file: its name below the folder, bytes, when content and inode were changed (nanoseconds since 1970), and its inode."""

    name: str
    size: int
    changed: int
    noted: int
    inode: int


class Sight(Sequence[Seen]):
    """Files as they were seen, in order of their names. `numbers` are those of each file, one after the other (8 bytes each)."""

    def __init__(self, names: list[str], numbers: "array[int]") -> None:
        self.names = names
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Seen: ...
    @overload
    def __getitem__(self, place: slice) -> list[Seen]: ...
    def __getitem__(self, place: int | slice) -> Seen | list[Seen]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        return Seen(self.names[place], *self.numbers[NUMBERS * place : NUMBERS * (place + 1)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sight) and self.numbers == other.numbers and self.names == other.names

    __hash__ = None  # type: ignore[assignment]  # it is compared, and kept nowhere

    def table(self) -> Any:
        """The numbers as an array (files, 4)."""
        numpy = import_module("numpy")
        return (
            numpy.frombuffer(self.numbers, dtype="<i8").reshape(-1, NUMBERS)
            if self.names
            else numpy.zeros((0, NUMBERS))
        )

    def only(self, places: Any) -> "Sight":
        """The files at some places (an array of numbers in order)."""
        rows = self.table()[places].astype("<i8")
        return Sight([self.names[at] for at in places.tolist()], array("q", rows.tobytes()))

    def bytes(self) -> int:
        """The bytes of all files."""
        return int(self.table()[:, 0].sum())


def walk(folder: Path, shown: str) -> Sight:
    """The regular files below a folder. ConfigError for a link that leads out, a link to a folder, a device."""
    names, numbers = list[str](), array("q")
    for name, entry in _entries(str(folder)):
        if entry.is_symlink():
            _check_link(folder, Path(entry.path), f"{shown}/{name}")
        told = entry.stat()
        if not stat.S_ISREG(told.st_mode):
            raise ConfigError("neither a file nor a folder", where=f"{shown}/{name}", remedy="remove it")
        names.append(name)
        numbers.extend(told_by(told))
    return _ordered(names, numbers)


def glance(path: Path) -> Sight:
    """The same of a folder or a file, whatever lies there: what is no file is left out."""
    if not path.is_dir():
        return file(path) if path.exists() else Sight([], array("q"))
    names, numbers = list[str](), array("q")
    for name, entry in _entries(str(path)):
        try:
            told = entry.stat()
        except OSError:  # a link to nothing, or a file that goes meanwhile
            continue
        if stat.S_ISREG(told.st_mode):
            names.append(name)
            numbers.extend(told_by(told))
    return _ordered(names, numbers)


def file(path: Path) -> Sight:
    """One file, by its own name."""
    return Sight([path.name], array("q", told_by(path.stat())))


def told_by(told: os.stat_result) -> tuple[int, int, int, int]:
    """What is seen of a file, but for its name."""
    return told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino % (1 << 63)


def _ordered(names: list[str], numbers: "array[int]") -> Sight:
    order = sorted(range(len(names)), key=names.__getitem__)
    rows = Sight(names, numbers).table()[order]
    return Sight([names[at] for at in order], array("q", rows.astype("<i8").tobytes()))


def _entries(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below a folder that is no folder itself, with its name from there."""
    start, left = len(folder) + 1, [folder]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    yield entry.path[start:], entry


def _check_link(folder: Path, path: Path, where: str) -> None:
    target = Path(os.path.realpath(path))  # which a link to itself does not stop
    if not target.is_relative_to(folder.resolve()):
        raise ConfigError("a symbolic link leads out of the source", where=where, remedy="remove the link")
    if target.is_dir():
        raise ConfigError("a symbolic link to a folder", where=where, remedy="remove the link, or put the files there")
    if not target.exists():
        raise ConfigError("a symbolic link to nothing", where=where, remedy="remove the link")
