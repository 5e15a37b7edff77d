"""Makes a dataset version again from its sealed raw files, with the code it was made with, and compares every stage."""

from dataclasses import dataclass

import msgspec

from cdl.config.load import parse
from cdl.config.schema import Split
from cdl.data import versions
from cdl.data.dataset import dataset_record
from cdl.data.formats import read_items
from cdl.data.stages import item_id
from cdl.data.versions import DATA_REFS
from cdl.errors import NotFound
from cdl.registry.records import Dataset, short
from cdl.workflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Same:
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
    """Training set, test set and split of a version, made again. Nothing is committed. Needs the key, else says so."""
    record = dataset_record(workspace, identity)
    name = short(identity)
    if not workspace.holds_key(record.name):
        return [Same(what="data", name=name, identical=None, why=f"you hold no key of {record.name}")]
    commit = workspace.git.resolve(DATA_REFS + identity)
    if commit is None:
        raise NotFound(
            f"the source of {name} is not here",
            remedy="git fetch origin 'refs/cdl/*:refs/cdl/*', then the command again",
        )
    made = _again(workspace, record, commit)
    found = [Same(what="data, split", name=name, identical=made.split == record.split)]
    for side in ("train", "test"):
        same = [getattr(a, side) == getattr(b, side) for a, b in zip(made.steps, record.steps, strict=True)]
        found.append(Same(what=f"data, {side}", name=str(getattr(record, side))[:12], identical=all(same)))
    return found


def _again(workspace: Workspace, record: Dataset, commit: str) -> Dataset:
    data = workspace.git.read(commit, "cdl.yaml") or b""
    config = parse(data, where=f"{commit[:8]}:cdl.yaml")
    draft = versions.begin(workspace, record.name, config, commit, record.parent)
    draft.again = True
    split = Split(test=record.split.test, by=record.split.by)  # as it was in force then, whatever was written there
    draft.config = msgspec.structs.replace(draft.config, split=split)
    labels = draft.config.labels.origin
    for number, source in enumerate(record.sources):
        tree = draft.vault.tree(source.raw)
        files = {n: tree.data(n) for n in tree.names}
        draft.sources.append(source)
        for item in read_items(files, draft.config.items, folder_is_label=bool(labels and labels.folder)):
            draft.raw[item_id(draft.vault, number, item.name)] = (number, item)
    versions.pipeline(draft)
    return versions.finish(draft, record.parent, record.answers)
