"""The store: immutable bytes named by their blake3, and names that can be taken once.

    <root>/objects/3f/2a91c0...     an object; its name is the hash of its bytes
    <root>/claims/jobs/77f0...      a claim: whoever creates it first has it, its content never changes
    <root>/claims/erased/3f2a91...  a tombstone: the object went for good, and what stands in its place (erased.py)
    <root>/going/3f2a91c0...-9f0c   an object that is being removed

Everything is written to a temporary file beside its place and then moved there, so a half-written object or claim is
never seen, and any number of processes may write at once.

What nothing names any more is removed once it is old. Whoever means to name an object puts or freshens it before, which makes it
young again. Removing moves an object aside, looks at its age once more, and only then ends it; whoever needs it meanwhile, or
after a kill, moves it back.
"""

import mmap
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from blake3 import blake3

from cdl.errors import ConfigError, Corrupt, NotFound, Refused
from cdl.store import whole
from cdl.store.builder import Builder
from cdl.store.erased import ERASED, Tombstone, read
from cdl.store.outside import Reader, Wanted, nowhere
from cdl.store.tree import Tree, check_name, open_tree

SEALED = "s:"  # prefix of objects named by the hash of their ciphertext
NAME = re.compile(r"[0-9a-f]{64}")
BROKEN = "broken"  # below the root: objects whose bytes are not what their names say, for who wants to save something of them
MEND = "cdl doctor --full --mend, then the command again"
PACK_BYTES = 64_000_000  # the most content that is put together into one object
WHOLE_BYTES = 1_000_000  # a content of so many lies in an object of its own


class Fault(msgspec.Struct, frozen=True):
    """What `verify` found: an object, and what is wrong with it."""

    object: str
    what: str


def digest(data: bytes | bytearray | memoryview) -> str:
    """The name of an object: 64 hex digits of its blake3."""
    return blake3(data).hexdigest()


class Store:
    """Objects and claims below a folder. Safe for threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._claims = root / "claims"
        self._going = root / "going"
        self._erasures = self._claims / ERASED.rstrip("/")
        self._verified: set[str] = set()
        self.reader: Reader = nowhere  # of contents that lie outside
        self._taken: dict[str, bytes] = {}  # claims that were read: they never change

    # objects

    def put(self, data: bytes | memoryview, *, name: str | None = None) -> str:
        """Stores bytes, or makes those that stand young again; returns their name. Refused for bytes that were erased.

        Who has just hashed them gives the `name`.
        """
        name = name or digest(data)
        if not self.freshen(name):
            if (tombstone := self.erased(name)) is not None:
                raise Refused("these bytes were erased", where=tombstone.line, remedy="take the item out of the source")
            whole.write(self._path(name), data, mode=0o444)
        return name

    def freshen(self, name: str) -> bool:
        """Makes an object young, so that it stays until it is named; whether it is here."""
        path = self._path(name)
        while True:
            try:
                os.utime(path)
                return True
            except FileNotFoundError:
                if not self._take_back(path):
                    return False
            except PermissionError:  # another user's: written anew it is as young
                whole.write(path, path.read_bytes(), mode=0o444)
                return True

    def get(self, name: str) -> bytes:
        """An object's bytes. NotFound, or Corrupt when they are not what the name says."""
        return bytes(self.view(name))

    def view(self, name: str) -> memoryview:
        """An object's bytes mapped into memory, read-only; verified once a process. Of an erased one what stands for it."""
        path = self._path(name)
        try:
            with self._opened(path) as file:
                size = os.fstat(file.fileno()).st_size
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
        except FileNotFoundError as error:
            if (instead := self.standing(name)) != name:
                return self.view(instead)
            raise self._absent(name) from error
        if name not in self._verified:
            if digest(data) != name.removeprefix(SEALED):
                raise Corrupt("the bytes are not what the name says", where=str(path), remedy=MEND)
            self._verified.add(name)
        return data

    def path(self, name: str) -> Path:
        """The file of an object, for a process that maps it; verified once a process."""
        self.view(name)
        path = self._path(name)
        return path if path.exists() else self._path(self.standing(name))

    def start(self, name: str, size: int) -> bytes:
        """The first bytes of an object, not verified. NotFound."""
        try:
            with self._opened(self._path(name)) as file:
                return file.read(size)
        except FileNotFoundError as error:
            if (instead := self.standing(name)) != name:
                return self.start(instead, size)
            raise self._absent(name) from error

    def has(self, name: str) -> bool:
        """Whether an object is here."""
        path = self._path(name)
        return path.exists() or self._take_back(path)  # which looks again

    def size(self, name: str) -> int:
        """How many bytes an object has. NotFound."""
        return self._stat(name).st_size

    def remove(self, name: str, *, older_than: float | None = None) -> bool:
        """Removes an object; with a moment (seconds since 1970) only one that was not made young since. Whether it did."""
        path = self._path(name)
        aside = self._going / f"{name.removeprefix(SEALED)}-{secrets.token_hex(8)}"  # no other removal's
        try:
            if older_than is not None and path.stat().st_mtime >= older_than:
                return False
            self._going.mkdir(exist_ok=True)
            path.rename(aside)
            if older_than is not None and aside.stat().st_mtime >= older_than:
                self._take_back(path)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False  # there is none, or somebody took it back
        self._verified.discard(name)
        return True

    def put_aside(self, name: str) -> Path:
        """Moves an object whose bytes are broken out of the way, so that it can be put again; where it lies then."""
        aside = self.root / BROKEN / name.removeprefix(SEALED)
        aside.parent.mkdir(exist_ok=True)
        self._path(name).rename(aside)
        self._verified.discard(name)
        return aside

    def names(self) -> Iterator[str]:
        """The names of all objects."""
        for folder in sorted(self._objects.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.iterdir()):
                if NAME.fullmatch(folder.name + path.name):
                    yield folder.name + path.name

    def settle(self) -> None:
        """Takes back whatever a killed removal left aside."""
        for aside in os.listdir(self._going) if self._going.is_dir() else ():
            self._take_back(self._path(aside.partition("-")[0]))

    def changed(self, name: str) -> float:
        """When an object was made or made young (seconds since 1970, by the file system's clock). NotFound."""
        return self._stat(name).st_mtime

    def now(self) -> float:
        """The time by the clock of the file system that the store lies on."""
        self._objects.mkdir(parents=True, exist_ok=True)
        temporary = Path(whole.half(self._objects / "now", b""))
        try:
            return temporary.stat().st_mtime
        finally:
            temporary.unlink()

    # as a box of tables

    @property
    def about(self) -> dict[str, str]:
        """Nothing."""
        return {}

    @property
    def pack_bytes(self) -> int:
        """The most content that is put together into one object."""
        return PACK_BYTES

    @property
    def whole_bytes(self) -> int:
        """A content of so many lies in an object of its own, which can be linked and sent alone."""
        return WHOLE_BYTES

    def keep(self, data: bytes | memoryview, hash_: bytes | None = None) -> str:
        """Stores bytes; their name. They are not hashed again where `hash_` is known."""
        return self.put(data, name=hash_.hex() if hash_ is not None else None)

    def known(self, hash_: bytes) -> str | None:
        """The name of the object with that hash, made young."""
        name = hash_.hex()
        return name if self.freshen(name) else None

    def outside(self, wanted: Sequence[Wanted]) -> list[memoryview]:
        """Contents outside of the store."""
        return self.reader(wanted)

    def keep_root(self, data: bytes) -> str:
        """Stores a root."""
        return self.put(data)

    def read(self, name: str) -> memoryview:
        """An object's bytes."""
        return self.view(name)

    def digest(self, data: bytes | bytearray) -> str:
        """The blake3 of bytes."""
        return digest(data)

    def erasure(self, name: str) -> str | None:
        """Who erased something in an object, when and why."""
        tombstone = self.erased(name)
        return tombstone.line if tombstone else None

    # trees

    def put_tree(self, files: Mapping[str, bytes]) -> str:
        """Stores contents by name as a tree."""
        builder = Builder(self)
        for name, data in sorted(files.items()):
            builder.add(name, data)
        return builder.finish()

    def tree(self, name: str) -> Tree:
        """A stored tree."""
        return open_tree(self, name)

    def checkout(self, name: str, folder: Path) -> None:
        """Writes a tree's files below a folder, read-only."""
        tree = self.tree(name)
        for place, path in enumerate(tree.names):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tree.view(place))
            target.chmod(0o444)

    # claims

    def claim(self, name: str, payload: bytes) -> bool:
        """Takes a name once and for all; False when it is taken."""
        path = self._claim_path(name)
        return whole.create(path, payload)

    def claimed(self, name: str) -> bytes | None:
        """What a name was taken with; None while it is free."""
        if name not in self._taken:
            try:
                self._taken[name] = self._claim_path(name).read_bytes()
            except FileNotFoundError:
                return None
        return self._taken[name]

    def unclaim(self, name: str) -> None:
        """Frees a name again: of what was only kept for the next time, like a job's outputs."""
        self._claim_path(name).unlink(missing_ok=True)
        self._taken.pop(name, None)

    def claims(self, prefix: str) -> list[str]:
        """The names taken below a folder of names ('jobs/'), sorted; all of them for ''."""
        found = []
        for folder, _, names in os.walk(self._claim_path(prefix.rstrip("/")) if prefix else self._claims):
            below = Path(folder).relative_to(self._claims).as_posix()
            found += [f"{below}/{name}" for name in names if not name.startswith(whole.HALF)]
        return sorted(found)

    # what was erased

    def erased(self, name: str) -> Tombstone | None:
        """The tombstone of an object; None where it was not erased."""
        if not self._erasures.is_dir():  # asked for each new object
            return None
        bare = name.removeprefix(SEALED)
        data = self.claimed(ERASED + bare)
        return None if data is None else read(data, where=f"tombstone of {bare[:12]}")

    def standing(self, name: str) -> str:
        """What stands for an object: itself, or what an erasure put in its place, with the same prefix."""
        tombstone = self.erased(name)
        while tombstone is not None and tombstone.instead is not None:
            name = (SEALED if name.startswith(SEALED) else "") + tombstone.instead
            tombstone = self.erased(name)
        return name

    # checking

    def verify(self) -> Iterator[Fault]:
        """Every object whose bytes are not what its name says; needs no key."""
        for name in self.names():
            try:
                with self._opened(self._path(name)) as file:
                    fits = digest(file.read()) == name
            except FileNotFoundError:
                continue  # removed meanwhile
            if not fits:
                yield Fault(name, "the bytes are not what the name says")

    def _opened(self, path: Path) -> BinaryIO:
        while True:
            try:
                return path.open("rb")
            except FileNotFoundError:
                if not self._take_back(path):
                    raise

    def _take_back(self, path: Path) -> bool:
        """Takes back an object that is being removed; whether it is worth looking for it again."""
        name = path.parent.name + path.name
        try:
            aside = [self._going / found for found in os.listdir(self._going) if found.startswith(name)]
        except FileNotFoundError:
            return False
        for found in aside:
            try:
                os.link(found, path)
            except FileNotFoundError:
                continue
            except FileExistsError:
                pass  # somebody else did, or wrote it anew
            found.unlink(missing_ok=True)
        return path.exists()

    def _stat(self, name: str) -> os.stat_result:
        try:
            return self._path(name).stat()
        except FileNotFoundError as error:
            raise self._absent(name) from error

    def _absent(self, name: str) -> NotFound:
        tombstone = self.erased(name)
        if tombstone is not None:
            return NotFound(
                f"object {name[:12]} was erased", where=tombstone.line, remedy="cdl data run makes a version without it"
            )
        return NotFound(
            f"object {name[:12]} is not in the store",
            where=str(self.root),
            remedy="cdl doctor --mend, where others share it; else from a backup",
        )

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
