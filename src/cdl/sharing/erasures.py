"""Tombstones among clones: they come before anything else, and what they name goes at once."""

from cdl.sharing import claims, exchange
from cdl.sharing.clone import Clone
from cdl.store.erased import ERASED, ITEMS
from cdl.store.remote import Remote


def follow(clone: Clone, remote: Remote) -> int:
    """Fetches the tombstones that others put, and removes what they name here; how many objects went.

    What stands in an object's place comes before it goes. A clone that still held one may have sent it: it goes there as well.
    """
    claims.look(clone.store, remote, ERASED)
    claims.look(clone.store, remote, ITEMS)
    count = 0
    for name in present(clone):
        tombstone = clone.store.erased(name)
        instead = tombstone.instead if tombstone else None
        if instead and not clone.store.has(instead) and not exchange.fetch_one(clone, remote, instead):
            if clone.store.erased(instead) is None:
                clone.tell(f"object {name[:12]} was erased, and what stands for it is not there yet")
                continue
        clone.store.remove(name)
        remote.delete(exchange.object_name(name))
        count += 1
    if count:
        clone.tell(f"{count:,} objects were erased by others: they are gone here too")
    return count


def present(clone: Clone) -> list[str]:
    """Objects that have a tombstone and are here all the same."""
    names = [claim.removeprefix(ERASED) for claim in clone.store.claims(ERASED)]
    return [name for name in names if clone.store.has(name)]
