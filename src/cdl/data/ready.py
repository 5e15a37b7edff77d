"""Ready: a dataset whose data is approved and whose released labels cover as much as cdl.yaml asks, on the integration branch.

It is an event of its own, named by the two records, so that it happens once however the two came together: by a command, a
pull or a merge.
"""

from cdl.errors import NotFound
from cdl.journal.events import Event, record_event_id
from cdl.registry.records import DatasetHead, Labels, LabelsHead
from cdl.workflow.policy import verdict_on
from cdl.workflow.workspace import Workspace


def ready(workspace: Workspace, name: str) -> tuple[str, str] | None:
    """The dataset and label snapshot of the integration branch when they are ready, else None."""
    registry, tip = workspace.registry, workspace.registry.tip()
    if tip is None or name not in workspace.config.data:
        return None
    data, released = registry.head(DatasetHead, name, at=tip), registry.head(LabelsHead, name, at=tip)
    if data is None or released is None or verdict_on(workspace, "data", data.version) != "approve":
        return None
    labels = registry.record(Labels, released.version)
    if labels.dataset != data.version:
        return None
    config = workspace.config.data[name].labels
    enough = config is not None and min(labels.coverage.values()) >= config.coverage
    return (data.version, released.version) if enough else None


def released(workspace: Workspace, name: str, *, at: str | None = None) -> tuple[str, str]:
    """The dataset version and label snapshot to train on: the snapshot that `at` (or HEAD) names, and the data it labels.

    NotFound, with what to do, when there is none.
    """
    registry = workspace.registry
    head = registry.head(LabelsHead, name, at=at)
    if head is None:
        data = registry.head(DatasetHead, name, at=at)
        remedy = "cdl label release" if data else "cdl data run, cdl approve, cdl label release"
        config = workspace.config.data.get(name)
        if config is not None and config.labels is None:
            remedy = f"say which classes there are (cdl.yaml: data.{name}.labels), then: cdl label next"
        raise NotFound(f"{name} has no released labels on this branch", remedy=remedy)
    return registry.record(Labels, head.version).dataset, head.version


def fired_here(workspace: Workspace) -> list[Event]:
    """`dataset.ready` events that became true by a commit made in this clone, on the integration branch's first-parent line.

    Of the approval and the release, the later one made it true; where it was pulled, the event fires elsewhere.
    """
    registry, git = workspace.registry, workspace.git
    released_by = {e.fields["version"]: e for e in workspace.journal.events("labels.released")}
    approved_by = {
        e.fields["subject"]: e
        for e in workspace.journal.events("decision.made")
        if e.fields["gate"] == "data" and e.fields["verdict"] == "approve"
    }
    found = []
    for event in workspace.journal.events("dataset.ready"):
        facts = (released_by.get(event.fields["labels"]), approved_by.get(event.fields["dataset"]))
        commits = [c for f in facts if f is not None and (c := registry.line_commit(f.id))]
        if len(commits) < len(facts):
            continue
        later = commits[1] if git.is_ancestor(commits[0], commits[1]) else commits[0]
        if git.made_here(later, registry.integration):
            found.append(event)
    return found


def announce(workspace: Workspace) -> None:
    """Tells the journal of each dataset that is ready; what it knows already is not told again."""
    for name in workspace.config.data:
        found = ready(workspace, name)
        if found is None:
            continue
        identity = record_event_id("dataset.ready", " ".join(found))
        fields = {"name": name, "dataset": found[0], "labels": found[1]}
        workspace.journal.append("dataset.ready", who=workspace.person.email, event_id=identity, **fields)
