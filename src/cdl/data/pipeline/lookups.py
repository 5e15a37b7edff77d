"""What the joins of a dataset join when a run begins: the current version of each other dataset."""

from collections.abc import Mapping

from cdl.config.schema import DataConfig, Step
from cdl.errors import NotFound
from cdl.registry.records import Dataset, DatasetHead, Lookup
from cdl.workflow.workspace import Workspace


def lookups_at(
    workspace: Workspace, name: str, data: Mapping[str, DataConfig], commit: str | None = None
) -> dict[str, Lookup]:
    """What each step of a dataset that joins another one joins, by the heads of a commit (None: HEAD). NotFound without one."""
    found = {}
    for called, step in data[name].named_steps():
        if step.join is None or step.off:
            continue
        head = workspace.registry.head(DatasetHead, step.join, at=commit)
        if head is None:
            remedy = f"cdl data run {step.join}, and then this"
            raise NotFound(f"{name} joins {step.join}, which has no version on this branch", remedy=remedy)
        found[called] = _lookup(head.version, step, data[name], data[step.join])
    return found


def joined_by(workspace: Workspace, record: Dataset) -> list[str]:
    """The datasets that a version joined."""
    versions = {lookup.version for lookup in record.lookups.values()}
    return sorted({workspace.registry.record(Dataset, version).name for version in versions})


def _lookup(version: str, step: Step, mine: DataConfig, other: DataConfig) -> Lookup:
    """A step's, where the column that names the rows of a table is no field of theirs, but what they are called."""
    key, matches = step.key, step.matches or step.key
    return Lookup(
        version=version,
        key=None if mine.items.rows is not None and mine.items.rows.id == key else key,
        matches=None if other.items.rows is not None and other.items.rows.id == matches else matches,
        without=sorted(other.mask),
    )
