"""`cdl label`: labels."""

import click

from cdl.cli.output import here, json_option, say, show
from cdl.data import labels
from cdl.data.ready import announce, ready
from cdl.project import open_workspace
from cdl.registry.records import short
from cdl.workflow.workspace import named


@click.group()
def label() -> None:
    """Labels: import, set, release."""


@label.command("import")
@click.argument("name", required=False)
@json_option
def import_labels(name: str | None, as_json: bool) -> None:
    """Keep the labels that cdl.yaml's origin gives: folders, the source, a CSV file, Label Studio's JSON."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(dict(workspace.config.data), "dataset", name)
    count = labels.record(workspace, dataset, labels.from_source(workspace, dataset))
    show(
        {"dataset": dataset, "labels": count},
        lambda: [f"{count:,} labels kept; next: cdl label release"],
        as_json=as_json,
    )


@label.command("set")
@click.argument("item")
@click.argument("value")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
def set_label(item: str, value: str, name: str | None) -> None:
    """Label one item by its id."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(dict(workspace.config.data), "dataset", name)
    labels.record(workspace, dataset, {item: value})
    say("1 label kept; next: cdl label release")


@label.command()
@click.argument("name", required=False)
@json_option
def release(name: str | None, as_json: bool) -> None:
    """Make a snapshot of all labels; training reads only snapshots."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(dict(workspace.config.data), "dataset", name)
    made = labels.release(workspace, dataset)
    announce(workspace)
    coverage = made.record.coverage
    lines = [f"released {short(made.id)}: train {coverage['train']:.2%}, test {coverage['test']:.2%} covered"]
    if made.conflicts:
        lines.append(f"{len(made.conflicts)} items whose labelers disagree")
    lines.append(f"{dataset} is ready" if ready(workspace, dataset) else f"{dataset} is not ready yet: cdl status")
    show({"labels": made.id, "coverage": coverage, "conflicts": list(made.conflicts)}, lambda: lines, as_json=as_json)
