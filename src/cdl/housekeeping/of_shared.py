"""What the doctor looks at in the shared store: whose it is, and whether what its parcels promise lies there."""

from collections.abc import Iterator, Mapping

from cdl.errors import CdlError, Unavailable
from cdl.housekeeping.finding import Finding, Look
from cdl.sharing import parcel
from cdl.sharing.parcel import Parcel
from cdl.sharing.place import gone, object_name, read_marker
from cdl.store.remote import Remote
from cdl.store.store import digest

AREA = "shared store"
GONE = "cdl sync in the clone that sent it, or here: cdl doctor --mend"
SEND = "cdl sync --whole, in a clone that has it, sends it again"


def check(look: Look) -> Iterator[Finding]:
    """Marker, parcels, objects by a listing; with `full` every byte."""
    try:
        remote = look.workspace.shared.remote
        if remote is None:
            return
        found = read_marker(remote, look.clone)
        if found is None:
            yield Finding(area=AREA, where=remote.place, what="nothing was ever sent there", remedy="cdl sync")
            return
        yield from _contents(look, remote)
    except Unavailable as error:
        yield Finding(area=AREA, where=error.where or "", what=error.message, remedy=error.remedy)


def _contents(look: Look, remote: Remote) -> Iterator[Finding]:
    look.workspace.tell(f"lists {remote.place}")
    sizes = {held.name.removeprefix("objects/").replace("/", ""): held.size for held in remote.held("objects/")}
    removed = gone(look.clone, remote)
    promised: dict[str, str] = {}
    for name, found in _parcels(look, remote):
        if isinstance(found, Finding):
            yield found
            continue
        for each in found.objects:
            promised.setdefault(each, name)
    for each in sorted(n for n in sizes if look.clone.store.erased(n) is not None):
        if look.mend:
            remote.delete(object_name(each))
        what = "it was erased, and lies there all the same"
        yield Finding(area=AREA, where=f"object {each[:12]}", what=what, remedy=GONE, mended=look.mend)
    for each, name in sorted(promised.items()):
        what = "" if each in removed else _wrong(look, remote, each, sizes)
        if what:
            mended = look.mend and _sent(look, remote, each)
            yield Finding(
                area=AREA, where=f"object {each[:12]} of parcel {name}", what=what, remedy=SEND, mended=mended
            )


def _parcels(look: Look, remote: Remote) -> Iterator[tuple[str, Parcel | Finding]]:
    """Every parcel that lies there. One that this clone keeps is fetched only where its size is another, or with `full`."""
    for held in remote.held("shared/"):
        kept = look.clone.folder / held.name
        same = not look.full and kept.is_file() and kept.stat().st_size == held.size
        try:
            data = kept.read_bytes() if same else remote.get(held.name) or b""
            yield held.name, parcel.decode(data, held.name)
        except CdlError as error:
            yield (
                held.name,
                Finding(
                    area=AREA,
                    where=held.name,
                    what=error.message,
                    remedy="its clone sends no other; who wrote it? what follows in its stream is not taken by anybody",
                ),
            )


def _wrong(look: Look, remote: Remote, name: str, sizes: Mapping[str, int]) -> str:
    """What is wrong with an object that a parcel promises; nothing, mostly."""
    store = look.clone.store
    if name not in sizes:
        return "it is not there"
    if store.has(name) and store.size(name) != sizes[name]:
        return f"it has {sizes[name]:,} bytes there and {store.size(name):,} here"
    if look.full and digest(remote.get(object_name(name)) or b"") != name:
        return "the bytes are not what the name says"
    return ""


def _sent(look: Look, remote: Remote, name: str) -> bool:
    """Whether this clone has the bytes; they stand there then."""
    store = look.clone.store
    try:
        remote.put(object_name(name), store.view(name))
    except CdlError:
        return False
    return True
