"""`cdl data`: datasets."""

import sys

import click
import msgspec

from cdl.cli.adding import add, ingest, run_pipeline
from cdl.cli.after import after
from cdl.cli.contents import show_version, status
from cdl.cli.merging import merge_versions
from cdl.cli.output import confirmed, here, json_option, say, show, table
from cdl.cli.sharing import raise_faults, sync_workspace
from cdl.cli.versions import check_out, diff, export_items, log, verify
from cdl.cli.watching import watch
from cdl.data.gate import measures
from cdl.data.pipeline import ledger
from cdl.data.pipeline.work import rejections
from cdl.data.submit import submit
from cdl.data.workers.logs import last
from cdl.errors import NotFound, Refused
from cdl.housekeeping.erase import BEYOND, Plan
from cdl.housekeeping.erase import erase as erase_planned
from cdl.housekeeping.erase import plan as plan_erasure
from cdl.monitoring.select import bring_back
from cdl.pages.dataset import analyze
from cdl.project import open_workspace
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.workflow.workspace import named

NEXT = (
    "next: take it out of the source, then: cdl data run",
    "what was computed from it and is kept elsewhere goes with: cdl gc --shared --remove (today and tomorrow), and in other "
    "clones: cdl gc --remove",
)


@click.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """Datasets: add, ingest, run, watch, list, status, show, log, diff, merge, checkout, export, verify.

    Also: rejected, logs, analyze, submit, collect, erase.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_datasets)


for command in (add, ingest, watch, status, show_version, log, diff, merge_versions, check_out, export_items, verify):
    data.add_command(command)


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
    run_pipeline(workspace, dataset, answers, as_json=as_json)


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
    found, origins = rejections(vault, record), ledger.read(vault, record.split.ledger).origins
    rows = [
        {"item": i[:12], "step": step, "reason": reason, "name": origins[i].name if i in origins else None}
        for i, (step, reason) in sorted(found.items())
    ]
    columns = ["item", "step", "reason", "name"]
    show(rows, lambda: table(rows, columns) if rows else ["nothing was rejected"], as_json=as_json)


@data.command()
@click.argument("log", required=False)
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@json_option
def logs(log: str | None, name: str | None, as_json: bool) -> None:
    """The logs of a dataset's last run here, or what stands in one: they are sealed, and opening them needs the key."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    if log is None:
        rows = [msgspec.to_builtins(line) for line in last(workspace.folder, dataset)]
        columns = ["step", "seconds", "failed", "log"]
        show(rows, lambda: table(rows, columns) if rows else ["no worker ran in the last run here"], as_json=as_json)
        return
    vault = workspace.vault(dataset, by="data")
    lines = vault.get(log).decode("utf-8", "replace").splitlines()
    workspace.journal.append("sealed.opened", who=workspace.person.email, tree=log, by="data", items=0)
    show(lines, lambda: lines or ["it printed nothing"], as_json=as_json)


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


@data.command("erase")
@click.argument("item")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@click.option("--because", help="Why; it stands in the tombstone.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def erase_item(item: str, name: str | None, because: str | None, yes: bool, as_json: bool) -> None:
    """Erase an item's bytes for good, here and in the shared store; a tombstone stays. For the data engineer.

    ITEM is the beginning of its id, or its name in the source.
    It syncs first, lists what is affected, and asks. Every version that held the item stays readable but for it.
    """
    workspace = open_workspace(here(), tell=say)
    if workspace.shared.place is not None:
        raise_faults(sync_workspace(workspace))
    made = plan_erasure(workspace, named(workspace.config.data, "dataset", name), item, because=because)
    lines = _affected(made)
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("nobody is asked without a terminal", remedy="look at it, then: --yes\n" + "\n".join(lines))
        if not confirmed("\n".join(lines) + "\nerase it for good?", yes=False):
            raise Refused("nothing was erased")
    count = erase_planned(workspace, made)
    if workspace.shared.place is not None:
        raise_faults(sync_workspace(workspace))
    done = [*lines, f"erased: {count} objects; {BEYOND}", *NEXT]
    show(msgspec.to_builtins(made) | {"gone": count}, lambda: done, as_json=as_json)


def _affected(made: Plan) -> list[str]:
    """What an erasure touches, for a person."""
    lines = [f"item {made.item} of {made.dataset}"]
    lines += [f"the same bytes, which go too: item {i}" for i in made.also]
    lines += [f"its fields, copied by a join, which go too: {len(i):,} items of {n}" for n, i in made.copied.items()]
    lines += [f"whole raw file, which goes: {f}" for f in made.files]
    for word, ids in (
        ("dataset version", made.versions),
        ("label snapshot", made.labels),
        ("model that learned from it", made.models),
        ("package of such a model", made.packages),
    ):
        lines += [f"affected: {word} {short(i)}" for i in ids]
    lines += [f"not looked into: the test set of {n}: you hold no key" for n in made.closed]
    return lines
