"""How each dataset stands: its version, what changed in its sources since, what was decided and labeled, and what it takes."""

from collections.abc import Iterable, Mapping

import msgspec

from cdl.data.gate import measures
from cdl.data.pipeline import pending
from cdl.data.ready import ready
from cdl.data.sources.seen import Differing, compare, glances
from cdl.data.sources.walk import Sight
from cdl.errors import ConfigError
from cdl.registry.records import Dataset, DatasetHead, Labels, LabelsHead
from cdl.store import reach
from cdl.store.store import SEALED
from cdl.workflow.policy import verdict_on
from cdl.workflow.workspace import Workspace


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in this work tree.

    `pipeline`: nothing changed in the sources, and yet the pipeline has something to do; `trouble`: why it could not do it.
    `coverage` is that of the labels released for this version, by set; `classes` how many cdl.yaml names, None where it says
    nothing of labels. `bytes` and `every` are what this version and all versions of any branch take in the store.
    """

    name: str
    version: str | None
    counts: Mapping[str, float]
    source: Differing
    pipeline: bool
    trouble: str | None
    verdict: str | None
    coverage: Mapping[str, float] | None
    classes: int | None
    ready: bool
    key: bool
    bytes: int
    every: int


def standing(workspace: Workspace, name: str) -> Standing:
    """How a dataset stands. Reads no item and runs nothing of the project."""
    registry = workspace.registry
    head = registry.head(DatasetHead, name)
    version = head.version if head else None
    record = registry.record(Dataset, version) if version else None
    there = glances(workspace, name)
    source = compare(workspace, name, version, there)
    labels = workspace.config.data[name].labels
    good = ready(workspace, name)
    pipeline, trouble = _pending(workspace, name, there) if record is not None and not source.count else (False, None)
    return Standing(
        name=name,
        version=version,
        counts=measures(record) if record else {},
        source=source,
        pipeline=pipeline,
        trouble=trouble,
        verdict=verdict_on(workspace, "data", version) if version else None,
        coverage=_coverage(workspace, name, version),
        classes=len(labels.classes) if labels else None,
        ready=good is not None and good[0] == version,
        key=workspace.holds_key(name),
        bytes=taken(workspace, [record] if record else []),
        every=taken(workspace, [r for _, r in registry.all(Dataset, name)]),
    )


def _pending(workspace: Workspace, name: str, there: Mapping[str, Sight]) -> tuple[bool, str | None]:
    """Whether the pipeline has something to do, or why it could not: its code or cdl.yaml is broken."""
    try:
        return pending.pending(workspace, name, there), None
    except ConfigError as error:
        return False, str(error)


def taken(workspace: Workspace, records: Iterable[Dataset]) -> int:
    """The bytes in the store that some versions take together."""
    roots = {name.removeprefix(SEALED) for record in records for name in record.objects}
    return sum(workspace.store.size(name) for name in reach.reachable(workspace.store, roots))


def _coverage(workspace: Workspace, name: str, version: str | None) -> Mapping[str, float] | None:
    """The coverage of the labels that were released for a version; None where none were."""
    head = workspace.registry.head(LabelsHead, name)
    labels = workspace.registry.record(Labels, head.version) if head else None
    return labels.coverage if labels is not None and labels.dataset == version else None
