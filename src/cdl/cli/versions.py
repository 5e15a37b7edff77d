"""`cdl data log | diff | checkout | export | verify`: versions of datasets."""

from pathlib import Path

import click
from msgspec.structs import asdict

from cdl.cli.output import here, json_option, say, show, table
from cdl.data.history.changes import Compared, compare
from cdl.data.history.checkout import FORMATS, checkout, export
from cdl.data.history.verify import verify as verify_version
from cdl.errors import ConfigError, Corrupt, NotFound
from cdl.project import open_workspace
from cdl.registry.names import find
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.store.tree import changes
from cdl.workflow.workspace import Workspace, named

LISTED = 20  # items of a difference


@click.command("log")
@click.argument("name", required=False)
@json_option
def log(name: str | None, as_json: bool) -> None:
    """The versions of a dataset on this branch, newest first, with what each changed in the training set."""
    workspace = open_workspace(here(), tell=say)
    rows = []
    identity: str | None = _current(workspace, named(workspace.config.data, "dataset", name))
    while identity is not None:
        record = workspace.registry.record(Dataset, identity)
        commit = workspace.registry.brought(identity)
        row = {"version": short(identity), "when": commit.when, "who": commit.who, **record.items}
        rows.append(row | _changed(workspace, record))
        identity = record.parent
    columns = ["version", "when", "who", "train", "test", "added", "removed", "changed"]
    show(rows, lambda: table(rows, columns), as_json=as_json)


def _changed(workspace: Workspace, record: Dataset) -> dict[str, int]:
    """How many training items a version added, removed and changed; nothing where the store has not both trees."""
    before = workspace.registry.record(Dataset, record.parent).train if record.parent else None
    if before is None or not all(workspace.store.has(name) for name in (before, record.train)):
        return {}
    found = changes(workspace.store.tree(before), workspace.store.tree(record.train))
    return {"added": len(found.added), "removed": len(found.removed), "changed": len(found.changed)}


@click.command("diff")
@click.argument("first", required=False)
@click.argument("second", required=False)
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@click.option("--all", "every", is_flag=True, help="List every item that differs, not only the first ones.")
@json_option
def diff(first: str | None, second: str | None, name: str | None, every: bool, as_json: bool) -> None:
    """What differs between two versions of a dataset, item by item, and how many items of each class they have.

    FIRST and SECOND are as for `cdl show`; left out, the current version and the one before it. With the key both sides and names
    in the source, else the training items by id.
    """
    workspace = open_workspace(here(), tell=say)
    two = meant_version(workspace, second, name)
    one = meant_version(workspace, first, name) if first else workspace.registry.record(Dataset, two).parent
    if one is None:
        raise NotFound(f"{short(two)} is the first version: nothing to compare it with", remedy="cdl data show")
    if first and second is None:
        one, two = two if one == two else one, two
    found = compare(workspace, one, two)
    whole = asdict(found) | {"counts": found.counts()}
    whole["classes"] = [{"class": c, "first": a, "second": b} for c, (a, b) in found.classes.items()]
    show(whole, lambda: _differences(found, every), as_json=as_json)


def _differences(found: Compared, every: bool) -> list[str]:
    sides = "training items; the test set is sealed, and you hold no key" if found.sealed else "items of both sets"
    counts = ", ".join(f"{count:,} {what}" for what, count in found.counts().items()) or "nothing differs"
    lines = [f"{short(found.first)} -> {short(found.second)}, {sides}: {counts}"]
    shown = found.items if every else found.items[:LISTED]
    rows = [
        {
            "": change.what,
            "item": change.item[:12],
            "set": change.side,
            "name": change.name,
            "label": f"{change.before} -> {change.label}" if change.before else change.label,
        }
        for change in shown
    ]
    lines += table(rows, ["", "item", "set", "name", "label"]) if rows else []
    lines += [f"and {len(found.items) - len(shown):,} more: --all"] if len(shown) < len(found.items) else []
    if {*found.classes} - {None}:
        classes = [{"class": c or "(no label)", "first": a, "second": b} for c, (a, b) in found.classes.items()]
        lines += table(classes, ["class", "first", "second"])
    elif not found.labelled:
        lines.append("labels are compared where those of both versions were released")
    return lines


@click.command("checkout")
@click.argument("version", required=False)
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@click.option("--to", type=click.Path(path_type=Path), help="Write below this folder, not where cdl.yaml declares it.")
@click.option("--force", is_flag=True, help="Remove files that are in the way, and put changed ones as they were.")
@click.option("--link", is_flag=True, help="Large files as the store's own, read-only: nothing is copied.")
@json_option
def check_out(version: str | None, name: str | None, to: Path | None, force: bool, link: bool, as_json: bool) -> None:
    """Write the source files of a version, the current one if none is named; for the data engineer, who has the key.

    What stands there as it should be is not touched. To have the data of another commit: check that out in git, then this.
    """
    workspace = open_workspace(here(), tell=say)
    identity = meant_version(workspace, version, name)
    done = checkout(workspace, identity, to=here() / to if to else None, force=force, link=link)
    lines = [
        f"{short(identity)}: {done.written:,} files written ({done.bytes / 1e6:,.1f} MB), {done.same:,} stood there"
    ]
    lines += [f"{done.shared:,} of them share their blocks with the store"] if done.shared else []
    lines += [f"{done.linked:,} of them are links to the store, read-only"] if done.linked else []
    lines += [f"{done.removed:,} in the way removed"] if done.removed else []
    show({"version": identity, **asdict(done)}, lambda: lines, as_json=as_json)


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("version", required=False)
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="files", help="A file each, or one of JSON lines."
)
@json_option
def export_items(folder: Path, version: str | None, name: str | None, form: str, as_json: bool) -> None:
    """Write the training items of a version with their labels into a new FOLDER, called by their ids; masked fields left out."""
    workspace = open_workspace(here(), tell=say)
    identity = meant_version(workspace, version, name)
    count = export(workspace, identity, here() / folder, form=form)
    lines = [f"{count:,} training items of {short(identity)} written into {folder}"]
    show({"version": identity, "items": count, "folder": str(folder)}, lambda: lines, as_json=as_json)


@click.command("verify")
@click.argument("version", required=False)
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@json_option
def verify(version: str | None, name: str | None, as_json: bool) -> None:
    """Read every byte that a version needs, of both sets, and hold it against its name.

    Training items are also held against their tree, and with the key test items; none is needed.

    Exit code 5 where something is missing or broken.
    """
    workspace = open_workspace(here(), tell=say)
    identity = meant_version(workspace, version, name)
    read = verify_version(workspace, identity)
    lines = [f"{fault.object[:24]}: {fault.what}" for fault in read.faults]
    lines.append(
        f"{short(identity)}: {read.objects:,} objects, {read.bytes / 1e6:,.1f} MB read, {len(read.faults)} faults"
    )
    show({"version": identity, **asdict(read)}, lambda: lines, as_json=as_json)
    if read.faults:
        record = workspace.registry.record(Dataset, identity)
        remedy = f"cdl doctor --full --mend, then: cdl data run {record.name}"
        raise Corrupt(f"{len(read.faults)} faults in {short(identity)}", remedy=remedy)


def _current(workspace: Workspace, name: str) -> str:
    head = workspace.registry.head(DatasetHead, name)
    if head is None:
        raise NotFound(f"{name} has no version", remedy="cdl data run")
    return head.version


def meant_version(workspace: Workspace, what: str | None, name: str | None) -> str:
    """A dataset version by what was typed; the current one of the dataset for None."""
    if what is None:
        return _current(workspace, named(workspace.config.data, "dataset", name))
    found = find(workspace.registry, what, prefer_dataset=True)
    if found.said:
        say(found.said)
    if not isinstance(found.stored.record, Dataset):
        raise ConfigError(f"{short(found.stored.id)} is no version of a dataset", remedy="cdl data log")
    return found.stored.id
