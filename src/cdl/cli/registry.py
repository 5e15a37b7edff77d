"""What is kept and what happened: log, show, diff, lineage, events."""

import json
import re
from collections.abc import Sequence

import click
import msgspec
from msgspec.structs import asdict

from cdl import document
from cdl.cli.output import here, json_option, say, table
from cdl.cli.output import show as shown
from cdl.errors import NotFound
from cdl.model.results import Evaluation, evaluated
from cdl.project import open_workspace
from cdl.registry import lineage as tracing
from cdl.registry.diff import diff as differences
from cdl.registry.diff import inside
from cdl.registry.history import Entry, history
from cdl.registry.names import find
from cdl.registry.outline import outline
from cdl.registry.records import Model, short
from cdl.registry.registry import Stored
from cdl.workflow.workspace import Workspace

LONG_ID = re.compile(r"([a-z]-|s:)?[0-9a-f]{32,}")
BRIEF = 10  # characters of an id with its prefix


@click.command()
@click.argument("name", required=False)
@json_option
def log(name: str | None, as_json: bool) -> None:
    """History, newest first: of a dataset, its labels, a model, a stage, of one record, or of everything.

    NAME is as for `cdl show`; a name that several things share tells of all of them. A star marks what a name names now.
    """
    found = history(open_workspace(here(), tell=say).registry, name)
    rows = [{k: v for k, v in asdict(entry).items() if k != "place"} for entry in found]
    shown(rows, lambda: _history(found, named=name is None) if found else ["nothing happened yet"], as_json=as_json)


@click.command()
@click.argument("what")
@json_option
def show(what: str, as_json: bool) -> None:
    """A record in full.

    WHAT is an id or its first digits, a name (what it names here, else on the integration branch), NAME@v2 (the second
    version there; of a model, the second promoted), NAME@~1 (the one before the current) or NAME@ID; `dataset:`, `labels:`,
    `model:` or `stage:` before a name says which, where several things share it.
    """
    workspace = open_workspace(here(), tell=say)
    (found,) = _found(workspace, what)
    commit = workspace.registry.brought(found.id)
    plain = msgspec.to_builtins(found.record)
    judged = _judged(workspace, found.id) if isinstance(found.record, Model) else None
    lines = [f"# {found.id}  {found.path}", f"# {commit.when}  {commit.who}  {commit.line}"]
    lines += [f"# {line}" for line in _measures(judged)] + document.write(plain).decode().splitlines()
    whole = {"id": found.id, "path": found.path, **plain}
    if judged:
        whole["evaluation"] = {"object": judged.object, **judged.result}
    shown(whole, lambda: lines, as_json=as_json)


@click.command()
@click.argument("first")
@click.argument("second")
@json_option
def diff(first: str, second: str, as_json: bool) -> None:
    """What differs between two records of a kind, field by field, and how many training items or files do.

    FIRST and SECOND are as for `cdl show`. What is sealed is not opened.
    """
    workspace = open_workspace(here(), tell=say)
    one, two = _found(workspace, first, second)
    found = differences(one.record, two.record)
    inner = inside(workspace.store, one.record, two.record)
    lines = [f"{short(one.id)} -> {short(two.id)}"]
    lines += [f"  {d.field}: {_brief(d.first)} -> {_brief(d.second)}" for d in found]
    if inner is not None and found:
        lines.append(f"  {inner.what}: {inner.added} added, {inner.removed} removed, {inner.changed} changed")
    whole = {
        "first": one.id,
        "second": two.id,
        "fields": found,
        "inside": inner,
    }
    shown(whole, lambda: lines if found else ["equal"], as_json=as_json)


@click.command()
@click.argument("what")
@click.option("--down", is_flag=True, help="What was made of it, instead of what it was made of.")
@json_option
def lineage(what: str, down: bool, as_json: bool) -> None:
    """What something was made of, or what was made of it, as an outline; with --json its edges.

    WHAT is as for `cdl show`, or the id of a training item, or the mail address of a labeler.
    """
    workspace = open_workspace(here(), tell=say)
    registry, store = workspace.registry, workspace.store
    begin = tracing.start(registry, store, what)
    if begin.said:
        say(begin.said)
    found = tracing.lineage(registry, store, begin.id, down=down)
    ends = dict.fromkeys([begin.id, *(i for e in found for i in (e.source, e.target))])
    names = tracing.describe(registry, ends)
    nothing = [] if found else ["nothing was made of it" if down else "it was made of nothing that is recorded"]
    shown(found, lambda: [*outline(begin.id, found, names, down=down), *nothing], as_json=as_json)


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
    said = " ".join(f"{k}={_brief(v)}" for k, v in fields.items())
    return f"{row['count']:>5}  {row['at']}  {row['kind']:<22} {row['who']}  {said}"


def _found(workspace: Workspace, *what: str) -> list[Stored]:
    """What was typed, and on standard error what it was taken for."""
    found = [find(workspace.registry, w, prefer_dataset=True) for w in what]
    for said in dict.fromkeys(f.said for f in found if f.said):
        say(said)
    return [f.stored for f in found]


def _brief(value: object) -> str:
    """A value with ids and hashes as people see them."""
    return LONG_ID.sub(lambda found: found.group()[:BRIEF], str(value))


def _history(found: Sequence[Entry], *, named: bool) -> list[str]:
    rows = [
        {**asdict(e), "": "*" if e.current else "", "id": short(e.id), "what": e.line, "version": e.version or ""}
        for e in found
    ]
    return table(rows, ["", "id", "kind", *(["name"] if named else []), "version", "when", "who", "what"])


def _judged(workspace: Workspace, model: str) -> Evaluation | None:
    """The sealed evaluation that stands for a model on the current test. Needs no key."""
    try:
        return evaluated(workspace, model)
    except NotFound:  # no policy, or the data that it names is not here
        return None


def _measures(judged: Evaluation | None) -> list[str]:
    if judged is None:
        return []
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in judged.measures().items())
    return [
        f"{numbers}; {judged.result['items']} sealed items, evaluation {judged.number} of {judged.limit} on this test"
    ]
