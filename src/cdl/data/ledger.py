"""The ledger of a dataset: which source item is which id, on which side, with which label from the source. Always sealed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cdl import document
from cdl.data.split import Row, merged
from cdl.store.seal import Vault


@dataclass(frozen=True)
class Origin:
    """Where an item came from: the source's number, the item's name there, its label there, and what it is equal by."""

    source: int
    name: str
    label: str | None
    equal: str


@dataclass(frozen=True)
class Ledger:
    """Every item there ever was (`rows`), those of this version by id (`origins`), every source by its number (`sources`)."""

    rows: tuple[Row, ...]
    origins: Mapping[str, Origin]
    sources: tuple[str, ...]


EMPTY = Ledger((), {}, ())


def read(vault: Vault, name: str | None) -> Ledger:
    """A sealed ledger; an empty one for None."""
    if name is None:
        return EMPTY
    found = json.loads(vault.get(name))
    rows = tuple(Row(id=i, equal=e, side=s, before=b) for i, e, s, b in found["rows"])
    return Ledger(rows, {i: Origin(*origin) for i, origin in found["origins"].items()}, tuple(found["sources"]))


def write(
    vault: Vault, before: Ledger, rows: Mapping[str, Row], origins: Mapping[str, Origin], sources: Sequence[str]
) -> str:
    """Seals the next ledger; its name."""
    return _sealed(vault, merged(before.rows, rows), origins, sources)


def rewritten(vault: Vault, found: Ledger, origins: Mapping[str, Origin]) -> str:
    """Seals a ledger with other origins; its name."""
    return _sealed(vault, found.rows, origins, found.sources)


def _sealed(vault: Vault, rows: Iterable[Row], origins: Mapping[str, Origin], sources: Sequence[str]) -> str:
    content = {
        "rows": [[r.id, r.equal, r.side, r.before] for r in rows],
        "origins": {i: [o.source, o.name, o.label, o.equal] for i, o in origins.items()},
        "sources": list(sources),
    }
    return vault.put(document.canonical(content))


def numbered(declared: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[str]]:
    """The number of each declared source, and every source by its number.

    An item's id holds the number, so a source keeps its own wherever cdl.yaml lists it. A new source takes the place of one that
    stood where it stands and is declared no more (another address for the same data), else the next number.
    """
    every, taken, numbers = list(known), set[int](), []
    for place, name in enumerate(declared):
        free = [n for n, k in enumerate(every) if k == name and n not in taken]
        if not free and place < len(known) and place not in taken and every[place] not in declared:
            every[place] = name
            free = [place]
        if not free:
            every.append(name)
            free = [len(every) - 1]
        taken.add(free[0])
        numbers.append(free[0])
    return numbers, every
