"""The data gate: enough data, good enough? Decided by the one whose work it is; approval releases it for labeling."""

from collections.abc import Mapping

from cdl.config.requirement import judged, parse_requirement
from cdl.data import labels, validate
from cdl.data.dataset import labels_record
from cdl.data.ready import announce
from cdl.data.submit import merge_offer, offered
from cdl.registry.chain import Chain
from cdl.registry.records import Dataset, DatasetHead, LabelsHead, short
from cdl.workflow.policy import verdict_on
from cdl.workflow.step import Gate, Open, Ruling, Sight, Work
from cdl.workflow.workspace import Workspace

LOOKED_AT = "source-labels"  # claims: the versions whose labels of the source were looked at in this clone


def waiting(workspace: Workspace) -> list[Open]:
    """The current version of each dataset that nobody decided on, on the integration branch or the one checked out."""
    registry = workspace.registry
    heads = [*registry.heads(DatasetHead, at=registry.tip()).items(), *registry.heads(DatasetHead).items()]
    found = {}
    for name, head in heads:
        if verdict_on(workspace, "data", head.version) is None:
            found[head.version] = Open(gate="data", subject=head.version, title=f"{name}: a new version")
    return list(found.values())


def look(workspace: Workspace, subject: str) -> Sight:
    """What the gate sees: counts of items by set and of rejected ones, held against `require`. NotFound."""
    record = workspace.registry.record(Dataset, subject)
    config = workspace.config.data.get(record.name)
    asked = [parse_requirement(text) for text in config.require] if config else []
    found = measures(record) | validate.measures(workspace, subject, [r.measure for r in asked])
    return Sight(
        seen={"test": record.test, "source": offered(workspace, subject)}, requirements=judged(asked, found, "")
    )


def measures(record: Dataset) -> dict[str, float]:
    """What `require` may name of a record: items, train, test, rejected, set_aside."""
    return {
        "items": sum(record.items.values()),
        "train": record.items["train"],
        "test": record.items["test"],
        "rejected": sum(record.rejected["reasons"].values()),
        "set_aside": record.split.set_aside["count"],
    }


def take(workspace: Workspace, chain: Chain, subject: str, ruling: Ruling) -> None:
    """Merges an offered branch, and looks at labels that came with the source before anything lands.

    Refused when the merge conflicts; ConfigError for a label of an unknown class or item.
    """
    merge_offer(workspace, chain, subject, ruling)
    _given(workspace, subject)


def release_complete(workspace: Workspace, subject: str) -> None:
    """Where labels came complete with the source, approving the data releases them too; `cdl run` does, where it was killed."""
    given = _given(workspace, subject)
    if given is not None:
        _release(workspace, *given)
    workspace.store.claim(f"{LOOKED_AT}/{subject}", b"")


def unreleased(workspace: Workspace) -> list[Work]:
    """Approved versions whose labels come with the source, and nobody looked at these since."""
    found = []
    for name, config in workspace.config.data.items():
        head, released = workspace.registry.head(DatasetHead, name), workspace.registry.head(LabelsHead, name)
        if head is None or config.origin() is None or not workspace.holds_key(name):
            continue
        known = released is not None and labels_record(workspace, released.version).dataset == head.version
        if known or workspace.store.claimed(f"{LOOKED_AT}/{head.version}") is not None:
            continue
        if verdict_on(workspace, "data", head.version) == "approve":
            found.append(Work(step="labeling", subject=head.version, line=f"{name}: labels that came with the source"))
    return found


def begin_release(workspace: Workspace, work: Work) -> None:
    """Releases them, where they are complete."""
    release_complete(workspace, work.subject)


def _release(workspace: Workspace, record: Dataset, found: Mapping[str, str]) -> None:
    if len(found) < sum(record.items.values()):
        workspace.tell(f"labels of the source cover {len(found)} of {sum(record.items.values())} items: cdl label next")
        return
    new = labels.not_said_before(workspace, record.name, found)
    labels.record(workspace, record.name, new, by=labels.SOURCE)
    released = labels.release(workspace, record.name, command="approve")
    announce(workspace)
    workspace.tell(f"labels came complete with the source: {len(new):,} new rows; released {short(released.id)}")


def _given(workspace: Workspace, subject: str) -> tuple[Dataset, dict[str, str]] | None:
    """The version checked out and the labels of its source, where there are some and the key is here."""
    record = workspace.registry.record(Dataset, subject)
    head = workspace.registry.head(DatasetHead, record.name)
    if head is None or head.version != subject:
        return None
    origin = workspace.config.data[record.name].origin()
    if origin is None or not workspace.holds_key(record.name):
        return None
    table = origin.table()
    if table is not None and not (workspace.root / table).exists():
        return None  # they come later: cdl label import
    return record, labels.from_source(workspace, record.name)


GATE = Gate(
    name="data",
    role="data_engineer",
    own=True,
    back_to=("collection",),
    waiting=waiting,
    look=look,
    effect=take,
    after=release_complete,
)
