"""`cdl data merge`."""

from collections.abc import Sequence

import click

from cdl.cli.output import here, json_option, say, show, table
from cdl.data.history.merge import Merged, merge
from cdl.errors import Conflict
from cdl.project import open_workspace
from cdl.registry.records import short

SHOWN = 20


@click.command("merge")
@click.argument("name", required=False)
@json_option
def merge_versions(name: str | None, as_json: bool) -> None:
    """In a git merge: join the versions that both branches made of a dataset into one that holds what both did.

    It resolves the dataset's head in work tree and index, and brings what theirs changed into the source folder; your commit ends
    the merge. An item that both changed, each in another way, is named, and then nothing is written. For the data engineer, who
    has the key. NAME is for a head that is resolved already.
    """
    workspace = open_workspace(here(), tell=say)
    done = merge(workspace, name)
    show(done, lambda: [line for each in done for line in _said(each)], as_json=as_json)
    count = sum(len(each.clashes) for each in done)
    if count:
        remedy = "settle each on one of the two branches by cdl data run, and merge again; nothing was written"
        raise Conflict(f"{count} items or files were changed on both sides", remedy=remedy)


def _said(done: Merged) -> list[str]:
    if done.clashes:
        rows = [{"item": c.item[:12] if c.item else None, "name": c.name, "": c.what} for c in done.clashes[:SHOWN]]
        more = [f"and {len(done.clashes) - SHOWN:,} more: --json"] if len(done.clashes) > SHOWN else []
        return [f"{done.name}: both sides changed", *table(rows, ["item", "name", ""]), *more]
    lines = [f"{done.name} {short(done.version or '')}: {done.taken:,} items as in theirs"]
    lines += [f"  {done.aside:,} set aside: equal items that the two have in different sets"] if done.aside else []
    lines += _files(done.written, "written into the source") + _files(done.removed, "removed from the source")
    lines += [f"  {source}: left alone, {why}" for source, why in done.away.items()]
    if done.again:
        lines.append(f"  not joined, left to the next run: {', '.join(done.again)}")
    lines.append("next: git commit" + ("; then cdl data run" if done.again or done.away else ""))
    if done.labels:
        lines.append(f"the head of its labels conflicts too: git checkout --ours -- {done.labels}, git add it;")
        lines.append(
            "labels of both sides are kept: after the approval, cdl label release makes a snapshot for this version"
        )
    return lines


def _files(paths: Sequence[str], what: str) -> list[str]:
    return [f"  {len(paths):,} files {what}"] if paths else []
