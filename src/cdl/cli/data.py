"""`cdl data`: datasets."""

import click

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show, table
from cdl.data import ledger, stages, steps
from cdl.data.gate import measures
from cdl.data.submit import submit
from cdl.errors import NotFound
from cdl.monitoring.select import bring_back
from cdl.pages.dataset import analyze
from cdl.project import open_workspace
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.workflow.request import request_id
from cdl.workflow.step import Work
from cdl.workflow.workspace import named


@click.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """Datasets: run, list, rejected, logs, analyze, submit, collect."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_datasets)


@data.command("list")
@json_option
def list_datasets(as_json: bool = False) -> None:
    """The current version of each dataset."""
    workspace = open_workspace(here(), tell=say)
    rows = []
    for name, head in workspace.registry.heads(DatasetHead).items():
        record = workspace.registry.record(Dataset, head.version)
        rows.append({"name": name, "version": short(head.version), **measures(record)})
    columns = ["name", "version", "items", "train", "test", "rejected", "set_aside"]
    show(rows, lambda: table(rows, columns) if rows else ["no dataset yet: cdl data run"], as_json=as_json)


@data.command()
@click.argument("name", required=False)
@click.option("--answers", metavar="REQUEST", help="The request that this version answers.")
@json_option
def run(name: str | None, answers: str | None, as_json: bool) -> None:
    """Collect, split, ingest, clean and validate; commits a new version where anything changed."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    request = request_id(workspace, answers) if answers else None
    before = workspace.registry.head(DatasetHead, dataset)
    work = Work(step="collection", subject=dataset, line="", options={"answers": request} if request else {})
    made = steps.make(workspace, work)
    record = workspace.registry.record(Dataset, made)
    found = measures(record)
    counts = f"{found['items']:,} items: train {found['train']:,}, test {found['test']:,}"
    lines = [f"{dataset} {short(made)}, {counts}; {found['rejected']} rejected, {found['set_aside']} set aside"]
    lines += [f"  {count} {reason!r}" for reason, count in record.rejected["reasons"].items()]
    lines += ["nothing changed"] if before and before.version == made else [f"waits for you: cdl approve {short(made)}"]
    show({"version": made, **found, "reasons": record.rejected["reasons"]}, lambda: lines, as_json=as_json)
    after(workspace)


@data.command()
@click.argument("name", required=False)
@json_option
def rejected(name: str | None, as_json: bool) -> None:
    """Rejected items of the current version with their reasons and source names; opens the sealed side: needs the key."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    head = workspace.registry.head(DatasetHead, dataset)
    if head is None:
        raise NotFound(f"{dataset} has no version", remedy="cdl data run")
    vault, record = workspace.vault(dataset, by="data"), workspace.registry.record(Dataset, head.version)
    found, origins = stages.rejections(vault, record), ledger.read(vault, record.split.ledger).origins
    rows = [
        {"item": i[:12], "step": step, "reason": reason, "name": origins[i].name if i in origins else None}
        for i, (step, reason) in sorted(found.items())
    ]
    columns = ["item", "step", "reason", "name"]
    show(rows, lambda: table(rows, columns) if rows else ["nothing was rejected"], as_json=as_json)


@data.command()
@click.argument("log")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
def logs(log: str, name: str | None) -> None:
    """What a job printed that saw test items: its log is sealed, and opening it needs the key."""
    workspace = open_workspace(here(), tell=say)
    vault = workspace.vault(named(workspace.config.data, "dataset", name), by="data")
    lines = vault.get(log).decode("utf-8", "replace").splitlines()
    workspace.journal.append("sealed.opened", who=workspace.person.email, tree=log, by="data", items=0)
    show(None, lambda: lines or ["it printed nothing"], as_json=False)


@data.command("analyze")
@click.argument("name", required=False)
@json_option
def analyze_data(name: str | None, as_json: bool) -> None:
    """Write a page about the training set; masked fields hidden, the test set not read."""
    workspace = open_workspace(here(), tell=say)
    path = analyze(workspace, named(workspace.config.data, "dataset", name))
    show({"page": str(path)}, lambda: [f"written: {path.relative_to(workspace.root)}"], as_json=as_json)


@data.command("submit")
@click.argument("name", required=False)
@json_option
def submit_data(name: str | None, as_json: bool) -> None:
    """Offer the commit checked out, whose steps made this branch's version; the data gate merges it."""
    workspace = open_workspace(here(), tell=say)
    made = submit(workspace, named(workspace.config.data, "dataset", name))
    show({"version": made}, lambda: [f"offered {short(made)}; waits at the data gate"], as_json=as_json)
    after(workspace)


@data.command("collect")
@click.argument("request")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@json_option
def collect_request(request: str, name: str | None, as_json: bool) -> None:
    """Write the inputs that a request selected into the declared source; `cdl data run --answers REQUEST` takes them in."""
    workspace = open_workspace(here(), tell=say)
    files = bring_back(workspace, request, named(workspace.config.data, "dataset", name))
    line = f"{len(files)} files written into the source; next: cdl data run --answers {request}"
    show({"files": files}, lambda: [line], as_json=as_json)
