"""A source that is a bucket, or a prefix of one: objects are fetched when they are read, several at a time ahead of the reader.

What comes lies in a temporary folder until the run ends, since each object is read twice: first to tell its side, then to be
stored; one that is not to be stored is let go. Large objects come in parts. An object is told by its etag, version, time and
size; one that is as the last run saw it is not fetched.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cdl.data.sources.files import Folder
from cdl.data.sources.walk import Seen, Sight
from cdl.errors import ConfigError, Corrupt
from cdl.store.client import Client, Listed
from cdl.store.outside import Wanted, hash_of
from cdl.store.tree import check_name

WORKERS = 16  # requests at a time
AHEAD = 64  # objects that are fetched before they are asked for
AHEAD_BYTES = 256_000_000  # the most that these hold
PART_BYTES = 8_000_000  # of one request
SHOWN = 5  # objects that an error names


def open_bucket(place: str) -> Client:
    """The bucket that a source names. Unavailable without the package for it."""
    return Client(place, where="cdl.yaml: source.bucket")


def listed(client: Client) -> dict[str, Listed]:
    """The objects by name, in order. What begins with a dot, and what stands for a folder, is left out.

    ConfigError for a name that no file can have.
    """
    found = {}
    for each in client.every():
        if not each.name.endswith("/") and "/." not in f"/{each.name}":
            found[each.name] = each
    for name in found:
        _check(client.place, name, found)
    return {name: found[name] for name in sorted(found)}


def sight(objects: dict[str, Listed]) -> Sight:
    """What is seen of some objects: a digest of all that tells one stands where a file has its inode."""
    numbers = array("q")
    for each in objects.values():
        told = f"{each.etag}\0{each.version}\0{each.written.timestamp()}"
        digest = hashlib.sha256(told.encode()).digest()
        numbers.extend((each.size, 0, 0, int.from_bytes(digest[:8], "little") >> 1))
    return Sight([*objects], numbers)


def fetch(client: Client, wanted: Sequence[Wanted]) -> list[memoryview]:
    """Contents that stay in a bucket, several requests at a time, each held against its hash.

    Corrupt for those that are not there any more, or with another content.
    """
    with ThreadPoolExecutor(min(WORKERS, len(wanted)), thread_name_prefix="fetch") as pool:
        found = list(pool.map(partial(_pinned, client), wanted))
    lost = [str(each.spot.name) for each, data in zip(wanted, found, strict=True) if data is None]
    if lost:
        more = f" and {len(lost) - SHOWN:,} more" if len(lost) > SHOWN else ""
        raise Corrupt(
            f"not what the version holds any more, or gone: {', '.join(lost[:SHOWN])}{more}",
            where=client.place,
            remedy="put back what it was; cdl data run makes a version of what is there",
        )
    return [data for data in found if data is not None]


def _pinned(client: Client, wanted: Wanted) -> memoryview | None:
    """A content: the version that was read when it was pinned, or else what stands there now."""
    spot = wanted.spot
    for version in dict.fromkeys([spot.version, None]):
        data = _whole(client, str(spot.name), version, wanted.size)
        if data is not None and hash_of(data) == wanted.hash:
            return data
    return None


def _whole(client: Client, name: str, version: str | None, size: int) -> memoryview | None:
    """An object of a size, in parts; None where it has another one."""
    first = client.pinned(name, version, size, 0, min(PART_BYTES, size))
    if first is None or len(first) == size:
        return first if first is None else memoryview(first)
    data = bytearray(size)
    data[: len(first)] = first
    for start in range(len(first), size, PART_BYTES):
        part = client.pinned(name, version, size, start, min(PART_BYTES, size - start))
        if part is None:
            return None
        data[start : start + len(part)] = part
    return memoryview(data).toreadonly()


def _check(place: str, name: str, names: dict[str, Listed]) -> None:
    try:
        check_name(name)
    except Corrupt as error:
        raise ConfigError(f"no file can be called {name!r}", where=place, remedy="rename the object") from error
    above = name
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in names:
            raise ConfigError("an object and a folder have one name", where=f"{place}: {above}", remedy="rename one")


class Objects(Folder):
    """The objects as files. `folder` is where they lie while they are used; one thread reads."""

    def __init__(self, client: Client, objects: dict[str, Listed], seen: Sight, folder: Path) -> None:
        super().__init__(folder, client.place, seen)
        self._client = client
        self._objects = objects
        self._folder = folder
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch")
        self._queue: list[str] = []  # what will be read, in order
        self._turn: dict[str, int] = {}  # its places there
        self._begun = 0  # so many of these were begun
        self._bytes = 0  # begun and not asked for yet
        self._coming: dict[str, list[Future[bool]]] = {}
        self._versions: dict[str, str] = {}  # of those that came
        self._numbered = {name: str(number) for number, name in enumerate(seen.names)}

    def expect(self, names: Iterable[str]) -> None:
        """What will be read, in order: it is fetched ahead."""
        self._queue = [name for name in names if name not in self._coming]
        self._turn = {name: turn for turn, name in enumerate(self._queue)}
        self._begun = self._bytes = 0

    @contextmanager
    def opened(self, seen: Seen) -> Iterator[int]:
        """An object's file, once it came. ConfigError where it is another one than was listed."""
        self._fetch(seen)
        handle = os.open(self._file(seen.name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    def let_go(self, name: str) -> None:
        """Removes an object's file; should it be read again, it is fetched again."""
        if name in self._coming and not self._coming[name]:
            del self._coming[name]
            self._file(name).unlink()

    def version(self, name: str) -> str | None:
        """What the bucket calls the content that came."""
        return self._versions.get(name)

    def close(self) -> None:
        """Ends what is under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, seen: Seen) -> None:
        """Waits for an object, with those after it begun."""
        turn = self._turn.pop(seen.name, None)
        if turn is not None and turn < self._begun:
            self._bytes -= seen.size
        self._begin(seen.name)
        if turn is not None:
            self._run_ahead(turn)
        if not all(part.result() for part in self._coming[seen.name]):
            raise self.changed(seen)
        self._coming[seen.name] = []

    def _run_ahead(self, turn: int) -> None:
        self._begun = max(self._begun, turn + 1)
        while self._begun < min(len(self._queue), turn + AHEAD) and self._bytes < AHEAD_BYTES:
            name = self._queue[self._begun]
            self._begun += 1
            if name in self._turn:
                self._bytes += self._objects[name].size
                self._begin(name)

    def _begin(self, name: str) -> None:
        """Has an object fetched, unless it was or is."""
        if name not in self._coming:
            each = self._objects[name]
            with open(self._file(name), "wb") as file:
                file.truncate(each.size)
            starts = range(0, each.size, PART_BYTES)
            self._coming[name] = [self._pool.submit(self._part, each, start) for start in starts]

    def _part(self, each: Listed, start: int) -> bool:
        """Fetches a part of an object into its file; whether the object is still the one that was listed."""
        data = self._client.part(each, start, min(PART_BYTES, each.size - start))
        if data is None:
            return False
        if data.version is not None:
            self._versions[each.name] = data.version
        with open(self._file(each.name), "r+b") as file:
            file.seek(start)
            file.write(data.data)
        return True

    def _file(self, name: str) -> Path:
        return self._folder / self._numbered[name]
