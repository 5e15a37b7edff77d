"""Contents that stay where they lie, being too large to be copied (`copy: false`): in a folder of the project, or a bucket.

    cdl-outside-1\\n{"path":"photos"}
    cdl-objects-1\\n{"bucket":"s3://team/photos","objects":[["a/1.png","3sL4kq..."],["a/2.png",null]]}

is the object that a row of a tree then points to; hash and size of the row pin the content, and whoever reads holds the bytes
against them. Of a folder `at` is OUTSIDE, and which file has it is nobody's to know here: it is found by its hash. Of a bucket
`at` is OBJECTS and a place in `objects`: the object's name below the prefix, and the bucket's version id where it keeps versions.
Of a sealed set such a list is sealed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from blake3 import blake3

from cdl import document
from cdl.errors import Corrupt, Unavailable
from cdl.store import chunk

OUTSIDE = (1 << 64) - 2  # in column `at` of a tree: a folder
OBJECTS = 1 << 63  # and this, with a place in the list added: an object of a bucket
FOLDER_MAGIC = b"cdl-outside-1\n"
BUCKET_MAGIC = b"cdl-objects-1\n"


class Spot(NamedTuple):
    """Where a content stays: a folder relative to cdl.yaml; or a bucket, with the object's `name` and version id there."""

    place: str
    name: str | None = None
    version: str | None = None


class Wanted(NamedTuple):
    """A content that stays somewhere, by what pins it."""

    spot: Spot
    hash: bytes
    size: int


Reader = Callable[[Sequence[Wanted]], list[memoryview]]  # the contents, each held against its hash


class _Folder(msgspec.Struct, frozen=True):
    path: str


class _Bucket(msgspec.Struct, frozen=True):
    bucket: str
    objects: list[tuple[str, str | None] | None]  # None: erased


def folder(path: str) -> bytes:
    """The object that names a folder, relative to cdl.yaml."""
    return FOLDER_MAGIC + document.canonical({"path": path})


def listing(bucket: str, objects: Sequence[tuple[str, str | None] | None]) -> bytes:
    """The object that lists some objects of a bucket: names and version ids."""
    return BUCKET_MAGIC + document.canonical({"bucket": bucket, "objects": [o and list(o) for o in objects]})


def spots(data: bytes | memoryview, *, where: str) -> list[Spot | None]:
    """What such an object names: one folder, or objects of a bucket in their order (None: erased). Corrupt."""
    whole = bytes(data)
    try:
        if whole.startswith(FOLDER_MAGIC):
            return [Spot(msgspec.json.decode(whole[len(FOLDER_MAGIC) :], type=_Folder).path)]
        if whole.startswith(BUCKET_MAGIC):
            found = msgspec.json.decode(whole[len(BUCKET_MAGIC) :], type=_Bucket)
            return [Spot(found.bucket, *each) if each else None for each in found.objects]
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass
    raise Corrupt("names no place outside of the store", where=where[:14], remedy="cdl store verify")


def spot_at(named: Sequence[Spot | None], at: int, *, where: str) -> Spot:
    """The one that a row with some `at` means. Corrupt."""
    number = 0 if at == OUTSIDE else at - OBJECTS
    found = named[number] if number < len(named) else None
    if found is None or (found.name is None) != (at == OUTSIDE):
        raise Corrupt("a tree names more than there is", where=where[:14], remedy="cdl store verify")
    return found


def without(data: bytes | memoryview, lost: Sequence[int], *, where: str) -> bytes:
    """A list of a bucket's objects in which some rows (by their `at`) find nothing any more. Corrupt."""
    gone = {at - OBJECTS for at in lost}
    named = spots(data, where=where)
    place = next((each.place for each in named if each is not None), "")
    left = [each if number not in gone else None for number, each in enumerate(named)]
    return listing(place, [(str(each.name), each.version) if each else None for each in left])


def hash_of(data: memoryview | bytes) -> bytes:
    """The hash that a tree has of a content: that of its chunks where it is large."""
    return chunk.cuts(memoryview(data)).hash if len(data) >= chunk.CHUNKED_BYTES else blake3(data).digest()


def nowhere(wanted: Sequence[Wanted]) -> list[memoryview]:
    """A reader outside of a project. Unavailable."""
    where = wanted[0].spot.place if wanted else None
    raise Unavailable("a content lies outside of the store", where=where, remedy="the command again, in its project")
