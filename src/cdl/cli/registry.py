"""What is kept and what happened: log, show, events."""

import json
import re

import click
import msgspec

from cdl import document
from cdl.cli.output import here, json_option, say, table
from cdl.cli.output import show as shown
from cdl.project import open_workspace
from cdl.registry.diff import diff as differences
from cdl.registry.lineage import down as made_of_it
from cdl.registry.lineage import up as made_of
from cdl.registry.records import RECORDS, short

LONG_ID = re.compile(r"([a-z]-)?[0-9a-f]{32,}")


@click.command()
@click.argument("name", required=False)
@json_option
def log(name: str | None, as_json: bool) -> None:
    """Versions of a thing by its name, or every record."""
    registry = open_workspace(here(), tell=say).registry
    found = [(i, r) for kind in RECORDS.values() for i, r in registry.all(kind)]
    rows = [
        {"id": short(i), "kind": type(r).__name__.lower(), "name": getattr(r, "name", None) or getattr(r, "gate", None)}
        for i, r in found
        if name is None or getattr(r, "name", None) == name
    ]
    rows.sort(key=lambda row: (row["kind"], str(row["name"]), row["id"]))
    shown(rows, lambda: table(rows, ["id", "kind", "name"]) if rows else ["no record"], as_json=as_json)


@click.command()
@click.argument("what")
@json_option
def show(what: str, as_json: bool) -> None:
    """A record in full."""
    found = open_workspace(here(), tell=say).registry.get(what)
    plain = msgspec.to_builtins(found.record)
    lines = [f"# {found.id}  {found.path}", *document.write(plain).decode().splitlines()]
    shown({"id": found.id, "path": found.path, **plain}, lambda: lines, as_json=as_json)


@click.command()
@click.argument("first")
@click.argument("second")
@json_option
def diff(first: str, second: str, as_json: bool) -> None:
    """What differs between two records of a kind, field by field."""
    registry = open_workspace(here(), tell=say).registry
    found = differences(registry.get(first).record, registry.get(second).record)
    lines = [f"{d.field}: {d.first} -> {d.second}" for d in found] or ["equal"]
    shown([vars(d) for d in found], lambda: lines, as_json=as_json)


@click.command()
@click.argument("what")
@click.option("--down", is_flag=True, help="What was made of it, instead of what it was made of.")
@json_option
def lineage(what: str, down: bool, as_json: bool) -> None:
    """What a record was made of, or what was made of it."""
    registry = open_workspace(here(), tell=say).registry
    walk = made_of_it if down else made_of
    found = walk(registry, registry.get(what).id)
    lines = [f"{short(e.source)} names {short(e.target)} as {e.field}" for e in found] or ["nothing"]
    shown([vars(e) for e in found], lambda: lines, as_json=as_json)


@click.command()
@click.option("--kind", help="Only events of a kind.")
@click.option("--follow", is_flag=True, help="Wait for more.")
@json_option
def events(kind: str | None, follow: bool, as_json: bool) -> None:
    """What happened, in the order it was learned."""
    workspace = open_workspace(here(), tell=say)
    workspace.registry.observe()
    found = workspace.journal.events(kind)
    if not follow:
        rows = [msgspec.to_builtins(e) for e in found]
        shown(rows, lambda: [_line(row) for row in rows] or ["nothing happened yet"], as_json=as_json)
        return
    for event in workspace.journal.follow(since=0):
        if kind in (None, event.kind):
            row = msgspec.to_builtins(event)
            click.echo(json.dumps(row) if as_json else _line(row))


def _line(row: dict[str, object]) -> str:
    fields = row["fields"] if isinstance(row["fields"], dict) else {}
    said = " ".join(f"{k}={short(v) if LONG_ID.fullmatch(str(v)) else v}" for k, v in fields.items())
    return f"{row['count']:>5}  {row['at']}  {row['kind']:<22} {row['who']}  {said}"
