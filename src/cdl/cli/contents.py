"""`cdl data status | show`: how datasets stand, and what a version holds."""

from collections.abc import Sequence

import click

from cdl.cli.output import here, json_option, say, show, table
from cdl.cli.versions import meant_version
from cdl.data.show import Shown, ShownItem, shown, shown_item
from cdl.data.sources.seen import Differing
from cdl.data.status import Standing, standing
from cdl.project import open_workspace
from cdl.registry.records import short
from cdl.workflow.workspace import named

FEW = 5  # names of files that differ
LONGEST_TEXT = 2000  # characters of an item
MB = 1e6


@click.command("status")
@click.argument("name", required=False)
@json_option
def status(name: str | None, as_json: bool) -> None:
    """How each dataset stands: its version, what changed in its sources since, labels, key, disk."""
    workspace = open_workspace(here(), tell=say)
    names = [named(workspace.config.data, "dataset", name)] if name else list(workspace.config.data)
    found = [standing(workspace, each) for each in names]
    lines = [line for each in found for line in _standing(each)] or ["no dataset yet: cdl data add PATH"]
    show(found, lambda: lines, as_json=as_json)


def _standing(found: Standing) -> list[str]:
    version = short(found.version) if found.version else "no version yet"
    lines = [f"{found.name}  {version}"]
    if found.version:
        count = {name: int(value) for name, value in found.counts.items()}
        sets = f"{count['items']:,}: train {count['train']:,}, test {count['test']:,}"
        lines.append(f"  items    {sets}; {count['rejected']:,} rejected, {count['set_aside']:,} set aside")
    lines += [f"  source   {line}" for line in _source(found)]
    if found.version:
        lines.append(f"  gate     {found.verdict or 'waits'}{'; ready' if found.ready else ''}")
    lines.append(f"  labels   {_labels(found)}")
    lines.append(f"  key      {'held' if found.key else 'not held: the test set and the sources stay sealed'}")
    lines.append(f"  on disk  {found.bytes / MB:,.1f} MB, all versions {found.every / MB:,.1f} MB")
    return lines


def _source(found: Standing) -> list[str]:
    differing: Differing = found.source
    kinds = (("added", differing.added), ("removed", differing.removed), ("changed", differing.changed))
    lines = [f"{len(paths):,} {what}: {_few(paths)}" for what, paths in kinds if paths]
    if not lines and found.version:
        lines = ["as in the version" + (" (by sizes; times are not known here)" if differing.sizes_only else "")]
        lines = [] if differing.unknown else lines
    if found.pipeline:
        lines.append("its section of cdl.yaml, a dataset that it joins or the code of its steps changed since")
    lines += found.trouble.splitlines() if found.trouble else []
    lines += [f"{what}: not looked at, {why}" for what, why in differing.unknown.items()]
    if differing.count or found.pipeline:
        lines.append("next: cdl data run")
    return lines


def _few(paths: Sequence[str]) -> str:
    return ", ".join(paths[:FEW]) + (f" and {len(paths) - FEW:,} more" if len(paths) > FEW else "")


def _labels(found: Standing) -> str:
    if found.classes is None:
        return f"none yet: cdl.yaml names no classes (data.{found.name}.labels)"
    if found.coverage is None:
        return f"{found.classes} classes; none released for this version"
    covered = ", ".join(f"{side} {share:.2%}" for side, share in found.coverage.items())
    return f"{found.classes} classes; released: {covered} covered"


@click.command("show")
@click.argument("version", required=False)
@click.option("--item", metavar="ID", help="One training item, by the beginning of its id.")
@click.option("--of", "name", metavar="DATASET", help="The dataset, where there are several.")
@json_option
def show_version(version: str | None, item: str | None, name: str | None, as_json: bool) -> None:
    """What a version holds, the current one if none is named; or with --item one training item, masked fields left out.

    VERSION is as for `cdl show`.
    """
    workspace = open_workspace(here(), tell=say)
    identity = meant_version(workspace, version, name)
    if item is not None:
        one = shown_item(workspace, identity, item)
        show(one, lambda: _item(one), as_json=as_json)
        return
    found = shown(workspace, identity)
    show(found, lambda: _version(found), as_json=as_json)


def _version(found: Shown) -> list[str]:
    lines = [f"{found.name} {short(found.version)}, after {short(found.parent) if found.parent else 'nothing'}"]
    lines += [f"  answers  {short(found.answers)}"] if found.answers else []
    size = f", {found.bytes / MB:,.1f} MB" if found.bytes is not None else ""
    lines.append(f"  train    {found.items['train']:,} items{size}")
    lines.append(f"  test     {found.items['test']:,} items, sealed")
    lines.append(f"  aside    {found.set_aside:,} items: equal ones that belong to both sets")
    lines.append(f"  store    {found.stored / MB:,.1f} MB, shared with other versions")
    sources = [{"source": s.what, "set": s.set or "by the split", "files": s.files} for s in found.sources]
    stages = [
        {"stage": s.name, "train": s.train, "test": s.test, "code": s.code[:12] if s.code else None}
        for s in found.stages
    ]
    lines += [*table(sources, ["source", "set", "files"]), *table(stages, ["stage", "train", "test", "code"])]
    lines += [f"joined in {step}: {short(version)}" for step, version in found.joined.items()]
    lines += [f"left out: {name}" for name in found.skipped]
    reasons = [{"rejected because": reason, "items": count} for reason, count in found.rejected.items()]
    lines += table(reasons, ["rejected because", "items"]) if reasons else []
    classes = [{"class": name, "training items": count} for name, count in found.classes.items()]
    lines += table(classes, ["class", "training items"]) if classes else ["no labels were released for it"]
    return lines


def _item(found: ShownItem) -> list[str]:
    lines = [f"{found.item}  {found.kind}, {found.bytes:,} bytes, label {found.label or 'none'}"]
    lines += [f"  {name}: {value}" for name, value in found.fields.items()]
    if found.text is not None:
        lines += found.text[:LONGEST_TEXT].splitlines()
        lines += [f"... {len(found.text) - LONGEST_TEXT:,} more characters"] if len(found.text) > LONGEST_TEXT else []
    return lines
