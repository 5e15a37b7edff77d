"""A parcel: what came into the shared place with one segment of a stream. It is written last, so what it names is there.

    {"format": "cdl-parcel-1", "objects": ["3f2a..."], "claims": {"jobs/77f0...": b"{...}"}, "records": ["m-0c5e..."]}

It is msgpack. Every clone keeps those that it sent or fetched under `.cdl/shared/<stream>/<segment>`: together they say what
the shared place holds, so that nobody has to list it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cdl.errors import CdlError, Corrupt
from cdl.journal import stream
from cdl.store import whole
from cdl.store.erased import ERASED, ITEMS
from cdl.store.store import NAME
from cdl.store.tree import check_name

FORMAT = "cdl-parcel-1"
LOCAL = "shared"  # the folder below `.cdl`
JOBS, WORK = "jobs/", "work/"  # claims of what is only kept for the next time: their outputs may go
CLAIMS = (JOBS, WORK, "evaluations/", "comparisons/", "revisions/", "counted/", "trained/", "triggers/", ERASED, ITEMS)
CLAIM = re.compile(r"[^\x00-\x1f\x7f]{1,300}")


class Parcel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Objects, claims with what they were taken with, and records whose objects are among these."""

    format: str = FORMAT
    objects: list[str] = []
    claims: dict[str, bytes] = {}
    records: list[str] = []

    def beyond(self, other: "Parcel") -> "Parcel":
        """What stands here and not in another."""
        there = set(other.objects)
        return Parcel(
            objects=[name for name in self.objects if name not in there],
            claims={name: payload for name, payload in self.claims.items() if name not in other.claims},
            records=[record for record in self.records if record not in other.records],
        )


class Known(msgspec.Struct):
    """What the parcels of a clone name."""

    objects: set[str] = msgspec.field(default_factory=set)
    claims: set[str] = msgspec.field(default_factory=set)
    records: set[str] = msgspec.field(default_factory=set)

    def add(self, parcel: Parcel) -> None:
        """Takes one in."""
        self.objects.update(parcel.objects)
        self.claims.update(parcel.claims)
        self.records.update(parcel.records)


def remote_name(stream_id: str, segment: int) -> str:
    """The name of a parcel in a remote."""
    return f"shared/{stream_id}/{stream.name(segment)}"


def encode(parcel: Parcel) -> bytes:
    """The bytes of a parcel; equal parcels give equal bytes."""
    return msgspec.msgpack.encode(parcel, order="sorted")


def decode(data: bytes, where: str) -> Parcel:
    """A parcel from bytes that anybody may have written. Corrupt."""
    try:
        found = msgspec.msgpack.decode(data, type=Parcel)
        if found.format != FORMAT or not all(NAME.fullmatch(o) for o in found.objects):
            raise ValueError("another format")
        for claim in found.claims:
            check_name(claim)
            if not CLAIM.fullmatch(claim) or not claim.startswith(CLAIMS):
                raise ValueError(f"{claim!r} is no claim that is shared")
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError, CdlError) as error:
        raise Corrupt(f"not a parcel: {error}", where=where, remedy="cdl doctor") from error
    return found


def path(folder: Path, stream_id: str, segment: int) -> Path:
    """Where a clone keeps a parcel. `folder` is `.cdl`."""
    return folder / LOCAL / stream_id / stream.name(segment)


def keep(folder: Path, stream_id: str, segment: int, data: bytes) -> None:
    """Keeps the bytes of a parcel that was sent or fetched whole."""
    whole.write(path(folder, stream_id, segment), data, mode=0o644)


def kept(folder: Path) -> Iterator[Parcel]:
    """Every parcel that this clone keeps."""
    for found in sorted((folder / LOCAL).glob("c-*/[0-9]*")):
        yield decode(found.read_bytes(), where=str(found))


def known(folder: Path) -> Known:
    """What the shared place holds, as far as this clone knows."""
    found = Known()
    for parcel in kept(folder):
        found.add(parcel)
    return found
