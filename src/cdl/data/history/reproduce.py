"""Makes a dataset version again from its sealed raw files, with the code it was made with, and compares every stage.

Labels are what people said, so there is nothing to compute: a snapshot is made again from the rows in the journal of the clone
that recorded them, and elsewhere from its own rows; resolved, counted, sealed and named anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from cdl.config.load import parse
from cdl.config.schema import Split
from cdl.data import labels, versions
from cdl.data.dataset import dataset_record, labels_record
from cdl.data.history.merge import remade
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.draft import begin, begin_open
from cdl.data.pipeline.lookups import joined_by
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.data.sources.files import Stored
from cdl.data.versions import DATA_REFS
from cdl.errors import NotFound
from cdl.registry.records import Dataset, Joined, Labels, encode, short
from cdl.registry.records import Split as SplitRecord
from cdl.store.erased import ITEMS, read_item
from cdl.store.seal import Vault
from cdl.store.tree import content_of
from cdl.workflow.workspace import Workspace


class Same(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was made again: what, its name, and whether it is identical; `why` where it was not made."""

    what: str
    name: str
    identical: bool | None
    why: str | None = None

    @property
    def line(self) -> str:
        """For the person."""
        said = {True: "identical", False: "DIFFERENT", None: "not made again"}[self.identical]
        return f"{self.what:<14} {self.name}  {said}" + (f": {self.why}" if self.why else "")


def reproduce_data(workspace: Workspace, identity: str) -> list[Same]:
    """Training set, test set and split of a version, made again. Nothing is committed.

    Without the key the training set alone, from the open tree of ingestion.
    """
    record = dataset_record(workspace, identity)
    name = short(identity)
    if (why := erased_from(workspace, identity)) is not None:
        return [Same(what="data", name=name, identical=None, why=why)]
    if isinstance(record.joined, Joined):
        held = workspace.holds_key(record.name)
        why = None if held else workspace.lacking(record.name)
        return [
            Same(
                what="data, joined", name=name, identical=remade(workspace, identity, record) if held else None, why=why
            )
        ]
    closed = [each for each in (record.name, *joined_by(workspace, record)) if not workspace.holds_key(each)]
    if record.lookups and closed:
        return [Same(what="data", name=name, identical=None, why=workspace.lacking(closed[0]))]
    commit = workspace.git.resolve(DATA_REFS + identity)
    if commit is None:
        raise NotFound(
            f"the source of {name} is not here",
            remedy="git fetch origin 'refs/cdl/*:refs/cdl/*', then the command again",
        )
    if not workspace.holds_key(record.name):
        alike = _open_side(workspace, record, commit)
        why = workspace.lacking(record.name)
        return [
            Same(
                what="data, train", name=record.train[:12], identical=alike, why="from its items as they were ingested"
            ),
            Same(what="data, test", name=record.test[:12], identical=None, why=why),
        ]
    made = _again(workspace, record, commit)
    vault = workspace.vault(record.name, by="data")
    splits = [_split(vault, each.split) for each in (made, record)]
    found = [Same(what="data, split", name=name, identical=splits[0] == splits[1])]
    for side in ("train", "test"):
        stages = [[content_of(vault, getattr(stage, side)) for stage in each.steps] for each in (made, record)]
        found.append(Same(what=f"data, {side}", name=str(getattr(record, side))[:12], identical=stages[0] == stages[1]))
    return found


def _split(vault: Vault, split: SplitRecord) -> tuple[SplitRecord, list[ledgers.Line]]:
    """A split, with what its ledger says and its set-aside items are instead of how they lie."""
    tree = split.set_aside.get("tree")
    aside = {**split.set_aside, "tree": tree and content_of(vault, str(tree))}
    said = ledgers.told(ledgers.read(vault, split.ledger))
    return msgspec.structs.replace(split, set_aside=aside, ledger=""), said


def erased_from(workspace: Workspace, identity: str) -> str | None:
    """Why a dataset version cannot be made again: items of it were erased. None where none was."""
    for claim in workspace.store.claims(ITEMS):
        found = read_item(workspace.store.claimed(claim) or b"", where=claim)
        if identity in found.versions:
            because = f": {found.because}" if found.because else ""
            item = claim.rsplit("/", 1)[-1][:12]
            return f"{short(identity)} held item {item}, erased by {found.who} at {found.when}{because}"
    return None


def reproduce_labels(workspace: Workspace, identity: str) -> Same:
    """A label snapshot made again from its rows. Nothing is committed. Needs the key, else says so."""
    record = labels_record(workspace, identity)
    name = short(identity)
    if not workspace.holds_key(record.name):
        return Same(what="labels", name=name, identical=None, why=workspace.lacking(record.name))
    released = {side: _released(workspace, record, side) for side in (TRAIN, TEST)}
    recorded = {side: _recorded(workspace, identity, record, side) for side in (TRAIN, TEST)}
    if _snapshot(workspace, record, recorded) == identity:
        return Same(what="labels", name=name, identical=True)
    missing = sum((Counter(released[side]) - Counter(recorded[side])).total() for side in (TRAIN, TEST))
    left_out = sum((Counter(recorded[side]) - Counter(released[side])).total() for side in (TRAIN, TEST))
    why = f"from its own rows, {missing} of them were recorded in another clone"
    if not missing:
        why = f"from its own rows, {left_out} others had been recorded here and are not in it"
    return Same(what="labels", name=name, identical=_snapshot(workspace, record, released) == identity, why=why)


def _snapshot(workspace: Workspace, record: Labels, rows: Mapping[str, Sequence[labels.Row]]) -> str:
    """The id of the snapshot that rows come to, with a record's rule and classes."""
    sealed = workspace.vault(record.name, by="labeling").key_of(record.rows[TEST])
    made, _ = labels.snapshot(
        workspace, record.dataset, rows, resolve_by=record.resolve, values=record.values, data_key=sealed
    )
    return encode(made)[0]


def _released(workspace: Workspace, record: Labels, side: str) -> list[labels.Row]:
    """The rows that a snapshot holds."""
    name = record.rows[side]
    vault = workspace.vault(record.name, by="labeling") if side == TEST else None
    return labels.decode(vault.get(name) if vault else workspace.store.get(name), where=name)


def _recorded(workspace: Workspace, identity: str, record: Labels, side: str) -> list[labels.Row]:
    """The rows that the journal here had when a snapshot was released."""
    events = workspace.journal.events("labels.released")
    count = next((e.count for e in events if e.fields["version"] == identity), 0)
    return labels.rows(workspace, record.name, side, before=count)


def _open_side(workspace: Workspace, record: Dataset, commit: str) -> bool:
    """Whether every step makes of the ingested training items what it made."""
    items = workspace.store.tree(record.steps[0].train)
    config = parse(workspace.git.read(commit, "cdl.yaml") or b"", where=f"{commit[:8]}:cdl.yaml")
    draft = begin_open(workspace, record.name, config, commit, items)
    draft.again = True
    versions.steps(draft)
    made = [content_of(workspace.store, stage.train) for stage in draft.stages]
    return made == [content_of(workspace.store, stage.train) for stage in record.steps[1:]]


def _again(workspace: Workspace, record: Dataset, commit: str) -> Dataset:
    data = workspace.git.read(commit, "cdl.yaml") or b""
    config = parse(data, where=f"{commit[:8]}:cdl.yaml")
    draft = begin(workspace, record.name, config, commit, record.parent, data_key=record.data_key)
    draft.again, draft.lookups = True, record.lookups
    split = Split(test=record.split.test, by=record.split.by)  # as it was in force then, whatever was written there
    draft.config = msgspec.structs.replace(draft.config, split=split)
    if not any(ledgers.read(draft.vault, record.split.ledger).columns["label"]):
        draft.config = msgspec.structs.replace(draft.config, labels=None)  # those written there were not in force
    draft.sources = list(record.sources)
    draft.files = [Stored(draft.vault.tree(source.raw)) for source in record.sources]
    versions.pipeline(draft)
    return versions.finish(draft, record.parent, record.answers)
