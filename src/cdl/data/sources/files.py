"""The files of a source by name, read when one is asked for."""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from cdl.data.sources.ahead import Ahead
from cdl.data.sources.walk import Seen, Sight, told_by
from cdl.errors import ConfigError
from cdl.store import chunk
from cdl.store.tree import Tree

KEPT_BYTES = 64_000_000  # of contents that were read once and will be read again
OVERHEAD = 200  # bytes that keeping one takes beside it
NOTHING: Mapping[str, str] = MappingProxyType({})


class Files(Mapping[str, bytes]):
    """Files by name, in order.

    `seen` are the files here that they lie in: an archive, none, or themselves (`in_place`). `told` is what the server of
    an address said of them.
    """

    seen: Sight | None = None
    told: Mapping[str, str] = NOTHING
    in_place = False

    def large(self, name: str) -> "Large | None":
        """A file that is read in pieces; None for one that is read at once."""
        return None

    def size(self, name: str) -> int:
        """Its bytes."""
        return len(self[name])

    def expect(self, names: Iterable[str]) -> None:
        """Says what will be read, in order, to files that come from far away."""

    def let_go(self, name: str) -> None:
        """Says that a file will hardly be read again."""

    def version(self, name: str) -> str | None:
        """What a bucket calls the content of a file that was read, where it keeps versions."""
        return None


class Folder(Files):
    """The files of a folder by name; each is read when it is asked for, and must still be as it was `seen`.

    The first contents that are read are kept in memory, up to a limit; what is not kept is read again the next time.
    """

    in_place = True

    def __init__(self, root: Path, shown: str, seen: Sight) -> None:
        self.seen: Sight = seen
        self._root = str(root)
        self._shown = shown
        self._kept: dict[str, bytes] = {}
        self._room = KEPT_BYTES
        self._ahead: Ahead | None = None

    def __getitem__(self, name: str) -> bytes:
        found = self._kept.get(name)
        if found is None:
            found = self._read(name, self._place(name)) if self._ahead is None else self._first(self._ahead, name)
            if len(found) + OVERHEAD <= self._room:
                self._kept[name] = found
                self._room -= len(found) + OVERHEAD
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.seen.names)

    def __len__(self) -> int:
        return len(self.seen)

    def __contains__(self, name: object) -> bool:
        return self._found(name) is not None

    def large(self, name: str) -> "Large | None":
        """A file that is read in pieces."""
        seen = self.seen[self._place(name)]
        return Large(self, seen) if seen.size >= chunk.CHUNKED_BYTES else None

    def size(self, name: str) -> int:
        """Its bytes, as they were seen."""
        return self.seen[self._place(name)].size

    def expect(self, names: Iterable[str]) -> None:
        """What will be read, in order: ahead, where the disk is slow."""
        self.close()
        self._ahead = Ahead(names, self._named, self.size)

    def close(self) -> None:
        """Ends what is read ahead."""
        if self._ahead is not None:
            self._ahead.close()

    def _first(self, ahead: Ahead, name: str) -> bytes:
        """A file's bytes, while it may be one that is read ahead."""
        if ahead.quick:
            self._ahead = None
        return ahead(name)

    def _named(self, name: str) -> bytes:
        return self._read(name, self._place(name))

    def _found(self, name: object) -> int | None:
        """Where a file stands among those that were seen."""
        names = self.seen.names
        at = bisect_left(names, name) if isinstance(name, str) else len(names)
        return at if at < len(names) and names[at] == name else None

    def _place(self, name: str) -> int:
        found = self._found(name)
        if found is None:
            raise KeyError(name)
        return found

    def _read(self, name: str, place: int) -> bytes:
        """The bytes of a file. ConfigError where it may not be read, or is another one than was seen."""
        seen = self.seen[place]
        with self.opened(seen) as handle:
            data = _all(handle, seen.size)
            if len(data) != seen.size:
                raise self.changed(seen)
        return data

    @contextmanager
    def opened(self, seen: Seen) -> Iterator[int]:
        """A file that is opened to be read, and afterwards is still the one that was seen."""
        where = f"{self._shown}/{seen.name}"
        try:
            handle = os.open(f"{self._root}/{seen.name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise ConfigError("it may not be read", where=where, remedy="chmod u+r, or leave it out") from error
        except FileNotFoundError as error:
            raise ConfigError("it went while the source was read", where=where, remedy="the command again") from error
        try:
            yield handle
            if told_by(os.fstat(handle)) != seen[1:]:
                raise self.changed(seen)
        finally:
            os.close(handle)

    def changed(self, seen: Seen) -> ConfigError:
        """That a file is not as it was seen any more."""
        what = "it changed while the source was read"
        return ConfigError(what, where=f"{self._shown}/{seen.name}", remedy="the command again")


class Large:
    """A file that is too large to be held in memory."""

    def __init__(self, folder: Folder, seen: Seen) -> None:
        self._folder = folder
        self._seen = seen

    def cuts(self) -> chunk.Cuts:
        """Where it is cut into chunks; reads all of it. ConfigError as for any file."""
        with self._folder.opened(self._seen) as handle:
            found = chunk.cuts(lambda room: os.readv(handle, [room]))
        if sum(found.sizes) != self._seen.size:
            raise self._folder.changed(self._seen)
        return found

    def read(self, at: int, size: int) -> bytes:
        """So many bytes, from a place on."""
        with self._folder.opened(self._seen) as handle:
            data = os.pread(handle, size, at)
        return data


def _all(handle: int, size: int) -> bytes:
    """What an open file holds, and a byte more where it grew."""
    data = os.read(handle, size + 1)
    if len(data) >= size:
        return data
    parts = [data]
    while (part := os.read(handle, 1 << 26)) and sum(map(len, parts)) <= size:
        parts.append(part)
    return b"".join(parts)


class Packed(Files):
    """The files of a source that comes in one piece, which is `seen` where it is a file here; opened when one is asked for."""

    def __init__(self, seen: Sight | None, unpack: Callable[[], Files], *, told: Mapping[str, str] = NOTHING) -> None:
        self.seen = seen
        self.told = told
        self._unpack = unpack
        self._files: Files | None = None

    def __getitem__(self, name: str) -> bytes:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def size(self, name: str) -> int:
        """Its bytes."""
        return self._all().size(name)

    def large(self, name: str) -> "Large | None":
        """A file that is read in pieces."""
        return self._all().large(name)

    def _all(self) -> Files:
        if self._files is None:
            self._files = self._unpack()
        return self._files


class Stored(Files):
    """The files that a tree holds, but for erased ones."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._places = {name: place for name, place in sorted(tree.places.items()) if not tree.erased(place)}

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._tree.view(self._places[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def size(self, name: str) -> int:
        """Its bytes."""
        return int(self._tree.rows.columns["size"][self._places[name]])

    def version(self, name: str) -> str | None:
        """That of the content in the tree."""
        place = self._places[name]
        return self._tree.spot(place).version if self._tree.stays(place) else None
