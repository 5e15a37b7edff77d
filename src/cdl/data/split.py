"""Sides that cannot leak and do not move.

The side of an item is that of an equal item, else that of its earlier version, else a keyed hash of what makes it equal; where
the first two disagree it is set aside. The ledger of the version before remembers every item there ever was, so adding,
editing, removing and adding again never moves an item, and equal items are always on one side.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blake3 import blake3

TRAIN, TEST, ASIDE = "train", "test", "aside"
HASH_BYTES = 8
PUBLIC_KEY = blake3(b"", derive_key_context="cdl 2026 validation split").digest()


@dataclass(frozen=True, kw_only=True)
class Item:
    """What the split looks at: an id, the keyed digest of what makes items equal, and a declared set."""

    id: str
    equal: str
    declared: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the ledger. `before` is the side that an item had before it was set aside."""

    id: str
    equal: str
    side: str
    before: str | None = None


def assign(items: Iterable[Item], ledger: Iterable[Row], *, key: bytes, share: float) -> dict[str, Row]:
    """The ledger's row of each item by id. `share` of the test set is 0 to 1; `key` has 32 bytes."""
    earlier = list(ledger)
    of_equal = {row.equal: row.side for row in earlier if row.side != ASIDE}
    of_id = {row.id: row.before if row.side == ASIDE else row.side for row in earlier}
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.equal].append(item)
    found: dict[str, Row] = {}
    for equal, group in groups.items():
        found |= _group(group, of_equal.get(equal), of_id, hashed(equal, key=key, share=share))
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


def merged(ledger: Iterable[Row], rows: Mapping[str, Row]) -> list[Row]:
    """The next ledger: every item there ever was; an edited one also keeps what it was equal to before."""
    kept = {(row.id, row.equal): row for row in ledger}
    kept |= {(row.id, row.equal): row for row in rows.values()}
    latest = {row.id: row for row in rows.values()}
    result = []
    for row in kept.values():
        now = latest.get(row.id)
        moved = now is not None and now.side == ASIDE and row.equal == now.equal
        result.append(now if moved and now is not None else row)
    return sorted(result, key=lambda row: (row.id, row.equal))


def _group(group: list[Item], of_equal: str | None, of_id: Mapping[str, str | None], fallback: str) -> dict[str, Row]:
    """The rows of items that are equal to each other."""
    declared = {i.declared for i in group if i.declared}
    before = {s for i in group if (s := of_id.get(i.id))}
    sides = {of_equal} if of_equal else before or declared or {fallback}
    rows = {}
    for item in group:
        mine = {s for s in (of_id.get(item.id), item.declared) if s}
        agreed = len(sides | mine) == 1
        side = next(iter(sides)) if agreed else ASIDE
        earlier = of_id.get(item.id) if side == ASIDE else None
        rows[item.id] = Row(id=item.id, equal=item.equal, side=side, before=earlier)
    return rows
