"""A remote: a place that clones share, a bucket or a folder. It holds what it is given under names, and nothing runs there.

    objects/3f/2a91c0...        the bytes of an object, as in the local store
    journal/c-71ab/000007       a closed segment of a stream        } created once, never changed
    shared/c-71ab/000007        what came with it (sharing/parcel.py) }
    claims/triggers/...         names that can be taken once in all
    cdl.json                    which remote this is

A folder and a bucket give the same answers: tests hold every implementation to one suite.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from cdl.errors import Unavailable
from cdl.store import whole
from cdl.store.tree import check_name


class Held(msgspec.Struct, frozen=True):
    """A name in a remote, the size of its bytes, and when it was written (seconds since 1970, by the remote's clock)."""

    name: str
    size: int
    written: float


class Remote(Protocol):
    """What a shared place can do. Any number of threads and processes may call at once.

    Every method raises Unavailable when the place cannot be reached, and names it.
    """

    place: str

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Writes whole bytes under a name, over what was there."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes bytes under a name that is free; False, with nothing changed, when it is taken."""

    def held(self, prefix: str) -> Iterator[Held]:
        """What is held below a prefix that ends with a slash, in no particular order."""

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below such a prefix, sorted."""

    def delete(self, name: str) -> None:
        """Removes a name; nothing happens when it is not there."""


class Folder:
    """A remote that is a folder: a shared disk, or one that another program keeps alike on several machines."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.place = str(self.root)
        if not root.is_dir():
            raise Unavailable(
                "the shared folder is not there", where=str(root), remedy="mount it; for a new one: mkdir"
            )

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""
        with self._named("read"):
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Writes whole bytes under a name, over what was there."""
        path = self._path(name)
        with self._named("written"):
            whole.write(path, data, mode=0o644)

    def create(self, name: str, data: bytes) -> bool:
        """Writes bytes under a name that is free; False when it is taken."""
        path = self._path(name)
        with self._named("written"):
            return whole.create(path, data, mode=0o644)

    def held(self, prefix: str) -> Iterator[Held]:
        """What is held below a prefix."""
        for folder, _, names in os.walk(self._path(prefix.rstrip("/"))):
            for name in names:
                path = Path(folder) / name
                if not name.startswith(whole.HALF):
                    found = path.stat()
                    yield Held(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below a prefix."""
        above = self._path(prefix.rstrip("/"))
        return sorted(p.name for p in above.iterdir() if p.is_dir()) if above.is_dir() else []

    def delete(self, name: str) -> None:
        """Removes a name."""
        with self._named("written"):
            self._path(name).unlink(missing_ok=True)

    def tidy(self, before: float) -> None:
        """Removes what killed writers left half before a moment (seconds since 1970)."""
        for path in self.root.rglob(f"{whole.HALF}*"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
            except FileNotFoundError:
                continue  # its writer ended meanwhile

    def _path(self, name: str) -> Path:
        check_name(name)
        return self.root / name

    @contextmanager
    def _named(self, done: str) -> Iterator[None]:
        """Unavailable, with the folder, for what the system says: it is full, gone, or may not be written."""
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"the shared folder cannot be {done}: {error.strerror}",
                where=self.place,
                remedy="make room or give access there, then the command again",
            ) from error
