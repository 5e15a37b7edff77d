"""Whether a tombstone is one: signed by a key of its dataset, whose public half stands on the integration branch.

Whoever may write to the shared place could otherwise have every clone remove what he names, or read something else instead.
"""

import json

from cdl import document
from cdl.errors import Corrupt
from cdl.keys import verify
from cdl.registry import keyfile
from cdl.registry.records import key_path
from cdl.sharing.clone import Clone
from cdl.store.erased import ERASED, ITEMS

SIGNATURE = "signature"


def content(claim: str, found: dict[str, object]) -> bytes:
    """What a tombstone's signature is of: the name that it takes and everything that it says."""
    return document.canonical({"claim": claim, "content": {k: v for k, v in found.items() if k != SIGNATURE}})


def genuine(clone: Clone, claim: str, payload: bytes) -> bool:
    """Whether a claim may be taken in: every one that is no tombstone, and those whose signature fits."""
    if not claim.startswith((ERASED, ITEMS)):
        return True
    try:
        found = json.loads(payload)
        name = claim.removeprefix(ITEMS) if claim.startswith(ITEMS) else str(found["items"][0])
        signature = str(found[SIGNATURE])
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    tip, path = clone.registry.tip(), key_path(name.partition("/")[0])
    data = clone.git.read(tip, path) if tip else None
    try:
        publics = keyfile.decode(path, data).publics if data else []
    except Corrupt:
        return False
    return any(verify(public, content(claim, found), signature) for public in publics)
