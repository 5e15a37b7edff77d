"""Training: experiment, train, search, trial."""

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from cdl import document
from cdl.cli.output import confirmed, here, json_option, say, show, table
from cdl.errors import ConfigError
from cdl.model import compare as comparing
from cdl.model import experiment as experiments
from cdl.model import trials as kept
from cdl.model.steps import described, expected_cost
from cdl.model.train import train as train_once
from cdl.model.tune import search as search_for
from cdl.project import open_workspace
from cdl.workflow.workspace import Workspace, named


@click.group(invoke_without_command=True)
@click.pass_context
def experiment(ctx: click.Context) -> None:
    """Experiments are branches: create, list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_experiments)


@experiment.command()
@click.argument("name")
@click.option("--from", "start", metavar="REVISION", help="Where it begins; left out, here.")
@json_option
def create(name: str, start: str | None, as_json: bool) -> None:
    """Make and check out the branch exp/NAME."""
    branch = experiments.create(open_workspace(here(), tell=say), name, start=start)
    show({"branch": branch}, lambda: [f"on {branch}; next: cdl search or cdl train"], as_json=as_json)


@experiment.command("list")
@json_option
def list_experiments(as_json: bool = False) -> None:
    """The branches of experiments."""
    workspace = open_workspace(here(), tell=say)
    found, mine = experiments.experiments(workspace), experiments.here(workspace)
    lines = [f"{b}  {c[:12]}" + ("" if b in mine else "  of others: git switch " + b) for b, c in found.items()]
    show(found, lambda: lines or ["no experiment: cdl experiment create NAME"], as_json=as_json)


@click.command()
@click.option("--model", "name", help="The model, where there are several.")
@click.option("--set", "sets", metavar="K=V", multiple=True, help="A hyperparameter, for this trial.")
@click.option(
    "--config",
    "configs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A YAML file of them; each file is a trial.",
)
@click.option("--seed", type=int, help="What training is drawn with.")
@click.option("--epochs", type=int, help="Passes over the training part.")
@click.argument("command", nargs=-1)
@json_option
def train(
    name: str | None,
    sets: tuple[str, ...],
    configs: tuple[Path, ...],
    seed: int | None,
    epochs: int | None,
    command: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train once; or run an unchanged script as a trial: cdl train -- python train.py --lr 0.1"""
    workspace = open_workspace(here(), tell=say)
    model = named(workspace.config.model, "model", name)
    given = _sets(sets)
    found = [
        train_once(workspace, model, sets={**c, **given}, seed=seed, epochs=epochs, command=command or None)
        for c in ([_config(path) for path in configs] or [{}])
    ]
    show([msgspec.to_builtins(t) for t in found], lambda: [_line(t) for t in found], as_json=as_json)


@click.command()
@click.option("--model", "name", help="The model, where there are several.")
@click.option("--set", "sets", metavar="K=V", multiple=True, help="A setting of the search: max_trials=32.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def search(name: str | None, sets: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Search for hyperparameters as cdl.yaml describes it; goes on where a stopped search ended."""
    workspace = open_workspace(here(), tell=say)
    model = named(workspace.config.model, "model", name)
    section = workspace.config.model[model].search
    if section:
        say(f"plan: {described(section)} ({expected_cost(workspace, model, section)})")
    if not confirmed("Go on?", yes=yes):
        raise click.Abort
    found = search_for(workspace, model, changes=_sets(sets))
    total = sum(t.trained for t in found.trials)
    lines = [
        f"{found.id}: {len(found.trials)} trials, {total} epochs; best {_line(found.best)}",
        f"next: cdl trial list, cdl model register {found.best.id.partition('-')[0]}",
    ]
    value = {"search": found.id, "best": found.best.id, "trials": [msgspec.to_builtins(t) for t in found.trials]}
    show(value, lambda: lines, as_json=as_json)


@click.group(invoke_without_command=True)
@click.pass_context
def trial(ctx: click.Context) -> None:
    """Trials: list, show, compare, logs."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_trials)


@trial.command("list")
@click.option("--sort", metavar="MEASURE", help="Best first, for example validation.accuracy.")
@json_option
def list_trials(sort: str | None = None, as_json: bool = False) -> None:
    """Every trial with its measures."""
    rows = comparing.rows(kept.trials(open_workspace(here(), tell=say)), sort=sort)
    show(rows, lambda: table(rows, list(rows[0])) if rows else ["no trial: cdl train"], as_json=as_json)


@trial.command("show")
@click.argument("what")
@json_option
def show_trial(what: str, as_json: bool) -> None:
    """A trial in full."""
    plain = msgspec.to_builtins(kept.load(open_workspace(here(), tell=say), what))
    show(plain, lambda: document.write(plain).decode().splitlines(), as_json=as_json)


@trial.command()
@click.argument("what", nargs=-1, required=True)
@click.option("--plot", metavar="MEASURE", help="Also draw this measure over epochs.")
@click.option("--out", type=click.Path(path_type=Path), default=comparing.PICTURE, help="The picture.")
@json_option
def compare(what: tuple[str, ...], plot: str | None, out: Path, as_json: bool) -> None:
    """Trials side by side, with the hyperparameters that differ."""
    workspace = open_workspace(here(), tell=say)
    found = [kept.load(workspace, w) for w in what]
    rows = comparing.compare(workspace, found, plot=plot, out=out)
    lines = [*table(rows, list(rows[0])), *([f"drawn in {out}"] if plot else [])]
    show(rows, lambda: lines, as_json=as_json)


@trial.command()
@click.argument("what")
def logs(what: str) -> None:
    """What a trial printed."""
    workspace = open_workspace(here(), tell=say)
    found = kept.load(workspace, what)
    if found.error:
        say(f"{found.id} failed: {found.error}")
    show(None, lambda: _log(workspace, found.log), as_json=False)


def _log(workspace: Workspace, name: str | None) -> list[str]:
    if name is None:
        return ["no log: an equal trial ran before, and its result was taken"]
    return workspace.store.get(name).decode("utf-8", "replace").splitlines()


def _line(t: kept.Trial) -> str:
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in t.metrics.items())
    parameters = ", ".join(f"{k} {v}" for k, v in t.hyperparameters.items())
    return f"{t.id.partition('-')[0]}: {numbers or 'no measures'} after {t.trained} epochs ({parameters})"


def _sets(given: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"'{text}' is not K=V", where="--set", remedy="--set learning_rate=0.01")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _config(path: Path) -> dict[str, Any]:
    try:
        found = document.read(path.read_bytes(), where=str(path)).value
    except FileNotFoundError as error:
        raise ConfigError("there is no such file", where=str(path), remedy="a YAML file of hyperparameters") from error
    if not isinstance(found, dict):
        raise ConfigError("not a list of hyperparameters", where=str(path), remedy="learning_rate: 0.01")
    return found
