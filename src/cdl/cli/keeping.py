"""Keeping things safe: the store, keys, and what continuous integration checks."""

import sys

import click

from cdl.cli.output import here, json_option, say, show
from cdl.cycle import CYCLE
from cdl.errors import Corrupt, NotFound
from cdl.git.repository import Git
from cdl.project import find_root, open_workspace
from cdl.registry.check import check_registry
from cdl.workflow.check import check_decisions
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
    show({"objects": count, "faults": [vars(f) for f in faults]}, lambda: lines, as_json=as_json)
    if faults:
        raise Corrupt(f"{len(faults)} of {count} objects are broken", remedy="restore them from a backup of the store")


@click.group()
def key() -> None:
    """Secrets of datasets: create, backup, restore."""


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
    workspace.keys(name)  # says what to do where there are none
    click.echo(workspace.keyring.backup(workspace.config.project, name))


@key.command()
def restore() -> None:
    """Read a backup line from standard input into the keyring."""
    workspace = open_workspace(here(), tell=say)
    click.echo(f"restored {workspace.keyring.restore(sys.stdin.read())}")


@click.group()
def ci() -> None:
    """Checks for continuous integration."""


@ci.command()
@click.argument("revision", default="HEAD")
@json_option
def check(revision: str, as_json: bool) -> None:
    """Check the registry in a commit's history; needs no key."""
    git = Git(find_root(here()))  # and nothing else: a runner has neither a name nor a store
    commit = git.resolve(revision)
    if commit is None:
        raise NotFound(f"no commit '{revision}'", remedy="git fetch, or name a commit that is here")
    findings = [*check_registry(git, commit), *check_decisions(git, CYCLE, commit)]
    lines = [f"{f.where}: {f.what}" for f in findings] or [f"the registry in {commit[:12]} is whole"]
    show({"commit": commit, "findings": [vars(f) for f in findings]}, lambda: lines, as_json=as_json)
    if findings:
        raise Corrupt(f"{len(findings)} findings in the registry", remedy="git log -m --full-history -- registry")
