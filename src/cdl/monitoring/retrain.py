"""What a ready dataset starts: the current model is evaluated on the new test, then the promoted one is trained again.

The training has one trial: the integration branch's source, the promoted model's hyperparameters, the new data. It is
registered on a branch `cdl/retrain-<id>` and evaluated; submission stays a person's.
"""

from collections.abc import Sequence

import msgspec

from cdl.errors import NotFound
from cdl.journal.events import Event
from cdl.model.current import current, promoted
from cdl.model.evaluate import compare, evaluate
from cdl.model.register import register
from cdl.model.source import model_record
from cdl.model.submit import retrained_branch
from cdl.model.train import train
from cdl.model.trials import Trial, load
from cdl.registry.records import short
from cdl.workflow.workspace import Workspace


class Retrained(msgspec.Struct, frozen=True, kw_only=True):
    """What a trigger did: the records and results it made, and lines for the person."""

    records: tuple[str, ...]
    lines: tuple[str, ...]


def on_ready(workspace: Workspace, event: Event, actions: Sequence[str], name: str) -> Retrained:
    """Evaluates and trains as the trigger says. NotFound without a promoted model; Unavailable without the key."""
    base = promoted(workspace, name)
    now = current(workspace, name)
    if base is None or now is None:
        raise NotFound(f"no model {name} is promoted", remedy="cdl approve")
    records, lines = [], []
    standing = evaluate(workspace, now, cause=event.id)
    records.append(standing.object)
    lines.append(f"current {short(now)} on the new test: {standing.measures()['test.accuracy']:.3f}")
    if "train" in actions:
        made = retrain(workspace, event, base)
        found = evaluate(workspace, made, cause=event.id)
        difference = compare(workspace, standing, found)
        low, high = difference["interval"]
        records += [made, found.object]
        lines.append(
            f"trained {short(made)} on {retrained_branch(made)}: {found.measures()['test.accuracy']:.3f}, "
            f"difference {difference['difference']:+.3f} [{low:+.3f}, {high:+.3f}]; waits for a submission"
        )
    return Retrained(records=tuple(records), lines=tuple(lines))


def retrain(workspace: Workspace, event: Event, base_id: str) -> str:
    """Trains the promoted model again on the data of the event; the new model's id."""
    base = model_record(workspace, base_id)
    tip = workspace.registry.tip()
    if tip is None:
        raise NotFound("the integration branch has no commit", remedy="cdl init")
    trial = _trained(workspace, base.name, event) or train(
        workspace,
        base.name,
        sets=base.trial["hyperparameters"],
        seed=base.trial["seed"],
        epochs=base.trial["planned"],
        commit=tip,
        data=(event.fields["dataset"], event.fields["labels"]),
        cause=event.id,
    )

    def branch(identity: str) -> str:
        name = retrained_branch(identity)
        if workspace.git.resolve(f"refs/heads/{name}") is None:
            workspace.git.set_ref(f"refs/heads/{name}", tip, "")
        return name

    return register(workspace, trial, origin={"model": base_id, "by": "retraining"}, branch=branch, cause=event.id)


def _trained(workspace: Workspace, name: str, event: Event) -> Trial | None:
    """The trial of a model that the event caused already: its trigger was killed after that."""
    known = [e.fields["trial"] for e in workspace.journal.events("trial.finished") if e.cause == event.id]
    found = [trial for trial in (load(workspace, identity) for identity in known) if trial.model == name]
    return next((trial for trial in found if trial.status == "finished"), None)
