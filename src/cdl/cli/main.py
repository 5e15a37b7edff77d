"""The command line. Commands are found by name and imported only when they are called, so `cdl --help` stays quick."""

import errno
import os
import shutil
import sys
import tempfile
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import click

from cdl import DISTRIBUTION
from cdl.errors import CdlError, ConfigError, Conflict, Corrupt, JobFailed, NotFound, Refused, Unavailable

EXIT_CODES: dict[type[CdlError], int] = {
    JobFailed: 1,
    ConfigError: 2,
    Refused: 3,
    Conflict: 4,
    Corrupt: 5,
    NotFound: 6,
    Unavailable: 7,
}

BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # else numpy's threads, one a core, spin at its import: 2 s of CPU on 16 cores
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

COMMANDS = {
    "init": ("start:init", "Make a project in an empty folder or an existing repository; set up a clone."),
    "reference": ("start:reference", "Every key of cdl.yaml with its meaning."),
    "status": ("workflow:status", "Where everything stands, and who must decide what."),
    "run": ("running:run", "Do what can be done up to the next decision."),
    "approve": ("workflow:approve", "Approve what waits at a gate."),
    "reject": ("workflow:reject", "Send work back to an earlier step, with a reason."),
    "reopen": ("workflow:reopen", "Ask for a step to be done again."),
    "request": ("workflow:request", "Work sent back: list, answer, decline."),
    "data": ("data:data", "Datasets: add, run, status, show, diff, checkout, merge, watch, verify."),
    "label": ("label:label", "Labels: next, import, set, release."),
    "experiment": ("training:experiment", "Experiments are branches: create, list."),
    "train": ("training:train", "Train once, or run an unchanged script as a trial."),
    "search": ("training:search", "Search for hyperparameters."),
    "trial": ("training:trial", "Trials: list, show, compare, logs."),
    "model": ("model:model", "Registered models: list, register, evaluate, submit, withdraw, implement."),
    "deploy": ("deploy:deploy", "Services: apply, restart, rollback, status, stop."),
    "predict": ("deploy:predict", "Predict a batch."),
    "monitor": ("deploy:monitor", "Monitoring: run."),
    "report": ("running:report", "Write pages: of a dataset, an experiment, a model, a stage, or the project."),
    "reproduce": ("deploy:reproduce", "Make everything again, and compare hash by hash."),
    "log": ("registry:log", "History, newest first: of a name, a record, or everything."),
    "show": ("registry:show", "A record in full, by id or name."),
    "diff": ("registry:diff", "What differs between two versions."),
    "lineage": ("registry:lineage", "What something was made of, or what was made of it."),
    "events": ("registry:events", "What happened."),
    "sync": ("sharing:sync", "Send and fetch what is missing: branches, events, objects."),
    "clone": ("sharing:clone", "Clone a project, with what its store holds."),
    "trust": ("sharing:trust", "Allow this clone to run the project's code; confirm its store."),
    "doctor": ("housekeeping:doctor", "Look at everything: what is wrong, where, and what to type."),
    "gc": ("housekeeping:gc", "Remove what nothing names any more; says first what would go."),
    "store": ("keeping:store", "The store: verify."),
    "key": ("keeping:key", "Secrets of datasets, and your own key: create, backup, restore, public."),
    "member": ("member:member", "Members: add, remove, list."),
    "ci": ("ci:ci", "For continuous integration: check, evaluate."),
}


CHANGING = (  # after these a project with `sync: auto` is synced
    "run", "approve", "reject", "reopen", "request", "data", "label", "experiment", "train", "search", "model", "deploy",
    "monitor", "key", "member",
)  # fmt: skip


class Commands(click.Group):
    """Knows the commands by name and help line; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"cdl.cli.{module}"), name)
        return found if isinstance(found, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A misspelt command is told the nearest one."""
        near = get_close_matches(args[0], list(COMMANDS), n=1) if args[0] not in COMMANDS else []
        if near:
            raise click.UsageError(f"No such command '{args[0]}'. Did you mean '{near[0]}'?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help lines of the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name=DISTRIBUTION, prog_name="cdl")
def cli() -> None:
    """Takes a team's deep-learning model from raw data to a monitored service and round again."""


def exit_code(error: CdlError) -> int:
    """The exit code of an error; 1 for one without a code of its own."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def main() -> None:
    """Runs a command; errors that a person can mend are one message and an exit code."""
    os.environ.setdefault(BLAS_THREADS, "1")
    try:
        cli.main(standalone_mode=False)
        if sys.argv[1:2] and sys.argv[1] in CHANGING:
            import_module("cdl.cli.sharing").auto()
    except CdlError as error:
        click.echo(f"{_kind(error)}: {error}", err=True)
        sys.exit(exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written: the system says what, and where
        place = error.filename or (fullest() if error.errno in NO_ROOM else None)
        said = f"{place}: {error.strerror or error}" if place else str(error.strerror or error)
        click.echo(f"error: {said}\n  make room or give access, then the command again", err=True)
        sys.exit(1)


def fullest() -> str:
    """Where there is least room of the folders that a command writes to: a full disk does not say which it is."""
    return min((str(Path.cwd()), tempfile.gettempdir()), key=lambda place: shutil.disk_usage(place).free)


def _kind(error: CdlError) -> str:
    return "refused" if isinstance(error, Refused) else "error"
