"""Deployment and monitoring: deploy, predict, monitor, report, reproduce."""

import time
from pathlib import Path

import click
from msgspec.structs import asdict

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show, table
from cdl.deployment import apply as applying
from cdl.deployment.predict import predict as predict_batch
from cdl.deployment.reproduce import reproduce as make_again
from cdl.deployment.stages import Stage
from cdl.deployment.stages import status as status_of
from cdl.errors import Corrupt, JobFailed, NotFound
from cdl.model.current import current
from cdl.monitoring import steps as monitoring
from cdl.monitoring.window import monitor as measure
from cdl.project import open_workspace
from cdl.registry.records import short
from cdl.workflow.workspace import Workspace, named

PAUSE_SECONDS = 2.0


@click.group(invoke_without_command=True)
@click.pass_context
def deploy(ctx: click.Context) -> None:
    """Services: apply, restart, rollback, status, stop."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(deploy_status)


@deploy.command("apply")
@click.argument("stage", default="staging")
@click.option("--again", is_flag=True, help="Also the package that the stage was rolled back from.")
@click.option(
    "--install", "installed", is_flag=True, help="Also after a crash or boot: a systemd user unit, a launchd agent."
)
@json_option
def deploy_apply(stage: str, again: bool, installed: bool, as_json: bool) -> None:
    """Make a stage run what was approved: new workers ready, commit, switch, drain."""
    found = applying.apply(open_workspace(here(), tell=say), stage, again=again, installed=installed)
    _said(found, as_json, "runs")


@deploy.command()
@click.argument("stage", default="staging")
@json_option
def restart(stage: str, as_json: bool) -> None:
    """Swap to new workers of what runs; no request is lost."""
    _said(applying.restart(open_workspace(here(), tell=say), stage), as_json, "runs")


@deploy.command()
@click.argument("stage", default="staging")
@click.option("--because", metavar="TEXT", required=True, help="Why.")
@json_option
def rollback(stage: str, because: str, as_json: bool) -> None:
    """Make a stage run the package before: a swap and a forward commit."""
    _said(applying.rollback(open_workspace(here(), tell=say), stage, because), as_json, "runs again")


@deploy.command("status")
@click.argument("stage", required=False)
@json_option
def deploy_status(stage: str | None = None, as_json: bool = False) -> None:
    """What each stage should run, and what it does."""
    workspace = open_workspace(here(), tell=say)
    found = [status_of(workspace, s) for s in ([stage] if stage else monitoring.stages_of(workspace))]
    lines = [s.line for s in found]
    show([asdict(s) | {"url": s.url} for s in found], lambda: lines or ["cdl.yaml names no stage"], as_json=as_json)


@deploy.command()
@click.argument("stage", default="staging")
@click.option("--uninstall", "uninstalled", is_flag=True, help="Remove its systemd unit or launchd agent too.")
def stop(stage: str, uninstalled: bool) -> None:
    """Drain and end the service of a stage until the next apply; what is declared stays."""
    applying.stop(open_workspace(here(), tell=say), stage, uninstalled=uninstalled)
    say(f"{stage} is stopped; cdl deploy apply {stage} starts it again")


@click.command()
@click.argument("model", required=False)
@click.option("--data", "dataset", metavar="NAME", help="The training items of a dataset.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
def predict(model: str | None, dataset: str | None, files: tuple[Path, ...], as_json: bool) -> None:
    """Predict a batch: files, or the training items of a dataset. MODEL is an id, or a name for its current model."""
    workspace = open_workspace(here(), tell=say)
    identity = _model(workspace, model)
    made = predict_batch(workspace, identity, dataset=dataset, files=files)
    lines = [
        *table(made.rows[:20], ["item", "category", "confidence"]),
        f"{len(made.rows)} rows: object {made.object[:12]}",
    ]
    show({"model": identity, "object": made.object, "rows": made.rows}, lambda: lines, as_json=as_json)


@click.group()
def monitor() -> None:
    """Monitoring: run."""


@monitor.command("run")
@click.argument("stage", required=False)
@click.option("--once", is_flag=True, help="Look once; left out, until stopped.")
@click.option("--no-triggers", is_flag=True, help="Leave triggers waiting.")
@json_option
def monitor_run(stage: str | None, once: bool, no_triggers: bool, as_json: bool) -> None:
    """Collect scoring data and measure every full window; alarms start triggers."""
    workspace = open_workspace(here(), tell=say)
    while not once:
        _look(workspace, stage, no_triggers)
        time.sleep(PAUSE_SECONDS)
    found = _look(workspace, stage, no_triggers)
    names = [stage] if stage else monitoring.stages_of(workspace)
    lines = [line for name in names if (line := monitoring.filling(workspace, name))]
    show(found, lambda: lines or ([] if found else ["no stage was deployed yet"]), as_json=as_json)


def _look(workspace: Workspace, stage: str | None, no_triggers: bool) -> list[dict[str, object]]:
    """Measures every full window once."""
    found: list[dict[str, object]] = []
    for name in [stage] if stage else monitoring.stages_of(workspace):
        for w in measure(workspace, name):
            say(monitoring.line(name, w.number, w.measures, w.alarms))
            found.append({"stage": name, "window": w.number, "measures": w.measures, "alarms": w.alarms})
    after(workspace, no_triggers=no_triggers)
    return found


@click.command()
@click.argument("what", required=False)
@json_option
def reproduce(what: str | None, as_json: bool) -> None:
    """Make everything again that a package, model, dataset or commit names, and compare hash by hash."""
    workspace = open_workspace(here(), tell=say)
    found = make_again(workspace, what)
    show(found, lambda: [f.line for f in found], as_json=as_json)
    different = [f for f in found if f.identical is False]
    if different:
        raise Corrupt(f"{len(different)} of {len(found)} are different", remedy="cdl diff, cdl lineage")


def _said(found: Stage, as_json: bool, verb: str) -> None:
    if found.running is None or found.port is None:
        raise JobFailed(f"{found.stage} does not run", remedy="cdl deploy status")
    line = f"{found.stage} {verb} {short(found.running)} at {found.url}    POST /predict"
    show(asdict(found) | {"url": found.url}, lambda: [line], as_json=as_json)


def _model(workspace: Workspace, what: str | None) -> str:
    if what is not None and what not in workspace.config.model:
        return workspace.registry.get(what).id
    name = named(workspace.config.model, "model", what)
    found = current(workspace, name)
    if found is None:
        raise NotFound(f"no model {name} is promoted", remedy="cdl model list, and give an id")
    return found
