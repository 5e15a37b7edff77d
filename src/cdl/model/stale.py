"""What made a review stale, told once for each model and cause: the event `review.stale`.

because    cause                          what changed since the submitted model was evaluated
test       labels.released                test items of the integration branch
labels     labels.released                the labels of these, or how they are resolved
policy     decision.made                  what judges: metrics, tests, mask, isolation
model      model.promoted,                the model in production, or the promoted one
           deployment.applied
"""

from collections.abc import Iterator

from cdl.journal.events import Event, record_event_id
from cdl.model.results import evaluated, evaluator, outdated, read_result, target
from cdl.model.review import comparisons
from cdl.model.submit import submitted
from cdl.registry.records import Model, Package
from cdl.registry.registry import PRODUCTION
from cdl.workflow.policy import decisions, in_force
from cdl.workflow.workspace import Workspace


def announce(workspace: Workspace) -> None:
    """Tells the journal of each review that became stale; what it knows already is not told again."""
    waiting = submitted(workspace)
    if not waiting:
        return
    told = {e.fields["model"]: e for e in workspace.journal.events("model.evaluated")}
    for identity, model in waiting:
        if identity not in told:
            continue  # never evaluated, so nobody reviewed it
        for because, cause in _changes(workspace, identity, model, told[identity]):
            name = record_event_id("review.stale", f"{identity} {because} {cause}")
            about = {"model": identity, "because": because}
            workspace.journal.append("review.stale", who=workspace.person.email, cause=cause, event_id=name, **about)


def _changes(workspace: Workspace, identity: str, model: Model, told: Event) -> Iterator[tuple[str, str | None]]:
    """What changed since an evaluation, and the event that says so."""
    found = evaluated(workspace, identity)
    if found is not None:
        made = comparisons(workspace, identity, model.name, found)
        for rival in [rival for rival, comparison in made.items() if comparison is None]:
            yield from (("model", e.id) for e in _chosen(workspace, rival)[-1:] if e.count > told.count)
        return
    if outdated(workspace, told.fields["result"]):
        return  # the key that signed it was renewed; nothing that it was judged by changed
    on, before = target(workspace, model), read_result(workspace, told.fields["result"]).result
    released = record_event_id("labels.released", on.labels_id)
    if before["test"] != on.dataset.test:
        yield "test", released
    elif before["truth"] != on.truth:
        yield "labels", released
    if before["evaluator"] != evaluator(workspace, model.name, on.dataset.name):
        yield "policy", _approved(workspace)


def _chosen(workspace: Workspace, model: str) -> list[Event]:
    """The events by which a model came to count: it was promoted, or a package of it deployed to production."""
    promoted = [e for e in workspace.journal.events("model.promoted") if e.fields["model"] == model]
    packages = {i for i, package in workspace.registry.all(Package) if package.model == model}
    applied = [e for e in workspace.journal.events("deployment.applied") if e.fields["stage"] == PRODUCTION]
    found = promoted + [e for e in applied if e.fields["package"] in packages]
    return sorted(found, key=lambda e: e.count)


def _approved(workspace: Workspace) -> str | None:
    """The event of the decision that put the policy in force."""
    made = decisions(workspace, "policy", in_force(workspace).id)
    approving = sorted(record_event_id("decision.made", i) for i, d in made if d.verdict == "approve")
    return approving[-1] if approving else None
