"""What a data step gets and gives: an item's content and fields, or that it was set aside."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cdl import document
from cdl.store import chunk
from cdl.store.seal import Vault


class Content(msgspec.Struct, frozen=True):
    """An item's bytes and fields."""

    data: bytes
    fields: Mapping[str, Any]


class Rejected(msgspec.Struct, frozen=True):
    """An item that a step set aside, with its reason."""

    item: Content
    reason: str


Outcome = Content | Rejected


def key(vault: Vault, item: Content) -> str:
    """What an item is to a step: a keyed digest of its bytes and fields."""
    return vault.digest(document.canonical(dict(item.fields)) + b"\0" + item.data)


def content_digest(vault: Vault, data: bytes | memoryview, cuts: chunk.Cuts | None = None) -> str:
    """What equal contents have in common: a keyed digest of the bytes; of a large one, of the hash that its `cuts` give."""
    if cuts is None and len(data) >= chunk.CHUNKED_BYTES:
        cuts = chunk.cuts(data)
    return vault.digest(bytes(data) if cuts is None else chunk.CONTEXT + cuts.hash)
