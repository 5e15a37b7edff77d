"""The data gate: enough data, good enough? Decided by the one whose work it is; approval releases it for labeling."""

from cdl.config.requirement import judged, parse_requirement
from cdl.data import labels
from cdl.data.ready import announce
from cdl.data.submit import merge_offer, offered
from cdl.registry.chain import Chain
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.workflow.policy import in_force, verdict_on
from cdl.workflow.step import Gate, Open, Ruling, Sight
from cdl.workflow.workspace import Workspace


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
    found = measures(record)
    asked = in_force(workspace).parts.get("data", {}).get(record.name, {}).get("require", [])
    return Sight(
        seen={"test": record.test, "source": offered(workspace, subject)},
        requirements=judged(map(parse_requirement, asked), found, ""),
    )


def measures(record: Dataset) -> dict[str, float]:
    """What `require` may name: items, train, test, rejected, set_aside."""
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
    """Where labels came complete with the source, approving the data releases them too."""
    given = _given(workspace, subject)
    if given is None:
        return
    record, found = given
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
    origin = workspace.config.data[record.name].labels.origin
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
