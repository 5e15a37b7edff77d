"""`cdl data add | ingest`: from files that lie there to a version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show
from cdl.data import steps
from cdl.data.add import declare
from cdl.data.gate import measures
from cdl.data.items.guess import Asked, Form
from cdl.data.sources.bring import bring
from cdl.project import open_workspace
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.workflow.request import request_id
from cdl.workflow.start import create_key
from cdl.workflow.step import Work
from cdl.workflow.workspace import Workspace, named


@click.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="The dataset's name; left out, that of the folder or file.")
@click.option(
    "--as", "form", type=click.Choice(("files", "rows", "arrays")), help="What an item is; left out, a guess."
)
@click.option("--files", metavar="PATTERN", help="Which files are items.")
@click.option("--id", metavar="COLUMN", help="Of rows: the column that names an item.")
@click.option("--text", metavar="COLUMN", help="Of rows: the column that is the content.")
@click.option("--label", metavar="COLUMN", help="Of rows: the column of the label.")
@json_option
def add(
    path: Path,
    name: str | None,
    form: Form | None,
    files: str | None,
    id: str | None,
    text: str | None,
    label: str | None,
    as_json: bool,
) -> None:
    """Make a dataset of the files at PATH, a folder or file of the project: declare it in cdl.yaml and make its first version.

    What an item is and where labels come from is guessed from what lies there, and said. PATH is kept out of git, a key is drawn.
    """
    workspace = open_workspace(here(), tell=say)
    asked = Asked(form=form, files=files, id=id, text=text, label=label)
    declared = declare(workspace, here() / path, name=name, asked=asked)
    say(f"{declared.name}: {declared.said}")
    say(f"declared in cdl.yaml; where that is not what you mean, change it there, then: cdl data run {declared.name}")
    say(declared.lines.rstrip())
    if declared.ignored:
        say(f"kept out of git by .gitignore: {declared.ignored}")
    workspace = open_workspace(here(), tell=say)
    if not workspace.published(declared.name):
        create_key(workspace, declared.name)
        say(f"secret of {declared.name} in {workspace.keyring.path} (0600): without it the test set is lost.")
        say("Copy it now: cdl key backup")
    run_pipeline(workspace, declared.name, None, as_json=as_json, also=["commit cdl.yaml and .gitignore"])


@click.command("ingest")
@click.argument("name")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--answers", metavar="REQUEST", help="The request that this version answers.")
@json_option
def ingest(name: str, paths: tuple[Path, ...], answers: str | None, as_json: bool) -> None:
    """Copy PATHS into the folder that is the source of dataset NAME, then `cdl data run`; without PATHS only that.

    A folder goes in with its name, as `cp -r` does it: a new folder of labelled files keeps its label. Nothing there is replaced.
    """
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    if paths:
        new = bring(workspace, dataset, [here() / path for path in paths])
        say(f"{len(new):,} new files in the source")
    run_pipeline(workspace, dataset, answers, as_json=as_json)


def run_pipeline(
    workspace: Workspace, dataset: str, answers: str | None, *, as_json: bool, also: list[str] | None = None
) -> None:
    """Runs the whole data pipeline and says what came of it; `also` is what is to be done next beside the approval."""
    request = request_id(workspace, answers) if answers else None
    found, lines = made(workspace, dataset, {"answers": request} if request else {})
    lines += [f"next: {what}" for what in also or ()]
    show(found, lambda: lines, as_json=as_json)
    after(workspace)


def made(workspace: Workspace, dataset: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Runs the whole data pipeline of a dataset; what came of it, as a value and as lines."""
    before = workspace.registry.head(DatasetHead, dataset)
    version = steps.make(workspace, Work(step="collection", subject=dataset, line="", options=options))
    record = workspace.registry.record(Dataset, version)
    found = measures(record)
    counts = f"{found['items']:,} items: train {found['train']:,}, test {found['test']:,}"
    lines = [f"{dataset} {short(version)}, {counts}; {found['rejected']} rejected, {found['set_aside']} set aside"]
    lines += [f"  {count} {reason!r}" for reason, count in record.rejected["reasons"].items()]
    same = before is not None and before.version == version
    lines += ["nothing changed"] if same else [f"waits for you: cdl approve {short(version)}"]
    return {"version": version, **found, "reasons": record.rejected["reasons"]}, lines
