"""Which objects a record names for certain: without them it is not whole. What else looks like a name may be another hash."""

from collections.abc import Iterable

from cdl.registry.records import AnyRecord, Dataset, Labels, Model, Package, Transformation
from cdl.store.store import NAME, SEALED


def of_record(record: AnyRecord) -> Iterable[str]:
    """The objects that a record names."""
    match record:
        case Dataset():
            found: list[str | None] = [*record.objects]
        case Labels():
            found = list(record.rows.values())
        case Transformation():
            found = [record.state, record.stored]
        case Model():
            found = [record.weights]
        case Package():
            found = [record.tree]
        case _:
            found = []
    return [name for name in found if name and NAME.fullmatch(name.removeprefix(SEALED))]
