"""The files of a folder that is a source, as the file system shows them: one look at each, in order of their names.

What begins with a dot is left out. A link to a file inside of the folder counts as that file.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cdl.errors import ConfigError


class Seen(NamedTuple):
    """A file: its name below the folder, bytes, when content and inode were changed (nanoseconds since 1970), and its inode."""

    name: str
    size: int
    changed: int
    noted: int
    inode: int


def walk(folder: Path, shown: str) -> list[Seen]:
    """The regular files below a folder, sorted by name. ConfigError for a link that leads out, a link to a folder, a device."""
    found = []
    for name, entry in _entries(str(folder), ""):
        if entry.is_symlink():
            _check_link(folder, Path(entry.path), f"{shown}/{name}")
        told = entry.stat()
        if not stat.S_ISREG(told.st_mode):
            raise ConfigError("neither a file nor a folder", where=f"{shown}/{name}", remedy="remove it")
        found.append(seen(name, told))
    found.sort()
    return found


def glance(path: Path) -> list[Seen]:
    """The same of a folder or a file, whatever lies there: what is no file is left out."""
    if not path.is_dir():
        return [seen(".", path.stat())] if path.exists() else []
    found = []
    for name, entry in _entries(str(path), ""):
        try:
            told = entry.stat()
        except OSError:  # a link to nothing, or a file that goes meanwhile
            continue
        if stat.S_ISREG(told.st_mode):
            found.append(seen(name, told))
    return sorted(found)


def file(path: Path) -> Seen:
    """One file, by its own name."""
    return seen(path.name, path.stat())


def seen(name: str, told: os.stat_result) -> Seen:
    """A file as its inode tells it."""
    return Seen(name, told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino % (1 << 63))


def _entries(folder: str, before: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below a folder that is no folder itself, with its name from there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{before}{entry.name}/")
            else:
                yield before + entry.name, entry


def _check_link(folder: Path, path: Path, where: str) -> None:
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ConfigError("a symbolic link leads out of the source", where=where, remedy="remove the link")
    if target.is_dir():
        raise ConfigError("a symbolic link to a folder", where=where, remedy="remove the link, or put the files there")
    if not target.exists():
        raise ConfigError("a symbolic link to nothing", where=where, remedy="remove the link")
