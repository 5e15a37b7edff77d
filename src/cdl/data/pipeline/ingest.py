"""Ingestion: the training set into an open tree, the test set and the files that came from each source into sealed ones.

What the version before holds and the last run here saw unchanged stays where it lies; only what is new is read and stored.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from importlib import import_module
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.columns import column, from_hex, places_of, to_hex
from cdl.data.pipeline.draft import Draft, environment_id, source_names
from cdl.data.pipeline.ledger import ID_BYTES
from cdl.data.pipeline.progress import counted
from cdl.data.pipeline.split import CODES, TEST, TRAIN
from cdl.data.sources import outside
from cdl.jobs.closure import Closure
from cdl.registry.records import Lookup, Source, Stage
from cdl.store.builder import Builder
from cdl.store.tree import Tree, changes, open_tree

INGEST = "ingest"
APART = ("get", "unpinned", "copy")  # keys of a source that say nothing of what it held
CHANGES = ("added", "removed", "changed")


def ingest(draft: Draft) -> None:
    """Stores both sets; then the files of the sources, unless they are known."""
    known, repeated = draft.looked is not None, _repeated(draft)
    went = _went(draft) if known else set[str]()
    draft.let_go()
    made = {}
    for side in (TRAIN, TEST):
        before = tree_before(draft, INGEST, side)
        builder = Builder(draft.box(side), before=before)
        if known and before is not None:
            builder.stay([place for place, name in enumerate(before.names) if name not in went])
        of = int((draft.fresh.sides == CODES[side]).sum()) if draft.fresh is not None else 0
        for row, identity in counted(draft.fresh_of(side), of, f"store {side}", draft.workspace.tell):
            draft.add_item(builder, identity, row, once=not repeated[row])
        made[side] = builder.finish()
    note(draft, INGEST, made, None)
    if not draft.sources:
        _keep_files(draft)


def _went(draft: Draft) -> set[str]:
    """The ids of items that are not as they were."""
    ids = draft.before.columns["id"][draft.gone]
    went = {*to_hex(column(ids.tobytes(), ID_BYTES))}
    return went | {*to_hex(draft.fresh.ids)} if draft.fresh is not None else went


def _repeated(draft: Draft) -> Any:
    """Whether each item that is looked at has the content of another one that is (truth values)."""
    assert draft.fresh is not None
    digests = draft.fresh.digests
    _, group, count = import_module("numpy").unique(digests, return_inverse=True, return_counts=True)
    return count[group] > 1


def note(
    draft: Draft, name: str, made: Mapping[str, str], code: Closure | None, *, joined: Lookup | UnsetType = UNSET
) -> None:
    """Notes a stage, and opens what it made of both sets."""
    ran = code is not None and joined is UNSET
    draft.trees = {side: open_tree(draft.box(side), made[side]) for side in (TRAIN, TEST)}
    draft.stages.append(
        Stage(
            name=name,
            train=made[TRAIN],
            test=made[TEST],
            code=code.id if code else None,
            environment=environment_id(draft.environment) if ran else None,
            joined=joined,
        )
    )


def tree_before(draft: Draft, name: str, side: str) -> Tree | None:
    """What a stage made of a set in the version before; None where something of it is lost."""
    found = next((s for s in draft.parent.steps if s.name == name), None) if draft.parent else None
    tree = (found.train if side == TRAIN else found.test) if found else None
    return open_tree(draft.box(side), tree) if tree is not None and tree not in draft.broken else None


def _keep_files(draft: Draft) -> None:
    """Stores the files of each source, sealed. A file that is an item as it stands lies where the item does."""
    known = [draft.trees[TEST]]
    if draft.split is not None and draft.split.set_aside["tree"]:
        known.append(open_tree(draft.vault, draft.split.set_aside["tree"]))
    earlier = _sources_before(draft)
    for place, source in enumerate(draft.config.sources()):
        before = earlier.get(draft.numbers[place])
        if draft.listed[place] is None and before is not None:
            raw = before.raw
        else:
            there = before is not None and before.raw not in draft.broken
            follows = open_tree(draft.vault, before.raw) if before is not None and there else None
            builder = Builder(draft.vault, before=follows, known=known, beside=[draft.trees[TRAIN]])
            raw = _files(draft, place, builder, follows)
            if source.unpinned and follows is not None:
                _tell_changes(draft, source.url or "", follows, raw)
        if not source.copy and source.path is not None:
            outside.note(draft.workspace.root, draft.workspace.folder, source.path, open_tree(draft.vault, raw))
        declared = {k: v for k, v in msgspec.to_builtins(source).items() if v is not None and k not in APART}
        draft.sources.append(Source(raw=raw, **declared))


def _tell_changes(draft: Draft, url: str, before: Tree, raw: str) -> None:
    """Says where an address holds other bytes than the version before had."""
    found = changes(before, open_tree(draft.vault, raw))
    counts = ", ".join(f"{len(each):,} {what}" for what in CHANGES if (each := getattr(found, what)))
    if counts:
        draft.workspace.tell(f"changed outside: {url} ({counts})")


def _files(draft: Draft, place: int, builder: Builder, follows: Tree | None) -> str:
    """The tree of a source's files."""
    names, changed = sorted(draft.files[place]), draft.changed[place]
    before = follows.names if follows is not None and builder.follows and changed is not None else ()
    stays = _staying(names, changed or set(), before)
    if before:
        builder.stay([row for row in stays if row >= 0])
    items, left_out = _lying(draft, place), draft.left_out.get(place, set())
    item = next(items, None)
    for name, stay in zip(names, stays, strict=True):
        if item is not None and item[0] == name:
            builder.keep(*item)
            item = next(items, None)
        elif stay < 0 and name not in left_out:
            draft.add(builder, name, place, name)
    return builder.finish()


def _staying(names: Sequence[str], changed: Set[str], before: Sequence[str]) -> "array[int]":
    """For each file of a source, in order of the names, where it stands in the tree before; -1: nowhere, as it is now."""
    rows = array("q", sorted(range(len(before)), key=before.__getitem__))
    found, at = array("q", bytes(8 * len(names))), 0
    for place, name in enumerate(names):
        while at < len(rows) and before[rows[at]] < name:
            at += 1
        there = at < len(rows) and before[rows[at]] == name and name not in changed
        found[place] = rows[at] if there else -1
    return found


def _lying(draft: Draft, place: int) -> Iterator[tuple[str, Tree, int]]:
    """The items of a source that were looked at and are files as they stand, in order: name, and where the content lies."""
    listed, fresh = draft.listed[place], draft.fresh
    if draft.config.items.files is None or listed is None or fresh is None:
        return
    numpy = import_module("numpy")
    rows = (numpy.array(fresh.places, dtype="<i8") == place).nonzero()[0]
    lies = {side: places_of(fresh.ids[rows], from_hex(draft.trees[side].names, ID_BYTES)) for side in (TRAIN, TEST)}
    for row, train, test in zip(*(array("q", each.tobytes()) for each in (rows, lies[TRAIN], lies[TEST])), strict=True):
        if train >= 0 or test >= 0:  # else it was set aside
            yield listed.names[fresh.at[row]], draft.trees[TRAIN if train >= 0 else TEST], max(train, test)


def _sources_before(draft: Draft) -> dict[int, Source]:
    """The sources of the version before, by their numbers."""
    declared = draft.parent.sources if draft.parent else []
    numbers, _ = ledgers.numbered(source_names(declared), draft.before.sources)
    return dict(zip(numbers, declared, strict=True))
