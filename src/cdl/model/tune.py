"""A search: trials side by side, as many as asked and as slots allow, driven by ask and tell.

Trials of torch are forked from one warmed template, so that each starts in milliseconds.
Paused trials go on from the checkpoint at which they were paused. What a killed search had trained stands in the cache, so the
same command goes on where it ended. A trial that fails is recorded and the search goes on.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from cdl import document
from cdl.config.schema import Search
from cdl.errors import CdlError, ConfigError, JobFailed
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.model.search import Halving, Task, from_config
from cdl.model.train import Plan, Trained, execute, failed, finished, plan, started
from cdl.model.trials import Trial, keep
from cdl.store.hold import holding
from cdl.store.reach import names
from cdl.workflow.workspace import Workspace

SEARCH_DIGITS = 8


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """A finished search: its id, its trials, and the best of them."""

    id: str
    trials: tuple[Trial, ...]
    best: Trial


def search(
    workspace: Workspace,
    name: str,
    *,
    changes: Mapping[str, Any] | None = None,
    base: Plan | None = None,
    cause: str | None = None,
) -> Searched:
    """Runs the search that cdl.yaml describes, with `changes` of its settings. ConfigError where it describes none.

    JobFailed when no trial reached an end.
    """
    what = base or plan(workspace, name)
    config = settings(what, name, changes or {})
    identity = _identity(what, config)
    halving = from_config(config, what.hyperparameters)
    workers = _workers(workspace, what, config)
    workspace.journal.append(
        "search.started", who=workspace.person.email, cause=cause, search=identity, trials=config.max_trials
    )
    whole = replace(what, epochs=config.max_epochs)
    with holding(workspace.folder, what.inputs().values()) as hold, workspace.jobs.warmed(workspace.tell) as jobs:
        run = _Run(workspace, whole, config, identity, cause, workers, hold)
        run.drive(halving, jobs)
        kept = tuple(keep(workspace, run.last[n], cause=cause) for n in sorted(run.last))
    best = halving.best()
    workspace.journal.append(
        "search.finished",
        who=workspace.person.email,
        cause=cause,
        search=identity,
        best=None if best is None else run.last[best].id,
    )
    if best is None:
        first = kept[0]
        raise JobFailed(f"no trial reached an end; the first: {first.error}", remedy=f"cdl trial logs {first.id}")
    return Searched(id=identity, trials=kept, best=run.last[best])


def settings(what: Plan, name: str, changes: Mapping[str, Any]) -> Search:
    """The search section with changes. ConfigError names an unknown or wrong one."""
    section = what.code.config.search
    if section is None:
        raise ConfigError("no search is described", where=f"cdl.yaml: model.{name}", remedy="search: {space: {...}}")
    try:
        return msgspec.convert({**msgspec.to_builtins(section), **changes}, Search)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), where=f"cdl.yaml: model.{name}.search") from error


class _Run:
    """The trials of one search in the making. Worker threads train; the caller's thread asks, tells and writes.

    What a trial left is told to `hold` until the search ends: no event names it before.
    """

    def __init__(
        self,
        workspace: Workspace,
        base: Plan,
        config: Search,
        identity: str,
        cause: str | None,
        workers: int,
        hold: Callable[[Iterable[str]], None],
    ) -> None:
        self.workspace = workspace
        self.base = base
        self.config = config
        self.identity = identity
        self.cause = cause
        self.workers = workers
        self.hold = hold
        self.last: dict[int, Trial] = {}
        self._local = threading.local()

    def drive(self, halving: Halving, jobs: Jobs) -> None:
        """Asks, trains and tells until nothing is left. When it is interrupted, what runs is ended."""
        running: dict[Future[Trained], Task] = {}
        with ThreadPoolExecutor(self.workers, thread_name_prefix="trial") as pool:
            try:
                while not halving.done or running:
                    while len(running) < self.workers and (task := halving.ask()) is not None:
                        running[pool.submit(self._train, jobs, self._plan(task))] = task
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        task = running.pop(future)
                        halving.tell(task, self._told(task, future))
            except BaseException:
                jobs.cancel()
                raise

    def _plan(self, task: Task) -> Plan:
        what = replace(
            self.base,
            hyperparameters=dict(task.hyperparameters),
            until=task.until,
            seed=self.base.seed + task.trial,
        )
        if task.trial not in self.last:
            self.hold([what.folder(self.workspace).name])
            self.last[task.trial] = started(self.workspace, what, search=self.identity, cause=self.cause)
        return what

    def _train(self, jobs: Jobs, what: Plan) -> Trained:
        if not hasattr(self._local, "jobs"):
            self._local.jobs = jobs.beside(Journal(self.workspace.folder))  # one a thread
        return execute(self.workspace, self._local.jobs, what)

    def _told(self, task: Task, future: "Future[Trained]") -> float | None:
        trial = self.last[task.trial]
        short = trial.id.partition("-")[0]
        try:
            done = future.result()
        except CdlError as error:
            self.last[task.trial] = failed(trial, error)
            self.workspace.tell(f"{short:<5} failed: {error.message}")
            return None
        status = "finished" if task.until == self.base.epochs else "paused"
        self.last[task.trial] = finished(trial, done, task.until, status)
        self.hold(names(msgspec.json.encode(self.last[task.trial])))
        value = done.metrics.get(self.config.metric)
        if value is None:
            self.last[task.trial] = msgspec.structs.replace(
                self.last[task.trial], status="failed", error=f"the trial reported no {self.config.metric}"
            )
            self.workspace.tell(f"{short:<5} failed: reported no {self.config.metric}")
            return None
        drawn = ", ".join(f"{k} {task.hyperparameters[k]}" for k in sorted(self.config.space))
        self.workspace.tell(f"{short:<5} epoch {task.until}: {self.config.metric} {value:.4f} ({drawn})")
        return value if self.config.mode == "max" else -value


def _workers(workspace: Workspace, what: Plan, config: Search) -> int:
    """How many trials run at a time. ConfigError when not even one fits this machine."""
    if config.workers < 1:
        raise ConfigError(
            f"{config.workers} trials at a time",
            where=f"cdl.yaml: model.{what.model}.search.workers",
            remedy="workers: 1",
        )
    fit = workspace.jobs.slots.most(what.need())
    if fit is None or fit >= config.workers:
        return config.workers
    workspace.tell(f"{fit} of {config.workers} workers: more do not fit what this machine has")
    return fit


def _identity(what: Plan, config: Search) -> str:
    content = {"job": what.job().id, "search": msgspec.to_builtins(config)}
    return "s-" + blake3(document.canonical(content)).hexdigest()[:SEARCH_DIGITS]
