"""Working with others: sync, clone, trust."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from cdl.cli.output import here, json_option, say, show
from cdl.config.load import load
from cdl.errors import CdlError, Conflict, Corrupt, NotFound, Refused
from cdl.project import clone as clone_project
from cdl.project import find_root, open_workspace
from cdl.report.text import count
from cdl.sharing import branches
from cdl.sharing.sync import Synced, accept
from cdl.sharing.sync import sync as sync_all
from cdl.sharing.trust import KEPT, note, refuse_tracked, unconfirmed
from cdl.workflow.workspace import Workspace

AUTO = re.compile(rb"^sync:\s*auto\s*(#.*)?$", re.MULTILINE)
PARTS = ("code", *KEPT)


@click.command()
@click.option(
    "--whole", is_flag=True, help="Take nothing for granted of what the store holds: send whatever it may lack."
)
@click.option(
    "--accept", "accepted", metavar="BRANCH", help="Take a branch that was rewritten at the remote as it is now."
)
@json_option
def sync(whole: bool, accepted: str | None, as_json: bool) -> None:
    """Send and fetch what is missing: branches, own refs, events, objects.

    Nothing of the project runs, nothing is forced, and what broke off goes on. With `sync: auto` in cdl.yaml each command that
    changes something ends with it.
    """
    workspace = open_workspace(here(), tell=say)
    if accepted:
        accept(workspace.clone, accepted)
    done = sync_workspace(workspace, whole=whole)
    show(msgspec.to_builtins(done) | {"nothing": done.nothing}, lambda: _lines(done), as_json=as_json)
    raise_faults(done)


def sync_workspace(workspace: Workspace, *, whole: bool = False) -> Synced:
    """Syncs with whatever this clone shares with."""
    refuse_tracked(workspace.git)
    for key, (_, written) in unconfirmed(load(workspace.root), workspace.trusted).items():
        say(f"not used in this clone: {key}: {written}: cdl trust")
    if workspace.shared.place is None and branches.remote_of(workspace.git) is None:
        raise NotFound(
            "nothing to share with: neither a git remote nor a store",
            where=str(workspace.root),
            remedy="git remote add origin URL; `store: s3://... or a folder` in cdl.yaml, then cdl trust",
        )
    registry = workspace.registry
    targets = [registry.integration] + ([registry.production] if registry.production else [])
    return sync_all(workspace.clone, workspace.shared.remote, targets=targets, whole=whole)


def _lines(done: Synced) -> list[str]:
    """What happened, for a person."""
    lines = []
    for b in done.branches:
        many = f" by {b.commits} commit{'s' if b.commits != 1 else ''}" if b.commits else ""
        lines.append(f"{done.remote}/{b.branch}: {b.what}{many}" + (f": {b.because}" if b.because else ""))
    for word, moved in (("fetched", done.pulled), ("sent", done.pushed)):
        if moved.segments or moved.objects:
            what = [f"{count(moved.segments, 'segment')} of events"] if moved.segments else []
            what += [f"{count(moved.objects, 'object')} ({moved.bytes / 1e6:,.1f} MB)"] if moved.objects else []
            lines.append(f"{done.place}: {word} {', '.join(what)}")
    return [*lines, *(f"FAULT {fault}" for fault in done.faults)] or ["everything is everywhere already"]


def raise_faults(done: Synced) -> None:
    """An error where something is not what it says, or a branch was left."""
    if done.faults:
        raise Corrupt(f"{count(len(done.faults), 'fault')}, named above", remedy="cdl doctor")
    left = [b for b in done.branches if b.because]
    if left:
        raise Conflict(f"{left[0].branch} is not brought together", remedy="as named above, then cdl sync")


@click.command("clone")
@click.argument("url")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option("--yes", is_flag=True, help="Allow code, store and notices without a question.")
def clone(url: str, folder: Path | None, yes: bool) -> None:
    """Clone a project: branches, own refs, and what its store holds, once you allowed it."""
    workspace = clone_project(url, folder, tell=say)
    say(f"cloned into {workspace.root}")
    begin(workspace, yes=yes)
    say(f"next: cd {workspace.root}; cdl status")


def begin(workspace: Workspace, *, yes: bool) -> None:
    """Asks what a new clone may do, and fetches what its store holds."""
    if not _ask(workspace, PARTS, yes=yes):
        say("nothing is allowed here yet, and nothing was fetched from a store: cdl trust, then cdl sync")
        return
    workspace = open_workspace(workspace.root, tell=say)
    for line in _lines(done := sync_workspace(workspace)):
        say(line)
    raise_faults(done)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Confirm this alone.")
@json_option
def trust(yes: bool, only: tuple[str, ...], as_json: bool) -> None:
    """Allow this clone to run the project's code, and confirm its store and its program for notices.

    Asked once; `cdl init` allows what it made itself. A store or program that cdl.yaml names anew is asked again.
    """
    workspace = open_workspace(here(), tell=say)
    changed = _ask(workspace, only or PARTS, yes=yes)
    found = open_workspace(here(), tell=say).trusted
    lines = [f"{part}: {_shown(getattr(found, part))}" for part in PARTS]
    show(msgspec.to_builtins(found) | {"changed": changed}, lambda: lines, as_json=as_json)


def _ask(workspace: Workspace, parts: Sequence[str], *, yes: bool) -> bool:
    """Asks about what is not confirmed yet; whether anything was. Refused where nobody can answer."""
    refuse_tracked(workspace.git)
    now, written = workspace.trusted, load(workspace.root)
    wanted = {key: value for key, (_, value) in unconfirmed(written, now).items() if key in parts}
    remote = branches.remote_of(workspace.git)
    url = branches.without_secret(workspace.git.text("remote", "get-url", remote)) if remote else str(workspace.root)
    asked = [f"code of {url} may run here"] if "code" in parts and not now.code else []
    asked += [f"{key} {_shown(getattr(now, key))} -> {_shown(value)}" for key, value in wanted.items()]
    if not asked:
        return False
    if not yes and not sys.stdin.isatty():
        raise Refused(
            "nobody is asked without a terminal: " + "; ".join(asked), remedy="look at it, then: cdl trust --yes"
        )
    if not yes and not click.confirm("\n".join(asked) + "\nallow this?", default=False):
        return False
    allowed = {"code": True} if "code" in parts else {}
    note(workspace.git, msgspec.structs.replace(now, **allowed, **wanted))
    return True


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "may run" if value else "may not run"
    return "none" if value is None else str(value)


def auto() -> None:
    """Syncs after a command where cdl.yaml says `sync: auto`; what stands in the way is said, and nothing else happens."""
    try:
        root = find_root(here())
    except NotFound:
        return  # a command that needs no project
    if not AUTO.search((root / "cdl.yaml").read_bytes()):
        return
    try:
        workspace = open_workspace(root, tell=say)
        done = sync_workspace(workspace)
        if not done.nothing:
            for line in _lines(done):
                say(f"sync: {line}")
    except CdlError as error:
        say(f"not synced: {error.message}: cdl sync")
