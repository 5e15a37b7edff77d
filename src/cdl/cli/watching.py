"""`cdl data watch`: versions as files arrive."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep

import click

from cdl.cli.adding import made
from cdl.cli.after import after
from cdl.cli.output import here, say, show
from cdl.data.sources.watch import ITEMS, SECONDS, Watch
from cdl.errors import CdlError, Refused
from cdl.project import open_workspace
from cdl.registry.records import DatasetHead
from cdl.workflow.workspace import named


@click.command("watch")
@click.argument("name", required=False)
@click.option("--items", type=click.IntRange(min=1), default=ITEMS, help="So many new files make a version.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=SECONDS, help="Or so many seconds after the first of them."
)
@click.option("--once", is_flag=True, help="End after one version.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each version.")
def watch(name: str | None, items: int, seconds: float, once: bool, as_json: bool) -> None:
    """Make versions as files arrive in the dataset's source, each as `cdl data run` makes it; until Ctrl-C.

    A file that is still being written is not taken: it must have stood still for 2 seconds, or been renamed into place.
    """
    workspace = open_workspace(here(), tell=say)
    dataset = named(workspace.config.data, "dataset", name)
    watching = Watch(workspace, dataset, items=items, seconds=seconds)
    say(
        f"watching {', '.join(watching.watched)}: a version after {items:,} new files, or {seconds:g} s after the first"
    )
    say("Ctrl-C ends it, after the version that is being made")
    try:
        while not (_look(watching, dataset, once=once, as_json=as_json) and once):
            sleep(watching.pause())
    except KeyboardInterrupt:
        say("ended")


def _look(watching: Watch, dataset: str, *, once: bool, as_json: bool) -> bool:
    """Looks once, and makes a version where one is due; whether there is a new one."""
    if not watching.look():
        return False
    with _uninterrupted():
        try:
            workspace = open_workspace(here(), tell=say)
            before = workspace.registry.head(DatasetHead, dataset)
            say(f"{watching.count:,} files are new, changed or gone")
            found, lines = made(workspace, dataset, watching.options)
            watching.took(workspace)
            if before is not None and before.version == found["version"]:
                say("nothing changed")
                return False
            if as_json:
                click.echo(json.dumps({"dataset": dataset, **found}, sort_keys=True))
            else:
                show(None, lambda: lines, as_json=False)
            after(workspace)
        except CdlError as error:
            if once or isinstance(error, Refused):
                raise
            watching.failed(error)
            return False
    return True


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off: programs that are started meanwhile do not see it, and it is raised here afterwards."""
    asked: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # for programs; other threads here may still get it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if asked:
            raise KeyboardInterrupt
