"""Keeping things safe: the store and keys."""

import sys
from pathlib import Path

import click

from cdl.cli.output import here, json_option, say, show
from cdl.errors import Corrupt
from cdl.identity import Identity
from cdl.project import open_workspace
from cdl.workflow.members import approved
from cdl.workflow.policy import require_role
from cdl.workflow.start import create_key
from cdl.workflow.workspace import named


@click.group()
def store() -> None:
    """The store."""


@store.command()
@json_option
def verify(as_json: bool) -> None:
    """Check that every object is what its name says; needs no key."""
    found = open_workspace(here(), tell=say).store
    faults = list(found.verify())
    count = sum(1 for _ in found.names())
    lines = [f"{f.object}: {f.what}" for f in faults] or [f"{count} objects, each what its name says"]
    show({"objects": count, "faults": faults}, lambda: lines, as_json=as_json)
    if faults:
        raise Corrupt(f"{len(faults)} of {count} objects are broken", remedy="cdl doctor --full --mend")


@click.group()
def key() -> None:
    """Secrets of datasets, and your own key: create, backup, restore, public."""


@key.command()
@click.argument("dataset", required=False)
def create(dataset: str | None) -> None:
    """Draw the secret of a dataset that cdl.yaml names since `cdl init`."""
    workspace = open_workspace(here(), tell=say)
    name = named(workspace.config.data, "dataset", dataset)
    create_key(workspace, name)
    say(f"secret of {name} in {workspace.keyring.path} (0600): without it the test set is lost.")
    say("Copy it now: cdl key backup")


@key.command()
@click.argument("dataset", required=False)
def backup(dataset: str | None) -> None:
    """Print one line that restores the keys of a dataset. Keep it secret."""
    workspace = open_workspace(here(), tell=say)
    name = named(workspace.config.data, "dataset", dataset)
    require_role(workspace, approved(workspace).entitled, "key backup")
    workspace.keys(name)  # says what to do where there are none
    click.echo(workspace.keyring.backup(workspace.config.project, name))


@key.command()
def restore() -> None:
    """Read a backup line from standard input into the keyring."""
    workspace = open_workspace(here(), tell=say)
    click.echo(f"restored {workspace.keyring.restore(sys.stdin.read())}")


@key.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file instead.")
def public(output: Path | None) -> None:
    """Print the public half of your own key, for `cdl member add`. The key is made when there is none."""
    line = Identity().public
    if output is None:
        click.echo(line)
        return
    output.write_text(line + "\n")
    say(f"written: {output}")
