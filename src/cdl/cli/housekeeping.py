"""Housekeeping: gc, doctor."""

import re
from collections.abc import Mapping

import click

from cdl.cli.output import here, json_option, say, show
from cdl.cli.sharing import raise_faults, sync_workspace
from cdl.cycle import CYCLE
from cdl.errors import Corrupt, NotFound
from cdl.git.repository import Git
from cdl.housekeeping.doctor import examine
from cdl.housekeeping.finding import Finding
from cdl.housekeeping.gc import Amount, Collected, collect
from cdl.housekeeping.shared import Swept, collect_shared
from cdl.project import find_root, known_integration, open_workspace, shared_folder
from cdl.workflow.workspace import Workspace

SHOWN = 5  # findings that ask for the same
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Span(click.ParamType[float]):
    """A span of time in seconds: 36h, 2d, 30m, 0."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if found is None or (not found[2] and float(found[1])):
            self.fail(f"'{value}' is no span of time; say 36h, 2d or 30m", param, ctx)
        return float(found[1]) * UNITS.get(found[2], 0.0)


@click.command()
@click.option("--remove", is_flag=True, help="Do it; without it only what would go is said.")
@click.option("--trials", is_flag=True, help="Also weights and checkpoints of trials that nobody registered.")
@click.option("--older-than", type=Span(), default="1d", show_default=True, help="Nothing younger goes.")
@click.option("--incomplete", is_flag=True, help="Also where objects that records need are not in this clone.")
@click.option("--shared", is_flag=True, help="In the shared store: marks what may go, removes what was marked before.")
@click.option("--wait", type=Span(), default="1d", show_default=True, help="With --shared: from a mark until it goes.")
@json_option
def gc(
    remove: bool, trials: bool, older_than: float, incomplete: bool, shared: bool, wait: float, as_json: bool
) -> None:
    """Remove what no record, event or claim names from this clone's store; says what would go.

    Results of jobs that nothing names are made again when they are asked for. Other commands may run meanwhile, unless
    --older-than is shorter than what they take.
    """
    workspace = open_workspace(here(), tell=say)
    if shared:
        swept = _shared(workspace, remove=remove, trials=trials, wait=wait, older_than=older_than)
        show(swept, lambda: _swept(swept), as_json=as_json)
        return
    done = collect(workspace.clone, remove=remove, trials=trials, older_than=older_than, incomplete=incomplete)
    show(done, lambda: _collected(done), as_json=as_json)


def _shared(workspace: Workspace, *, remove: bool, trials: bool, wait: float, older_than: float) -> Swept:
    """Syncs, and then marks and removes. Corrupt where the sync found faults."""
    remote = workspace.shared.remote
    if remote is None:
        raise NotFound("this clone shares no store", where="cdl.yaml: store", remedy="cdl gc, without --shared")
    raise_faults(sync_workspace(workspace))
    return collect_shared(workspace.clone, remote, remove=remove, trials=trials, wait=wait, older_than=older_than)


def _swept(done: Swept) -> list[str]:
    """What goes, what is marked and what stays, for a person."""
    words = ("removed", "marked") if done.removed else ("would go", "would mark")
    pairs = (
        (words[0], done.gone, "marked before and still not named"),
        (words[1], done.marked, "named by nothing"),
        ("waits", done.waits, f"marked, the first may go in {(done.next or 0) / 3600:,.1f} hours"),
        ("stays", done.kept, "named, or too young"),
    )
    lines = [line for word, amount, what in pairs if amount.count for line in _amounts(word, {what: amount})]
    more = not done.removed and (done.gone.count or done.marked.count)
    return [*lines, "to do it: cdl gc --shared --remove"] if more else lines or ["nothing is there"]


def _collected(done: Collected) -> list[str]:
    """What goes and what stays, for a person."""
    lines = _amounts("removed" if done.removed else "would go", done.gone) + _amounts("stays", done.kept)
    if done.missing:
        lines.append(f"{done.missing:,} objects that records need are not here: cdl doctor")
    if not done.gone:
        return [*lines, "nothing to remove"]
    return lines if done.removed else [*lines, "to do it: cdl gc --remove"]


def _amounts(word: str, amounts: Mapping[str, Amount]) -> list[str]:
    return [f"{word:<10} {a.count:>9,}  {a.bytes / 1e6:>12,.1f} MB  {kind}" for kind, a in sorted(amounts.items())]


@click.command()
@click.option("--full", is_flag=True, help="Read every byte of the store, and of the shared one.")
@click.option("--mend", is_flag=True, help="Put right what is safe to: caches, copies, modes.")
@json_option
def doctor(full: bool, mend: bool, as_json: bool) -> None:
    """Look at git, store, journal, shared store, services, environment and trust; runs nothing of the project.

    Exit code 5 where something is wrong.
    """
    root = find_root(here())
    git = Git(root)
    folder = shared_folder(git)
    found = examine(
        git,
        folder,
        lambda: open_workspace(root, tell=say),
        CYCLE,
        known=known_integration(folder),
        full=full,
        mend=mend,
    )
    wrong = [f for f in found if f.fault and not f.mended]
    show({"findings": found, "wrong": len(wrong)}, lambda: _findings(found), as_json=as_json)
    if wrong:
        raise Corrupt(f"{len(wrong)} things are wrong", remedy="what to type stands below each")


def _findings(found: list[Finding]) -> list[str]:
    """What was found, for a person: of many that ask for the same the first few."""
    alike: dict[tuple[str, str, str | None], list[Finding]] = {}
    for f in found:
        word = "mended" if f.mended else "wrong" if f.fault else "note"
        alike.setdefault((word, f.area, None if f.mended else f.remedy), []).append(f)
    lines = []
    for (word, area, remedy), some in alike.items():
        shown = some if len(some) <= SHOWN + 1 else some[:SHOWN]
        lines += [f"{word:<6} {area}: {f.where}: {f.what}" for f in shown]
        lines += [f"       and {len(some) - SHOWN:,} more: cdl doctor --json"] if len(shown) < len(some) else []
        lines += [f"       {remedy}"] if remedy else []
    return lines or ["all is well"]
