"""One training: code, data and parameters in; weights, metrics, log and checkpoints out, kept without the author's doing.

A run that was stopped goes on from its last checkpoint, with the same weights in the end as if it had not been. What was
trained before with the same code, data, parameters, threads and device is not trained again.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from cdl import document
from cdl.data.dataset import mask_in_force
from cdl.data.ready import released
from cdl.errors import CdlError, ConfigError, JobFailed
from cdl.jobs.job import Job
from cdl.jobs.local import LOG, Jobs, Worker
from cdl.jobs.slots import Need
from cdl.model import script, warm
from cdl.model.code import ModelCode, model_code
from cdl.model.code import keep as keep_code
from cdl.model.pretrained import pretrained
from cdl.model.progress import Progress
from cdl.model.transform import LOOP, Learned, Prepared, prepare
from cdl.model.trials import Trial, keep, new_id, points_batch
from cdl.optional import require
from cdl.registry.records import DatasetHead, Model, short
from cdl.store.hold import holding
from cdl.workflow.workspace import Workspace


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One training, ready to run. `until` of `epochs` are done now."""

    model: str
    code: ModelCode
    prepared: Prepared
    data: Learned
    hyperparameters: Mapping[str, Any]
    epochs: int
    until: int
    seed: int
    threads: int = 1
    device: str = "cpu"
    pretrained: str | None = None

    def job(self) -> Job:
        """What identifies it."""
        parameters = {
            "hyperparameters": dict(self.hyperparameters),
            "epochs": self.epochs,
            "until": self.until,
            "seed": self.seed,
            "train": self.code.train,
            "network": self.code.config.network,
            "classes": list(self.prepared.classes),
        }
        own = isinstance(self.code.train, str)  # a function, called in the worker itself
        return Job(
            loop=LOOP if own else script.LOOP,
            closure=self.code.closure,
            inputs=self.inputs(),
            parameters=parameters,
            environment=self.code.environment,
            threads=self.threads,
            device=self.device,
            need=self.need(),
            warm=warm.STEP if own and self.code.config.network and self.device == "cpu" else None,
        )

    def need(self) -> Need:
        """The slots that it takes while it trains."""
        asked = self.code.config.resources
        return Need(cpus=asked.cpus, gpus=asked.gpus, key=f"cdl.yaml: model.{self.model}.resources")

    def inputs(self) -> dict[str, str]:
        """The objects that it reads."""
        return {**self.prepared.arrays, **({"pretrained": self.pretrained} if self.pretrained else {})}

    def packages(self) -> tuple[str, ...]:
        """The optional packages that it needs; a script brings its own."""
        if not isinstance(self.code.train, str):
            return ()
        return ("torch", "safetensors") if self.code.config.network else ("safetensors",)

    def folder(self, workspace: Workspace) -> Path:
        """Where its checkpoints and points are noted, whatever `until` is."""
        return workspace.folder / "trials" / replace(self, until=self.epochs).job().id[:32]


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What a training left: objects by name, its last measures, and whether an equal one had left something else."""

    weights: str
    checkpoint: str
    points: str
    metrics: dict[str, float]
    log: str | None
    seconds: float
    job: str
    format: str
    differs: Mapping[str, str] | None
    cached: bool


def plan(
    workspace: Workspace,
    name: str,
    *,
    sets: Mapping[str, Any] | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    commit: str | None = None,
    data: tuple[str, str] | None = None,
    mask: frozenset[str] | None = None,
    command: Sequence[str] | None = None,
) -> Plan:
    """A training of a model as cdl.yaml says it, on the dataset's current version, with some hyperparameters set.

    `data` names other versions of data and labels, `mask` other fields that it does not see than those in force.
    NotFound without data or labels; ConfigError for a hyperparameter that cdl.yaml does not name.
    """
    code = model_code(workspace, name, commit, script=command)
    keep_code(workspace, code)
    dataset, labels = data or released(workspace, code.config.data)
    now = workspace.registry.head(DatasetHead, code.config.data)
    if data is None and now is not None and now.version != dataset:
        workspace.tell(f"trains on {short(dataset)}: {short(now.version)} is newer, and has no released labels yet")
    given = check_sets(code, sets or {})
    learned = Learned(
        dataset=dataset,
        labels=labels,
        validation=code.config.validation,
        mask=mask_in_force(workspace, code.config.data) if mask is None else mask,
    )
    total = code.config.epochs if epochs is None else epochs
    return Plan(
        model=name,
        code=code,
        prepared=prepare(workspace, code, learned),
        data=learned,
        hyperparameters={**code.config.hyperparameters, **given},
        epochs=total,
        until=total,
        seed=code.config.seed if seed is None else seed,
        threads=code.config.threads,
        device="cuda" if code.config.resources.gpus else "cpu",
        pretrained=pretrained(workspace, code),
    )


def check_sets(code: ModelCode, sets: Mapping[str, Any]) -> Mapping[str, Any]:
    """ConfigError, with the nearest name, for a hyperparameter that the model does not have, or that no record can hold."""
    known = set(code.config.hyperparameters) | (set(code.config.search.space) if code.config.search else set())
    for name in sets:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            remedy = f"did you mean '{near[0]}'?" if near else "there are: " + ", ".join(sorted(known))
            raise ConfigError(f"no hyperparameter '{name}'", where="cdl.yaml", remedy=remedy)
    for name, value in {**code.config.hyperparameters, **sets}.items():
        try:
            document.canonical(value)
            msgspec.msgpack.encode(value)
        except (OverflowError, TypeError, ValueError) as error:
            wrong = f"hyperparameter '{name}' is no number that can be kept: {error}"
            raise ConfigError(
                wrong, where="cdl.yaml or --set", remedy="a finite number of at most 64 bits, or text"
            ) from error
    return sets


def execute(
    workspace: Workspace,
    jobs: Jobs,
    what: Plan,
    *,
    fresh: bool = False,
    told: Callable[[Mapping[str, float]], None] = lambda report: None,
) -> Trained:
    """Trains, from the last checkpoint where there is one.

    JobFailed when the code raises or a measure is not finite, Unavailable without a package that it needs.

    It waits for the slots that cdl.yaml asks for, and says so when that takes long.
    `fresh` asks neither cache nor checkpoints, and compares afterwards.
    """
    require(*what.packages())
    job = what.job()
    progress = Progress(what.folder(workspace), workspace.store, what.until, fresh=fresh)

    def run_script(worker: Worker) -> dict[str, str]:
        made = script.run(worker, _message(workspace, what, None), lambda report: told(progress.report(report)))
        weights = workspace.store.put(made.weights)
        return {"weights": weights, "checkpoint": weights, "format": made.format, **kept()}

    def kept() -> dict[str, str]:
        put = workspace.store.put
        return {
            "points": put(points_batch(progress.reports)),
            "metrics": put(json.dumps(progress.metrics, sort_keys=True).encode()),
        }

    def drive(worker: Worker) -> dict[str, str]:
        worker.tell(_message(workspace, what, progress.start))
        while "done" not in (message := worker.receive()):
            if "report" in message:
                told(progress.report(message["report"]))
            else:
                progress.save(message["epoch"], message["save"])
                worker.tell({"stop": message["epoch"] >= what.until})
        if progress.checkpoint is None:
            raise JobFailed("the training saved no checkpoint", remedy="context.loop(model=...)")
        weights = workspace.store.put(message["done"])
        return {"weights": weights, "checkpoint": progress.checkpoint, "format": "safetensors", **kept()}

    drives = drive if isinstance(what.code.train, str) else run_script
    with holding(workspace.folder, [progress.folder.name]):
        done = jobs.run(job, drives, fresh=fresh, tell=workspace.tell)
    return Trained(
        weights=done.outputs["weights"],
        checkpoint=done.outputs["checkpoint"],
        points=done.outputs["points"],
        metrics=json.loads(workspace.store.get(done.outputs["metrics"])),
        log=done.log,
        seconds=done.seconds,
        job=job.id,
        format=done.outputs["format"],
        differs=done.differs,
        cached=done.cached,
    )


def train(
    workspace: Workspace,
    name: str,
    *,
    sets: Mapping[str, Any] | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    commit: str | None = None,
    data: tuple[str, str] | None = None,
    command: Sequence[str] | None = None,
    cause: str | None = None,
) -> Trial:
    """Trains a model once and keeps the trial, also when it fails (then JobFailed is raised as well).

    ConfigError, and no trial, when cdl.yaml asks for more than this machine has.
    `command` is an unchanged script with its arguments, instead of what cdl.yaml says.
    """
    what = plan(workspace, name, sets=sets, seed=seed, epochs=epochs, commit=commit, data=data, command=command)
    workspace.jobs.slots.check(what.need())
    trial = started(workspace, what, cause=cause)
    say = teller(workspace, trial.id, what.epochs)
    try:
        done = execute(workspace, workspace.jobs, what, told=say)
    except CdlError as error:
        keep(workspace, failed(trial, error), cause=cause)
        if isinstance(error, JobFailed):
            error.remedy = f"cdl trial logs {trial.id.partition('-')[0]}"
        raise
    return keep(workspace, finished(trial, done, what.until, "finished"), cause=cause)


def started(workspace: Workspace, what: Plan, *, search: str | None = None, cause: str | None = None) -> Trial:
    """A trial that begins now, with a new id; the journal is told."""
    record = what.prepared.transformation
    trial = Trial(
        id=new_id(workspace),
        model=what.model,
        status="running",
        search=search,
        hyperparameters=dict(what.hyperparameters),
        epochs=what.epochs,
        trained=0,
        seed=what.seed,
        threads=what.threads,
        device=what.device,
        data=what.data.plain(),
        code={"commit": what.code.commit, "tree": what.code.tree, "closure": what.code.closure.id},
        environment=msgspec.to_builtins(what.code.environment),
        transformation=msgspec.to_builtins(record) if record else None,
        output={
            "format": "safetensors",
            "kind": "logits" if what.code.config.network else "probabilities",
            "classes": list(what.prepared.classes),
        },
        script=None if isinstance(what.code.train, str) else list(what.code.train),
        branch=workspace.git.branch() if what.code.taken else None,
    )
    config = workspace.store.put(msgspec.json.encode(trial, order="sorted"))
    workspace.journal.append("trial.started", who=workspace.person.email, cause=cause, trial=trial.id, config=config)
    return trial


def finished(trial: Trial, done: Trained, trained: int, status: str) -> Trial:
    """The trial with what came of it."""
    return msgspec.structs.replace(
        trial,
        status=status,
        trained=trained,
        metrics=done.metrics,
        points=done.points,
        checkpoint=done.checkpoint,
        weights=done.weights,
        log=done.log or trial.log,
        seconds=trial.seconds + done.seconds,
        output={**trial.output, "format": done.format},
        job=done.job,
    )


def failed(trial: Trial, error: CdlError) -> Trial:
    """The trial with its error; the log is the object that the error names."""
    kept = (error.remedy or "").partition(LOG)[2]
    text = f"{error.where}: {error.message}" if error.where else error.message
    return msgspec.structs.replace(trial, status="failed", error=text, log=kept or None)


def reproduce(workspace: Workspace, model: Model) -> Trained:
    """Trains the trial of a model record alone, with neither cache nor checkpoint, and compares afterwards."""
    trial = model.trial
    alone = replace(workspace, jobs=workspace.jobs.with_empty_cache())
    what = plan(
        alone,
        model.name,
        seed=trial["seed"],
        epochs=trial["planned"],
        commit=model.code["commit"],
        data=(model.data["dataset"], model.data["labels"]),
        mask=frozenset(model.data.get("mask", ())),
        command=trial.get("script"),
    )
    what = replace(what, hyperparameters=trial["hyperparameters"], until=trial["epochs"], threads=trial["threads"])
    return execute(alone, alone.jobs, what, fresh=True, told=teller(workspace, "again", what.epochs))


def teller(workspace: Workspace, name: str, epochs: int) -> Callable[[Mapping[str, float]], None]:
    """Progress of a trial, one line a report."""

    def say(report: Mapping[str, float]) -> None:
        numbers = ", ".join(f"{k} {v:.4g}" for k, v in report.items() if k != "epoch")
        workspace.tell(f"{name.partition('-')[0]:<5} epoch {int(report['epoch'])}/{epochs}: {numbers}")

    return say


def _message(workspace: Workspace, what: Plan, start: bytes | None) -> dict[str, Any]:
    paths = {name: str(workspace.store.path(oid)) for name, oid in what.inputs().items()}
    return {
        "op": "train",
        "call": what.code.train,
        "network": what.code.config.network,
        "hyperparameters": dict(what.hyperparameters),
        "classes": list(what.prepared.classes),
        "epochs": what.epochs,
        "until": what.until,
        "seed": what.seed,
        "threads": what.threads,
        "device": what.device,
        "start": start,
        "paths": paths,
    }
