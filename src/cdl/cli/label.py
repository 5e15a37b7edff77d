"""`cdl label`: labels."""

import base64
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show
from cdl.data import elsewhere, labels
from cdl.data.ready import ready
from cdl.project import open_workspace
from cdl.registry.records import short
from cdl.workflow.workspace import named

SHADES = " .:-=+*#%@"
WIDEST = 32  # characters of a picture
LONGEST_TEXT = 2000  # characters of a text


@click.group()
def label() -> None:
    """Labels: next, import, export, set, release."""


@label.command("next")
@click.argument("name", required=False)
@click.option("--count", type=int, help="Stop after so many.")
@json_option
def next_items(name: str | None, count: int | None, as_json: bool) -> None:
    """Show items that nobody labeled, one after another, and ask for their class. With --json: only show them."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    classes = labels.labeling(workspace, dataset).classes
    todo = labels.unlabeled(workspace, dataset)[: count or None]
    if as_json:
        found = [{"item": i, "content": base64.b64encode(content).decode()} for i, content in todo]
        show({"classes": classes, "items": found}, lambda: [], as_json=True)
        return
    session = labels.Session(workspace, dataset)
    choices = ", ".join(c if c == str(i) else f"{i} {c}" for i, c in enumerate(classes))
    kept = 0
    for identity, content in todo:
        for line in _shown(content):
            click.echo(line)
        value = _asked(f"{identity[:12]}, {kept + 1} of {len(todo)}: {choices}; empty to stop", classes)
        if value is None:
            break
        session.record({identity: value})
        kept += 1
    say(f"{kept} labels kept, {len(labels.unlabeled(workspace, dataset))} items left; next: cdl label release")


@label.command("import")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@json_option
def import_labels(file: Path | None, name: str | None, as_json: bool) -> None:
    """Keep the labels of FILE, an export of Label Studio as JSON, each with its labeler and time.

    Without FILE: those that cdl.yaml's origin gives and did not give before (folders, the source, CSV, Label Studio's JSON).
    """
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    known = 0
    if file is None:
        found = labels.not_said_before(workspace, dataset, labels.from_source(workspace, dataset))
        count = labels.record(workspace, dataset, found, by=labels.SOURCE)
    else:
        count, known = elsewhere.take_in(workspace, dataset, file)
    line = (
        f"{count:,} new labels kept" + (f", {known:,} were kept before" if known else "") + "; next: cdl label release"
    )
    show({"dataset": dataset, "labels": count}, lambda: [line], as_json=as_json)


@label.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@click.option("--all", "every", is_flag=True, help="Every item, not only those without a label.")
@json_option
def export_tasks(file: Path, name: str | None, every: bool, as_json: bool) -> None:
    """Write items as tasks for Label Studio into FILE, test items too; `cdl label import` takes its export in."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    made = elsewhere.export(workspace, dataset, file, every=every)
    lines = [f"{made.tasks:,} tasks written; the labeling interface that fits them:", made.interface]
    show({"dataset": dataset, "tasks": made.tasks, "interface": made.interface}, lambda: lines, as_json=as_json)


@label.command("set")
@click.argument("item")
@click.argument("value")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
def set_label(item: str, value: str, name: str | None) -> None:
    """Label one item by its id."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    labels.record(workspace, dataset, {item: value})
    say("1 label kept; next: cdl label release")


@label.command()
@click.argument("name", required=False)
@click.option("--no-triggers", is_flag=True, help="Leave triggers waiting.")
@json_option
def release(name: str | None, no_triggers: bool, as_json: bool) -> None:
    """Make a snapshot of all labels; training reads only snapshots."""
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    made = labels.release(workspace, dataset)
    coverage = made.record.coverage
    lines = [f"released {short(made.id)}: train {coverage['train']:.2%}, test {coverage['test']:.2%} covered"]
    if made.conflicts:
        lines.append(f"{len(made.conflicts)} items whose labelers disagree")
    lines.append(f"{dataset} is ready" if ready(workspace, dataset) else f"{dataset} is not ready yet: cdl status")
    show({"labels": made.id, "coverage": coverage, "conflicts": list(made.conflicts)}, lambda: lines, as_json=as_json)
    after(workspace, no_triggers=no_triggers)


def _asked(question: str, classes: Sequence[str]) -> str | None:
    """A class by name or number; None for an empty answer. On a terminal a wrong one is asked again."""
    while True:
        say(question)
        given = (
            click.prompt("class", default="", show_default=False) if sys.stdin.isatty() else sys.stdin.readline()
        ).strip()
        if not given or given in classes:
            return given or None
        if given.isdigit() and int(given) < len(classes):
            return classes[int(given)]
        if not sys.stdin.isatty():
            return given  # refused with its name by whoever keeps it
        say(f"no class '{given}'")


def _shown(content: bytes) -> Iterator[str]:
    """An item for a terminal: a picture in shades, or its text."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "GIF", "BMP"]) as image:
            grey = image.convert("L")
            grey.thumbnail((WIDEST, WIDEST))
            values, width = grey.tobytes(), grey.width
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        text = content[:LONGEST_TEXT].decode("utf-8", "replace")
        yield from ("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
        return
    for start in range(0, len(values), width):
        yield "".join(2 * SHADES[v * (len(SHADES) - 1) // 255] for v in values[start : start + width])
