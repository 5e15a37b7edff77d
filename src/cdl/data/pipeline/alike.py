"""Items of a table or an array that changed: which of them are as the version before has them.

Such a source is read again as a whole, but an item whose content, fields and label are as they were stays where it lies.
"""

from collections.abc import Mapping
from typing import Any

from cdl.data.pipeline.draft import Draft
from cdl.data.pipeline.ingest import INGEST, tree_before
from cdl.data.pipeline.ledger import EQUAL_BYTES
from cdl.data.pipeline.split import ASIDE, TEST, TRAIN
from cdl.store.tree import Tree


class Alike:
    """Compares with the version before, where this clone made it and items are equal by their bytes; else nothing is alike."""

    def __init__(self, draft: Draft) -> None:
        self._trees: dict[str, Tree] = {}
        if draft.looked is not None and draft.config.split.by is None and draft.config.items.files is None:
            found = {side: tree_before(draft, INGEST, side) for side in (TRAIN, TEST)}
            self._trees = {side: tree for side, tree in found.items() if tree is not None}
        columns = draft.before.columns
        self._sides, self._labels = columns["side"], columns["label"]
        self._equals = columns["equal"].tobytes() if self._trees else b""

    def __call__(self, row: int, identity: str, digest: bytes, label: str | None, fields: Mapping[str, Any]) -> bool:
        """Whether the row of the ledger before tells of an item with this content (by its digest), label and fields."""
        if self._equals[row * EQUAL_BYTES : (row + 1) * EQUAL_BYTES] != digest or self._sides[row] == ASIDE:
            return False
        tree = self._trees[self._sides[row]]
        place = tree.places.get(identity)
        return (
            place is not None and not tree.erased(place) and self._labels[row] == label and tree.meta(place) == fields
        )
