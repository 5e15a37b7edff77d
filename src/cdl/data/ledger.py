"""The ledger of a dataset: which source item is which id, on which side, with which label from the source. Always sealed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from cdl import document
from cdl.data.split import Row, merged
from cdl.store.seal import Vault


@dataclass(frozen=True)
class Origin:
    """Where an item came from: the source's place in cdl.yaml, the item's name there, and its label there."""

    source: int
    name: str
    label: str | None


@dataclass(frozen=True)
class Ledger:
    """Every item there ever was (`rows`), and those of this version by id (`origins`)."""

    rows: tuple[Row, ...]
    origins: Mapping[str, Origin]


EMPTY = Ledger((), {})


def read(vault: Vault, name: str | None) -> Ledger:
    """A sealed ledger; an empty one for None."""
    if name is None:
        return EMPTY
    found = json.loads(vault.get(name))
    rows = tuple(Row(id=i, equal=e, side=s, before=b) for i, e, s, b in found["rows"])
    return Ledger(rows, {i: Origin(*origin) for i, origin in found["origins"].items()})


def write(vault: Vault, before: Ledger, rows: Mapping[str, Row], origins: Mapping[str, Origin]) -> str:
    """Seals the next ledger; its name."""
    kept: Iterable[Row] = merged(before.rows, rows)
    content = {
        "rows": [[r.id, r.equal, r.side, r.before] for r in kept],
        "origins": {i: list(asdict(o).values()) for i, o in origins.items()},
    }
    return vault.put(document.canonical(content))
