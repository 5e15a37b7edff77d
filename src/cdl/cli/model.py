"""`cdl model`: registered models."""

from typing import Any

import click

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show, table
from cdl.cycle import CYCLE
from cdl.deployment.implement import implement as implement_model
from cdl.errors import Conflict, NotFound
from cdl.model import current as counting
from cdl.model import submit as submitting
from cdl.model.evaluate import evaluate as evaluate_once
from cdl.model.register import register as register_trial
from cdl.model.results import Evaluation, evaluation_waits, last_evaluations
from cdl.model.trials import load
from cdl.project import open_workspace
from cdl.registry.records import Model, short
from cdl.workflow.decide import decide
from cdl.workflow.policy import in_force, verdict_on
from cdl.workflow.request import request_id
from cdl.workflow.workspace import Workspace


@click.group(invoke_without_command=True)
@click.pass_context
def model(ctx: click.Context) -> None:
    """Registered models: list, register, evaluate, submit, withdraw, implement."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@model.command("list")
@json_option
def list_models(as_json: bool = False) -> None:
    """Every registered model, from any branch, and where it stands."""
    workspace = open_workspace(here(), tell=say)
    rows = []
    every = sorted(workspace.registry.all(Model), key=lambda pair: pair[1].made.when)
    evaluations = last_evaluations(workspace, [identity for identity, _ in every])
    for identity, record in every:
        found = evaluations[identity]
        accuracy = found.measures()["test.accuracy"] if found else None
        stands = counting.stands(workspace, identity, record)
        by = record.origin["by"] if record.origin else f"trial {record.trial['id'].partition('-')[0]}"
        rows.append(
            {"model": short(identity), "name": record.name, "by": by, "test.accuracy": accuracy, "stands": stands}
        )
    columns = ["model", "name", "by", "test.accuracy", "stands"]
    show(rows, lambda: table(rows, columns) if rows else ["no model: cdl model register TRIAL"], as_json=as_json)


@model.command()
@click.argument("trial")
@click.option("--answers", metavar="REQUEST", help="The request that this model answers.")
@json_option
def register(trial: str, answers: str | None, as_json: bool) -> None:
    """Make a trial a model: a record complete in itself. Evaluated at once by those who hold the key."""
    workspace = open_workspace(here(), tell=say)
    request = request_id(workspace, answers) if answers else None
    found = load(workspace, trial)
    identity = register_trial(workspace, found, answers=request)
    line = f"{short(identity)} {found.model}: code {found.code['closure'][:8]}"
    dataset = workspace.config.model[found.model].data
    if not workspace.may_sign(dataset):
        lines = [line, evaluation_waits(workspace, dataset)]
        show({"model": identity, "evaluation": None}, lambda: lines, as_json=as_json)
        return
    made = evaluate_once(workspace, identity)
    show({"model": identity, **_plain(made)}, lambda: [f"{line}; {said(made)}"], as_json=as_json)


@model.command()
@click.argument("what", required=False)
@json_option
def evaluate(what: str | None, as_json: bool) -> None:
    """Evaluate a registered model on the sealed test of the integration branch."""
    workspace = open_workspace(here(), tell=say)
    identity = _meant(workspace, what)
    made = evaluate_once(workspace, identity)
    lines = [f"{short(identity)} {said(made)}"]
    lines += [f"  {name}: recall {c['recall']['value']:.3f} {c['recall']['interval']}" for name, c in _classes(made)]
    lines += [f"  {name}: {outcome}" for name, outcome in made.result["tests"].items()]
    lines.append("  walls: " + ", ".join(made.result["walls"]))
    show({"model": identity, **_plain(made), **made.result}, lambda: lines, as_json=as_json)


@model.command()
@click.argument("what", required=False)
@json_option
def submit(what: str | None, as_json: bool) -> None:
    """Offer the commit checked out, whose source trained the model, for review."""
    workspace = open_workspace(here(), tell=say)
    identity = _meant(workspace, what)
    commit = submitting.offer(workspace, identity)
    made = decide(workspace, CYCLE, "submission", identity, "submit")
    holders = ", ".join(in_force(workspace).holders("model_validator")) or workspace.person.email
    line = f"submitted {short(identity)} to {workspace.registry.integration}; source equals the model's; waits for {holders}"
    show({"model": identity, "decision": made.id, "commit": commit}, lambda: [line], as_json=as_json)
    after(workspace)


@model.command()
@click.argument("what")
@click.option("--because", metavar="TEXT", help="Why.")
@json_option
def withdraw(what: str, because: str | None, as_json: bool) -> None:
    """Take a submission back before it is decided."""
    workspace = open_workspace(here(), tell=say)
    identity = _meant(workspace, what)
    made = decide(workspace, CYCLE, "submission", identity, "withdraw", because=because)
    show({"model": identity, "decision": made.id}, lambda: [f"withdrew {short(identity)}"], as_json=as_json)


@model.command()
@click.argument("what", required=False)
@click.option(
    "--input",
    "input_",
    type=click.Choice(["image", "text", "bytes", "row", "array"]),
    default="bytes",
    help="What a request holds.",
)
@json_option
def implement(what: str | None, input_: Any, as_json: bool) -> None:
    """Make the source checked out that of the promoted model: it must predict alike on every validation item."""
    workspace = open_workspace(here(), tell=say)
    name = next(iter(workspace.config.model)) if what is None and len(workspace.config.model) == 1 else what
    chosen = counting.promoted(workspace, name) if name in workspace.config.model else None
    identity = chosen or _meant(workspace, what)
    made = implement_model(workspace, identity, input=input_)
    line = f"{short(made)} implements {short(identity)}; predicts alike on every validation item; waits for its review"
    show({"model": made, "original": identity}, lambda: [line], as_json=as_json)
    after(workspace)


def said(made: Evaluation) -> str:
    """An evaluation in one line."""
    found = made.result["measures"]["test.accuracy"]
    low, high = found["interval"]
    return (
        f"test.accuracy {found['value']:.3f} [{low:.3f}, {high:.3f}], {made.result['items']} items; "
        f"evaluation {made.number} of {made.limit} on this test"
    )


def _plain(made: Evaluation) -> dict[str, object]:
    return {"evaluation": made.object, "measures": made.measures(), "number": made.number, "limit": made.limit}


def _classes(made: Evaluation) -> list[tuple[str, dict[str, dict[str, float]]]]:
    return list(made.result["classes"].items())


def _meant(workspace: Workspace, what: str | None) -> str:
    """The model that WHAT names; left out, the only one of this branch that was not submitted."""
    if what is not None:
        return workspace.registry.get(what).id
    here_ = workspace.registry.all(Model, at=workspace.git.head())
    found = [i for i, m in here_ if m.origin is None or m.origin["by"] == "retraining"]
    found = [i for i in found if verdict_on(workspace, "submission", i) is None]
    if not found:
        raise NotFound("no model of this branch is left to submit", remedy="cdl model register TRIAL")
    if len(found) > 1:
        raise Conflict(f"{len(found)} models are meant", remedy="say which: " + ", ".join(short(f) for f in found))
    return found[0]
