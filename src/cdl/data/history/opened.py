"""A version of a dataset with its trees and its ledger, opened when asked for; and what makes an item in it what it is."""

from functools import cached_property
from typing import NamedTuple

from cdl import document
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.draft import source_names
from cdl.data.pipeline.ledger import ITEM, SOURCE, Ledger, Line
from cdl.data.pipeline.split import ASIDE, TEST, TRAIN
from cdl.registry.records import Dataset, Source
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.store.tree import Tree, changes, open_tree

FILE = "file"  # the side of a file that is no item
State = tuple[str, str, int, str, str | None, bytes, bytes]  # side, equal, source, name, label, hash, fields


class Row(NamedTuple):
    """The side of an item, and the one that it had before it was set aside."""

    side: str
    before: str | None


class Version:
    """A version with its trees and its ledger, opened when asked for; None is one that holds nothing."""

    def __init__(self, store: Store, vault: Vault, identity: str | None, record: Dataset | None) -> None:
        self.store, self.vault, self.id, self.record = store, vault, identity, record

    @cached_property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return ledgers.read(self.vault, self.record.split.ledger if self.record else None)

    @cached_property
    def lines(self) -> set[Line]:
        """What its ledger says of items and files."""
        return {line for line in self.ledger.lines() if line[0] != SOURCE}

    @cached_property
    def rows(self) -> dict[tuple[str, str], Row]:
        """The rows of its ledger, by item and what that was equal by."""
        return {
            (item, equal): Row(side or "", before) for kind, item, equal, side, before, *_ in self.lines if kind == ITEM
        }

    @cached_property
    def sealed(self) -> dict[str, Tree | None]:
        """The trees of items that are in no set: set aside, rejected."""
        found = (
            (self.record.split.set_aside.get("tree"), self.record.rejected.get("tree")) if self.record else (None, None)
        )
        return {side: self.vault.tree(name) if name else None for side, name in zip((ASIDE, FILE), found, strict=True)}

    @cached_property
    def stages(self) -> dict[tuple[int, str], Tree]:
        """The trees of both sets after each stage."""
        steps = self.record.steps if self.record else []
        train = {(n, TRAIN): self.store.tree(stage.train) for n, stage in enumerate(steps)}
        return train | {(n, TEST): self.vault.tree(stage.test) for n, stage in enumerate(steps)}

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Its sources by what tells them apart."""
        declared = self.record.sources if self.record else []
        return dict(zip(source_names(declared), declared, strict=True))

    def raw(self, source: str) -> Tree | None:
        """The files of a source."""
        found = self.sources.get(source)
        return open_tree(self.vault, found.raw) if found else None

    def tree(self, side: str) -> Tree | None:
        """Where the items of a side lie as they came."""
        return self.sealed[side] if side in self.sealed else self.stages.get((0, side))

    def state(self, item: str) -> State | None:
        """What makes an item what it is; None where it is not in this version, or was erased."""
        origin = self.ledger.origins.get(item)
        if origin is None:
            return None
        side = self.rows[item, origin.equal].side if origin.equal else FILE
        tree = self.tree(side)
        place = tree.places.get(item) if tree is not None else None
        if tree is None or place is None or tree.erased(place):
            return None
        fields = document.canonical(dict(tree.meta(place)))
        return side, origin.equal, origin.source, origin.name, origin.label, tree.hash(place), fields

    def differing(self, other: "Version") -> set[str]:
        """The items that another version may have in another state, or not have, or have alone."""
        found = {line[1] for line in self.lines ^ other.lines}
        for side in (TRAIN, TEST, ASIDE, FILE):
            found |= apart(self.tree(side), other.tree(side))
        return found


def apart(first: Tree | None, second: Tree | None) -> set[str]:
    """The names under which two trees have not the same."""
    if first is None or second is None:
        tree = first or second
        return set(tree.names) if tree is not None else set()
    found = changes(first, second)
    return {*found.added, *found.removed, *found.changed}
