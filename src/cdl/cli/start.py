"""`cdl init`."""

from pathlib import Path

import click

from cdl.cli.output import json_option, say, show
from cdl.config.load import load
from cdl.keys import Keyring
from cdl.project import open_workspace
from cdl.registry.records import short
from cdl.workflow import start


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The project's name; left out, the folder's.")
@click.option("--example", help="Copy an example: digits.")
@click.option("--own-key", is_flag=True, help="Draw a secret instead of taking the example's published one.")
@json_option
def init(folder: Path, name: str | None, example: str | None, own_key: bool, as_json: bool) -> None:
    """Make a project in an empty folder or an existing repository."""
    laid = start.lay_out(folder, name=name, example=example)
    drawn = start.draw_keys(load(folder), Keyring(), example=None if own_key else example)
    workspace = open_workspace(folder, tell=say)
    decision = start.first_policy(workspace, laid.written)
    if drawn and example and not own_key:
        say(
            f"the key of {', '.join(drawn)} is the example's, published: everybody gets this split, and can read the test set"
        )
    elif drawn:
        say(f"secret of {', '.join(drawn)} in {workspace.keyring.path} (0600): without it the test set is lost.")
        say("Copy it now: cdl key backup")
    result = {"root": str(laid.root.resolve()), "written": list(laid.written), "decision": decision, "keys": drawn}
    lines = [f"created {', '.join(laid.written)}", f"policy approved: {short(decision)}; next: cdl status"]
    show(result, lambda: lines, as_json=as_json)
