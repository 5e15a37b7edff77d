"""Tombstones among clones: they come before anything else, and what they name goes at once."""

from functools import partial

from cdl.sharing import claims
from cdl.sharing.clone import Clone
from cdl.sharing.place import fetch_one, object_name
from cdl.sharing.signed import genuine
from cdl.store.erased import ERASED, ITEMS
from cdl.store.remote import Remote


def follow(clone: Clone, remote: Remote) -> list[str]:
    """Fetches the tombstones that others put, and removes what they name here; those that are forged, each in a line.

    What stands in an object's place comes before it goes. A clone that still held one may have sent it: it goes there as well.
    """
    fits = partial(genuine, clone)
    forged = [name for prefix in (ERASED, ITEMS) for name in claims.look(clone.store, remote, prefix, fits=fits)]
    count = 0
    for name in present(clone):
        tombstone = clone.store.erased(name)
        instead = tombstone.instead if tombstone else None
        if instead and not clone.store.has(instead) and not fetch_one(clone, remote, instead):
            if clone.store.erased(instead) is None:
                clone.tell(f"object {name[:12]} was erased, and what stands for it is not there yet")
                continue
        clone.store.remove(name)
        remote.delete(object_name(name))
        count += 1
    if count:
        clone.tell(f"{count:,} objects were erased by others: they are gone here too")
    return [f"{remote.place}: {name[:24]}: no key of its dataset signed this tombstone" for name in forged]


def present(clone: Clone) -> list[str]:
    """Objects that have a tombstone and are here all the same."""
    names = [claim.removeprefix(ERASED) for claim in clone.store.claims(ERASED)]
    return [name for name in names if clone.store.has(name)]
