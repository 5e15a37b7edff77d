"""`cdl run` and `cdl report`."""

import time
from collections.abc import Mapping
from typing import NoReturn

import click
from msgspec.structs import replace

from cdl.cli.output import confirmed, here, json_option, say, show
from cdl.cycle import CYCLE, announce
from cdl.data.pipeline import pending
from cdl.errors import CdlError
from cdl.model.awaiting import waiting as evaluations_waiting
from cdl.pages.find import page_of, write_page
from cdl.pages.overview import overview, write_all
from cdl.project import open_workspace
from cdl.registry.records import DatasetHead, short
from cdl.report.write import Form, text_of
from cdl.workflow.decide import waiting
from cdl.workflow.notify import notify
from cdl.workflow.policy import in_force
from cdl.workflow.request import request_id
from cdl.workflow.run import PIPELINES, Planned, for_others, plan
from cdl.workflow.run import run as run_all
from cdl.workflow.step import Cycle, Work
from cdl.workflow.workspace import Workspace
from cdl.workflow.wrapping import waiting as keys_waiting

PAUSE_SECONDS = 2.0


@click.command()
@click.argument("pipeline", required=False, type=click.Choice(PIPELINES))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--answers", metavar="REQUEST", help="The request that a new dataset version answers.")
@click.option("--watch", is_flag=True, help="Go on whenever something new can be done.")
@click.option("--no-triggers", is_flag=True, help="Leave triggers waiting.")
@json_option
def run(pipeline: str | None, yes: bool, answers: str | None, watch: bool, no_triggers: bool, as_json: bool) -> None:
    """Do what can be done up to the next decision; its plan and cost first. Training only when `model` is named."""
    if watch and answers:
        raise click.UsageError("--answers is for one run, --watch for many")
    cycle = _without_triggers() if no_triggers else CYCLE
    if watch:
        _watch(cycle, pipeline)
    workspace = open_workspace(here(), tell=say)
    options = {"answers": request_id(workspace, answers)} if answers else {}
    done = _once(workspace, _answering(cycle, options), pipeline, yes=yes)
    missing = [m for name in workspace.config.data if not done and (m := pending.missing(workspace, name))]
    if missing and pipeline == "data":
        raise missing[0]
    notify(workspace, CYCLE)
    found = [{"step": p.step.name, "subject": p.work.subject} for p in done]
    opened = [f"{o.gate} {short(o.subject)}: {o.line}" for o in waiting(workspace, CYCLE)]
    lines = [] if done else ["nothing to do", *map(str, missing), *_why(workspace, cycle, pipeline)]
    lines += [f"waits for a decision: {o}" for o in opened]
    show({"done": found, "waiting": opened}, lambda: lines, as_json=as_json)


def _why(workspace: Workspace, cycle: Cycle, pipeline: str | None) -> list[str]:
    """What a person may want to know when there was nothing to do: what is missing, and what waits for others."""
    if not workspace.config.data:
        return ["cdl.yaml names no dataset yet: cdl reference"]
    heads = workspace.registry.heads(DatasetHead)
    lines = [
        f"{name} has no version, and {workspace.lacking(name)}"
        if workspace.published(name)
        else f"{name} has no version, and you hold no key of it: cdl key create {name}, or cdl key restore"
        for name in workspace.config.data
        if name not in heads and not workspace.holds_key(name)
    ]
    policy = in_force(workspace)
    for p in for_others(workspace, cycle, pipeline):
        holders = ", ".join(dict.fromkeys(h for role in p.step.roles for h in policy.holders(role))) or "nobody"
        lines.append(f"waits for {holders}: {p.step.name}: {p.work.line}")
    return [*lines, *keys_waiting(workspace), *(line for _, line in evaluations_waiting(workspace))]


def _watch(cycle: Cycle, pipeline: str | None) -> NoReturn:
    """Works again and again until stopped. What fails is said once, and tried again once something else happened."""
    failed = ""
    while True:
        try:
            workspace = open_workspace(here(), tell=say)
            _once(workspace, cycle, pipeline, yes=True)
            notify(workspace, CYCLE)
            failed = ""
        except CdlError as error:
            if str(error) != failed:
                say(f"error: {error}")
            failed = str(error)
        time.sleep(PAUSE_SECONDS)


def _once(workspace: Workspace, cycle: Cycle, pipeline: str | None, *, yes: bool) -> list[Planned]:
    """Prints the plan, asks, and works until only decisions are left."""
    announce(workspace)
    todo = plan(workspace, cycle, pipeline)
    for p in todo:
        say(f"plan: {p.step.name}: {p.work.line}" + (f" ({p.work.cost})" if p.work.cost else ""))
    if todo and not confirmed("Go on?", yes=yes):
        raise click.Abort
    return run_all(workspace, cycle, pipeline) if todo else []


@click.command()
@click.argument("name", required=False)
@click.option("--format", "form", type=click.Choice(["html", "md"]), default="html", help="What to write.")
@click.option("--markdown", is_flag=True, help="The same as --format md: for merge requests.")
@click.option("--print", "printed", is_flag=True, help="Print the page instead of writing it.")
@json_option
def report(name: str | None, form: str, markdown: bool, printed: bool, as_json: bool) -> None:
    """Write a page: of a dataset, an experiment, a model, or a stage; without NAME the overview and all it links to.

    NAME is an id or a name, as for `cdl show`, or the name of an experiment; `dataset:`, `model:`, `experiment:` or
    `stage:` before it says which, where several things share it. One file each, below reports/.
    """
    workspace = open_workspace(here(), tell=say)
    wanted: Form = "md" if markdown or form == "md" else "html"
    if printed:
        click.echo(text_of(page_of(workspace, name) if name else overview(workspace), wanted), nl=False)
        return
    paths = [write_page(workspace, name, form=wanted)] if name else write_all(workspace, form=wanted)
    found = {"page": str(paths[0]), "pages": [str(path) for path in paths]}
    show(found, lambda: [f"written: {path.relative_to(workspace.root)}" for path in paths], as_json=as_json)


def _without_triggers() -> Cycle:
    return replace(CYCLE, steps=tuple(s for s in CYCLE.steps if s.name != "trigger"))


def _answering(cycle: Cycle, options: Mapping[str, str]) -> Cycle:
    """The cycle whose data runs answer a request."""
    if not options:
        return cycle

    def begin(workspace: Workspace, work: Work) -> None:
        cycle.step("collection").begin(workspace, replace(work, options={**work.options, **options}))

    steps = tuple(replace(s, begin=begin) if s.name == "collection" else s for s in cycle.steps)
    return replace(cycle, steps=steps)
