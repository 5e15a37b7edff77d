"""Tombstones: what stands where an object was that was erased for good.

    claims/erased/3f2a91c0...            {"instead": "77b2...", "items": ["points/0a1b2c..."], "who": ..., "when": ...}
    claims/erased-items/points/0a1b2c... {"digests": ["5e..."], "versions": ["d-91..."], "who": ..., "when": ...}

A tombstone is created once, signed with the dataset's evaluation key (sharing/signed.py), and travels before anything else;
whoever holds one neither keeps nor sends the object. Where an object held more than the erased item (a tree, a pack, an index),
`instead` is the same without it.
"""

from typing import TypeVar

import msgspec

from cdl.errors import Corrupt

ERASED = "erased/"
ITEMS = "erased-items/"
T = TypeVar("T")


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of an object: the items for whose sake it went, by whom, when and why, and what stands in its place."""

    instead: str | None
    items: list[str]
    who: str
    when: str
    because: str | None = None
    signature: str = ""

    @property
    def line(self) -> str:
        """For the person."""
        named = ", ".join(item.partition("/")[0] + " " + item.partition("/")[2][:12] for item in self.items)
        return f"item of {named}, erased by {self.who} at {self.when}" + (f": {self.because}" if self.because else "")


class ErasedItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of an item: keyed digests of its contents, and the dataset versions that held it."""

    digests: list[str]
    versions: list[str]
    who: str
    when: str
    because: str | None = None
    signature: str = ""


def read(data: bytes, *, where: str) -> Tombstone:
    """The tombstone in some bytes. Corrupt."""
    return _read(data, Tombstone, where)


def read_item(data: bytes, *, where: str) -> ErasedItem:
    """The same of an item."""
    return _read(data, ErasedItem, where)


def encode(found: Tombstone | ErasedItem) -> bytes:
    """The bytes of one."""
    return msgspec.json.encode(found)


def _read(data: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt("not a tombstone", where=where, remedy="cdl doctor") from error
