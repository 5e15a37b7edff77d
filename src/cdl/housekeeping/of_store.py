"""What the doctor looks at in the store: whether what is needed is there, and with --full whether every byte is what it was.

With --mend a good copy in the shared store takes the place of what is missing or broken here; what is broken and has none is put
aside, so that `cdl data run` can store it anew.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from cdl.errors import CdlError, Corrupt
from cdl.housekeeping.finding import Finding, Look
from cdl.housekeeping.needed import missing
from cdl.sharing import erasures
from cdl.sharing.place import fetch_one
from cdl.store.store import Fault

AREA = "store"
BACK = (
    "cdl doctor --mend takes it from the shared store, cdl data run stores it anew where the source still has it; else copy "
    ".cdl/store/objects from a backup or another clone"
)


def check(look: Look) -> Iterator[Finding]:
    """Missing objects; broken ones where `full`, or where one was met."""
    store = look.clone.store
    broken: list[Fault] = []
    if look.full:
        look.workspace.tell("reads every object")
        broken = list(store.verify())
    try:
        lacking = missing(look.clone)
    except Corrupt:  # a tree: the first only was met
        broken, lacking = broken or list(store.verify()), {}
    for fault in broken:
        yield _broken(look, fault)
    if broken and look.mend:
        lacking = missing(look.clone)  # some were put aside
    for name in erasures.present(look.clone):
        mended = look.mend and store.has(store.standing(name)) and store.remove(name)
        what = "it was erased, and is here all the same"
        yield Finding(area=AREA, where=f"object {name[:12]}", what=what, remedy="cdl sync", mended=mended)
    told = {fault.object for fault in broken}
    lacking = {n: why for n, why in lacking.items() if n not in told}
    while lacking:
        back = False
        for name, because in sorted(lacking.items()):
            finding = _finding(look, name, f"it is not here, and {because} needs it")
            back |= finding.mended
            yield finding
        told |= lacking.keys()
        lacking = {n: why for n, why in missing(look.clone).items() if n not in told} if back else {}  # named by these


def _broken(look: Look, fault: Fault) -> Finding:
    """A broken object; with `mend` a good one stands in its place, or none, so that it can be stored anew."""
    found = _finding(look, fault.object, fault.what)
    if look.mend and not found.mended:
        aside = look.clone.store.put_aside(fault.object)
        return replace(found, what=f"{fault.what}; it lies in {aside} now")
    return found


def _finding(look: Look, name: str, what: str) -> Finding:
    mended = look.mend and _restored(look, name)
    return Finding(area=AREA, where=f"object {name[:12]}", what=what, remedy=BACK, mended=mended)


def _restored(look: Look, name: str) -> bool:
    """Whether the shared store had the bytes; they stand here then."""
    try:
        remote = look.workspace.shared.remote
        return remote is not None and fetch_one(look.clone, remote, name)
    except CdlError:
        return False  # the shared store has a finding of its own
