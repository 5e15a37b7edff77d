"""Sides that cannot leak and do not move.

The side of an item is that of an equal item, else that of its earlier version, else a keyed hash of what makes it equal; where
the first two disagree it is set aside. The ledger of the version before remembers every item there ever was, so adding,
editing, removing and adding again never moves an item, and equal items are always on one side.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import msgspec
from blake3 import blake3

from cdl.data.pipeline.columns import Column, places_of, to_hex

TRAIN, TEST, ASIDE = "train", "test", "aside"
NONE = 0
CODES = {None: NONE, "": NONE, TRAIN: 1, TEST: 2, ASIDE: 4}  # one bit each: where sides meet, bits do
NAMES = {NONE: None, 1: TRAIN, 2: TEST, 4: ASIDE}
HASH_BYTES = 8
PUBLIC_KEY = blake3(b"", derive_key_context="cdl 2026 validation split").digest()


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Items there ever were: ids, keyed digests of what makes items equal, sides, and those before they were set aside.

    Sides are codes (u1). An item that was edited has a row for everything it was.
    """

    ids: Column
    equals: Column
    sides: Any
    befores: Any

    def own(self) -> Any:
        """The side that each item has of its own."""
        return import_module("numpy").where(self.sides == CODES[ASIDE], self.befores, self.sides)


def assign(ids: Column, equals: Column, declared: Any, known: Known, *, key: bytes, share: float) -> tuple[Any, Any]:
    """The side of each item, and for those set aside the one it had before (codes). `declared` are codes too.

    `share` of the test set is 0 to 1; `key` has 32 bytes. Items in `known` that are not given again keep their sides.
    """
    numpy = import_module("numpy")
    own = _looked_up(ids, known.ids, known.own())
    groups, first, group = numpy.unique(equals, return_index=True, return_inverse=True)
    standing = numpy.where(known.sides == CODES[ASIDE], NONE, known.sides)
    sides = _looked_up(groups, known.equals, standing)
    for others in (own, declared):
        met = numpy.zeros(len(groups), dtype="|u1")
        numpy.bitwise_or.at(met, group, others)
        sides = numpy.where(sides == NONE, met, sides)
    free = (sides == NONE).nonzero()[0]
    hashes = [CODES[hashed(equal, key=key, share=share)] for equal in to_hex(equals[first[free]])]
    sides[free] = numpy.array(hashes, dtype="|u1")
    met = sides[group] | own | declared
    agreed = met & (met - 1) == 0  # one bit alone
    return numpy.where(agreed, met, CODES[ASIDE]).astype("|u1"), numpy.where(agreed, NONE, own).astype("|u1")


def _looked_up(wanted: Column, among: Column, values: Any) -> Any:
    """The value that stands beside each wanted one, NONE where none does."""
    numpy = import_module("numpy")
    told = (values != NONE).nonzero()[0]
    places = places_of(wanted, among[told])
    found = numpy.zeros(len(wanted), dtype="|u1")
    found[places >= 0] = values[told][places[places >= 0]]
    return found


def hashed(equal: str, *, key: bytes, share: float) -> str:
    """A side from a keyed hash alone."""
    return TEST if fraction(equal, key) < share else TRAIN


def fraction(text: str, key: bytes) -> float:
    """A number from 0 to 1 that only holders of the key can compute."""
    digest = blake3(text.encode(), key=key).digest(length=HASH_BYTES)
    return int.from_bytes(digest, "big") / (1 << (8 * HASH_BYTES))


def validating(equal: Iterable[str], share: float) -> list[bool]:
    """Which training items validate: equal ones together, by a public key, so that anyone gets the same parts."""
    return [fraction(e, PUBLIC_KEY) < share for e in equal]
