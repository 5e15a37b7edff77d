"""The store: immutable bytes named by their blake3, and names that can be taken once.

    <root>/objects/3f/2a91c0...     an object; its name is the hash of its bytes
    <root>/claims/jobs/77f0...      a claim: whoever creates it first has it, its content never changes

Everything is written to a temporary file beside its place and then moved there, so a half-written object or claim is
never seen, and any number of processes may write at once.
"""

import mmap
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from cdl.errors import ConfigError, Corrupt, NotFound
from cdl.store.tree import Entry, Tree, check_name, decode, encode

SEALED = "s:"  # prefix of objects named by the hash of their ciphertext
NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fault:
    """What `verify` found: an object, and what is wrong with it."""

    object: str
    what: str


def digest(data: bytes | memoryview) -> str:
    """The name of an object: 64 hex digits of its blake3."""
    return blake3(data).hexdigest()


class Store:
    """Objects and claims below a folder. Safe for threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._claims = root / "claims"
        self._verified: set[str] = set()
        self._taken: dict[str, bytes] = {}  # claims that were read: they never change

    # objects

    def put(self, data: bytes | memoryview) -> str:
        """Stores bytes; returns their name."""
        name = digest(data)
        path = self._path(name)
        if not path.exists():
            _write(path, data)
        return name

    def put_many(self, items: Iterable[bytes]) -> list[str]:
        """Stores each; their names in order."""
        return [self.put(item) for item in items]

    def get(self, name: str) -> bytes:
        """An object's bytes. NotFound, or Corrupt when they are not what the name says."""
        return bytes(self.view(name))

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        """The bytes of each, in order."""
        return [self.get(name) for name in names]

    def view(self, name: str) -> memoryview:
        """An object's bytes mapped into memory, read-only; verified once a process."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
        except FileNotFoundError as error:
            raise NotFound(
                f"object {name[:12]} is not in the store",
                where=str(self.root),
                remedy="cdl sync, where others share it; else from a backup",
            ) from error
        if name not in self._verified:
            if digest(data) != name.removeprefix(SEALED):
                raise Corrupt("the bytes are not what the name says", where=str(path), remedy="cdl store verify")
            self._verified.add(name)
        return data

    def path(self, name: str) -> Path:
        """The file of an object, for a process that maps it; verified once a process."""
        self.view(name)
        return self._path(name)

    def has(self, name: str) -> bool:
        """Whether an object is here."""
        return self._path(name).exists()

    def names(self) -> Iterator[str]:
        """The names of all objects."""
        for folder in sorted(self._objects.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.iterdir()):
                if NAME.fullmatch(folder.name + path.name):
                    yield folder.name + path.name

    # trees

    def put_tree(self, entries: Iterable[Entry]) -> str:
        """Stores a tree; the objects it names must be stored by the caller."""
        return self.put(encode(entries))

    def tree(self, name: str) -> Tree:
        """A stored tree."""
        return decode(self.get(name), where=f"tree {name[:12]}")

    def put_folder(self, folder: Path) -> str:
        """Stores the regular files below a folder as a tree; Corrupt for a symbolic link or a device."""
        entries = []
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise Corrupt("neither a file nor a folder", where=str(path), remedy="remove it")
            if path.is_file():
                data = path.read_bytes()
                entries.append(Entry(path.relative_to(folder).as_posix(), self.put(data), len(data)))
        return self.put_tree(entries)

    def checkout(self, name: str, folder: Path) -> None:
        """Writes a tree's files below a folder, read-only."""
        for entry in self.tree(name).entries:
            target = folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.view(entry.object))
            target.chmod(0o444)

    # claims

    def claim(self, name: str, payload: bytes) -> bool:
        """Takes a name once and for all; False when it is taken."""
        path = self._claim_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path.parent, payload)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        return True

    def claimed(self, name: str) -> bytes | None:
        """What a name was taken with; None while it is free."""
        if name not in self._taken:
            try:
                self._taken[name] = self._claim_path(name).read_bytes()
            except FileNotFoundError:
                return None
        return self._taken[name]

    def claims(self, prefix: str) -> list[str]:
        """The names taken below a folder of names ('jobs/'), sorted."""
        found = []
        for folder, _, names in os.walk(self._claim_path(prefix.rstrip("/"))):
            below = Path(folder).relative_to(self._claims).as_posix()
            found += [f"{below}/{name}" for name in names if not name.startswith(".tmp-")]
        return sorted(found)

    # checking

    def verify(self) -> Iterator[Fault]:
        """Every object whose bytes are not what its name says; needs no key."""
        for name in self.names():
            if digest(self._path(name).read_bytes()) != name:
                yield Fault(name, "the bytes are not what the name says")

    def _path(self, name: str) -> Path:
        bare = name.removeprefix(SEALED)
        if not NAME.fullmatch(bare):
            raise ConfigError(
                f"'{name}' is not the name of an object", remedy="64 hex digits, for sealed ones after 's:'"
            )
        return self._objects / bare[:2] / bare[2:]

    def _claim_path(self, name: str) -> Path:
        check_name(name)
        if any(part.startswith(".") for part in name.split("/")):
            raise Corrupt(f"'{name}' is not a name that can be taken")
        return self._claims / name


def _temporary(folder: Path, data: bytes | memoryview) -> str:
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, str(folder)) from error  # a full disk does not say which
    return temporary


def _write(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent, data)
    os.chmod(temporary, 0o444)
    os.replace(temporary, path)
