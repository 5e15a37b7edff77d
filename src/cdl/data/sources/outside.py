"""Contents that stay in their source (`copy: false`), held against their hash when they are read: in a folder found by it, in a
bucket by the object's name, which the tree knows.

    .cdl/outside/<digest of the folder>.bin      names and hashes of the files, as the last run here saw them

Where there is none, as in another clone, every file of the folder is read once to make it. It tells no set and no label. Folders
and buckets are only looked into where cdl.yaml names them as sources: a tree from elsewhere cannot have others read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from cdl.config.schema import Config
from cdl.data.sources.files import Folder
from cdl.data.sources.objects import fetch, open_bucket
from cdl.data.sources.walk import told_by, walk
from cdl.errors import Corrupt, Unavailable
from cdl.store import whole
from cdl.store.client import Client
from cdl.store.outside import Spot, Wanted, hash_of
from cdl.store.tree import HASH_BYTES, Tree

NOWHERE = memoryview(b"")  # stands for a content until it is fetched


class _File(msgspec.Struct, frozen=True):
    """What stands on disk: names, and a hash for each."""

    names: list[str]
    hashes: bytes


class Outside:
    """The sources of a work tree that stay in place. `folder` is `.cdl`. It reads for trees (store/outside.py).

    `allowed` refuses where this clone trusts the project with no bucket.
    """

    def __init__(
        self, root: Path, folder: Path, config: Config, tell: Callable[[str], None], allowed: Callable[[], None]
    ) -> None:
        self._root = root
        self._folder = folder
        sources = [s for data in config.data.values() for s in data.sources()]
        self._paths = {s.path for s in sources if s.path}
        self._buckets = {prefix(s.bucket) for s in sources if s.bucket}
        self._tell = tell
        self._allowed = allowed
        self._known: dict[str, tuple[tuple[int, ...], dict[bytes, str]]] = {}
        self._clients: dict[str, Client] = {}

    def __call__(self, wanted: Sequence[Wanted]) -> list[memoryview]:
        """Contents. Unavailable where a folder or a file with one is not here, Corrupt where another one stands there now."""
        found = [self._of_folder(*each) if each.spot.name is None else NOWHERE for each in wanted]
        for place in dict.fromkeys(each.spot.place for each in wanted if each.spot.name is not None):
            at = [n for n, each in enumerate(wanted) if each.spot.name is not None and each.spot.place == place]
            for n, data in zip(at, fetch(self._client(place), [wanted[n] for n in at]), strict=True):
                found[n] = data
        return found

    def _client(self, place: str) -> Client:
        """The bucket of a place. Unavailable where cdl.yaml names no such source, Refused where nobody trusted it."""
        if place not in self._buckets:
            raise _no_source(place, "bucket")
        self._allowed()
        if place not in self._clients:
            self._clients[place] = open_bucket(place)
        return self._clients[place]

    def _of_folder(self, spot: Spot, hash_: bytes, size: int) -> memoryview:
        path = spot.place
        if path not in self._paths:
            raise _no_source(path, "path")
        if not (self._root / path).is_dir():
            raise Unavailable(
                "contents of this version stay there (copy: false), and it is not here",
                where=path,
                remedy="put the folder there, or a link to it",
            )
        name = self._names(path).get(hash_)
        if name is None:
            remedy = "put the file back; cdl data run makes a version of what is there"
            raise Unavailable("no file there is known to hold what the version holds", where=path, remedy=remedy)
        try:
            data = memoryview((self._root / path / name).read_bytes())
        except OSError as error:
            remedy = "put it back; cdl data run makes a version of what is there"
            raise Unavailable(f"not read: {error.strerror}", where=f"{path}/{name}", remedy=remedy) from error
        if len(data) != size or hash_of(data) != hash_:
            raise Corrupt(
                "it is not what the version holds any more",
                where=f"{path}/{name}",
                remedy="put it back as it was; cdl data run makes a version of what is there",
            )
        return data

    def _names(self, path: str) -> dict[bytes, str]:
        """The file of each hash, as it was noted last."""
        place = place_of(self._root, self._folder, path)
        if not place.exists():
            self._look(path)
        told = told_by(place.stat())
        if path not in self._known or self._known[path][0] != told:
            found = msgspec.msgpack.decode(place.read_bytes(), type=_File)
            parts = (found.hashes[at : at + HASH_BYTES] for at in range(0, len(found.hashes), HASH_BYTES))
            self._known[path] = told, dict(zip(parts, found.names, strict=True))
        return self._known[path][1]

    def _look(self, path: str) -> None:
        """Reads every file of a folder, and notes the hashes."""
        files, hashes = Folder(self._root / path, path, walk(self._root / path, path)), bytearray()
        self._tell(f"{path}: {len(files):,} files are read to know which is which")
        for name in files:
            large = files.large(name)
            hashes += blake3(files[name]).digest() if large is None else large.cuts().hash
        _write(place_of(self._root, self._folder, path), [*files], bytes(hashes))


def prefix(bucket: str) -> str:
    """A bucket's prefix as trees name it."""
    return bucket.rstrip("/")


def _no_source(place: str, kind: str) -> Unavailable:
    return Unavailable(
        "contents of this version lie there, and cdl.yaml names no such source",
        where=place,
        remedy=f"source: {{{kind}: {place}, copy: false}}",
    )


def note(root: Path, folder: Path, path: str, tree: Tree) -> None:
    """Keeps which file has which hash: what the tree of a source says. `folder` is `.cdl`."""
    _write(place_of(root, folder, path), list(tree.names), tree.rows.columns["hash"].tobytes())


def place_of(root: Path, folder: Path, path: str) -> Path:
    """Where that is kept; a work tree has sources of its own."""
    told = f"{root}\0{path}".encode("utf-8", "surrogateescape")
    return folder / "outside" / f"{blake3(told).hexdigest()[:32]}.bin"


def _write(place: Path, names: list[str], hashes: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    whole.write(place, msgspec.msgpack.encode(_File(names, hashes)), mode=0o600)
