"""`cdl init`."""

from pathlib import Path

import click

from cdl.cli.output import json_option, say, show
from cdl.cli.sharing import begin
from cdl.config.reference import reference as reference_of_keys
from cdl.project import init as init_project
from cdl.project import join, joins
from cdl.registry.records import short


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The project's name; left out, the folder's.")
@click.option("--example", help="Copy an example: digits, news.")
@click.option("--own-key", is_flag=True, help="Draw a secret instead of taking the example's published one.")
@click.option("--yes", is_flag=True, help="In a clone of a project: allow code, store and notices without a question.")
@json_option
def init(folder: Path, name: str | None, example: str | None, own_key: bool, yes: bool, as_json: bool) -> None:
    """Make a project in an empty folder or an existing repository; set up a clone of one that git made."""
    if joins(folder):
        workspace = join(folder, tell=say)
        begin(workspace, yes=yes)
        lines = [f"this is a clone of {workspace.config.project}; next: cdl status"]
        show({"root": str(workspace.root), "joined": workspace.config.project}, lambda: lines, as_json=as_json)
        return
    made = init_project(folder, name=name, example=example, own_key=own_key, tell=say)
    keys = ", ".join(made.keys)
    if keys and example and not own_key:
        say(f"the key of {keys} is the example's, published: everybody gets this split, and can read the test set")
    elif keys:
        say(f"secret of {keys} in {made.workspace.keyring.path} (0600): without it the test set is lost.")
        say("Copy it now: cdl key backup")
    result = {"root": str(made.workspace.root), "written": made.written, "decision": made.decision, "keys": made.keys}
    lines = [f"created {', '.join(made.written)}", f"policy approved: {short(made.decision)}; next: cdl status"]
    show(result, lambda: lines, as_json=as_json)


@click.command()
def reference() -> None:
    """Every key of cdl.yaml with its type, its default and its meaning."""
    click.echo(reference_of_keys())
