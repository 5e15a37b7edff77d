"""Which objects have to be there, and for whose sake: what records, events and claims name as theirs.

A hash anywhere may name an object or something else. Here only those are listed that name an object for certain, so one that is
missing is a fault.
"""

from collections.abc import Iterator

from cdl.journal.events import Event
from cdl.registry.objects import of_record
from cdl.registry.records import short
from cdl.sharing.clone import Clone
from cdl.store import reach
from cdl.store.erased import ERASED
from cdl.store.store import NAME, SEALED

EVENTS = {  # kind -> the field that names an object
    "labels.recorded": "batch",
    "trial.started": "config",
    "trial.finished": "result",
    "model.evaluated": "result",
    "model.revised": "result",
    "scoring.collected": "batch",
    "feedback.recorded": "batch",
}
RESULTS = ("evaluations/", "comparisons/", "revisions/")  # claims whose content is the name of a result


def needed(clone: Clone) -> Iterator[tuple[str, str]]:
    """Objects by name (bare), each with what names it; one may come several times."""
    for stored in clone.registry.everything():
        for name in of_record(stored.record):
            yield name.removeprefix(SEALED), short(stored.id)
    for event in clone.journal.events():
        if event.kind in EVENTS:
            yield str(event.fields[EVENTS[event.kind]]).removeprefix(SEALED), _told(event)
    for claim in clone.store.claims(ERASED):
        tombstone = clone.store.erased(claim.removeprefix(ERASED))
        if tombstone is not None and tombstone.instead is not None:
            yield tombstone.instead, f"the tombstone of {claim.removeprefix(ERASED)[:12]}"
    for prefix in RESULTS:
        for claim in clone.store.claims(prefix):
            found = (clone.store.claimed(claim) or b"").decode("utf-8", "replace")
            if NAME.fullmatch(found):
                yield found, f"claim {claim[:24]}"


def missing(clone: Clone) -> dict[str, str]:
    """Objects that have to be here and are not: name -> what names them, in words."""
    wanted: dict[str, str] = {}
    for name, because in needed(clone):
        wanted.setdefault(name, because)
    lacking = {n: why for n, why in wanted.items() if not clone.store.has(n) and clone.store.erased(n) is None}
    behind = reach.missing(clone.store, wanted)
    return lacking | {name: f"tree {tree[:12]}" for name, tree in behind.items()}


def _told(event: Event) -> str:
    return f"event {event.kind} {event.id[:10]} of stream {event.stream}"
