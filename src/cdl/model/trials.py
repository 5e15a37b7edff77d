"""Trials: one training each, with everything that is needed to do it again. Kept as an object; an event names it.

An id like e12-7f3a is unique in every clone; people type e12.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cdl.errors import Conflict, Corrupt, NotFound
from cdl.journal import batch
from cdl.journal.stream import own_stream
from cdl.registry.records import Transformation, encode
from cdl.workflow.workspace import Workspace

STREAM_DIGITS = 4  # of the clone's stream, in a trial's id


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A training and what came of it.

    status: finished, paused (a search went on without it), failed. `epochs` were planned, `trained` were done.
    `points` is a batch of every report, `checkpoint` and `weights` are objects, `transformation` a record's content.
    `branch` is the one whose work tree was trained; None for a commit that a trigger trained.
    """

    id: str
    model: str
    status: str
    search: str | None = None
    hyperparameters: dict[str, Any] = {}
    epochs: int
    trained: int
    seed: int
    threads: int = 1
    device: str = "cpu"
    data: dict[str, Any]
    code: dict[str, Any]
    environment: dict[str, Any]
    transformation: dict[str, Any] | None = None
    metrics: dict[str, float] = {}
    points: str | None = None
    checkpoint: str | None = None
    weights: str | None = None
    output: dict[str, Any] = {}
    log: str | None = None
    error: str | None = None
    seconds: float = 0.0
    job: str | None = None
    script: list[str] | None = None
    branch: str | None = None

    def transformation_record(self) -> Transformation | None:
        """The transformation as a record."""
        return None if self.transformation is None else msgspec.convert(self.transformation, Transformation)

    def transformation_id(self) -> str | None:
        """The id of that record."""
        record = self.transformation_record()
        return None if record is None else encode(record)[0]


def new_id(workspace: Workspace) -> str:
    """Takes the next trial id of this clone; after those that the journal knows, should the store be lost."""
    stream = own_stream(workspace.folder).removeprefix("c-")[:STREAM_DIGITS]
    taken = [int(name.rsplit("/", 1)[-1]) for name in workspace.store.claims(f"trials/{stream}")]
    if not taken:  # the first one here, or the store is another: then the journal is asked, once
        kinds = ("trial.started", "trial.finished")
        told = {e.fields["trial"] for kind in kinds for e in workspace.journal.events(kind)}
        taken = [int(t[1:].partition("-")[0]) for t in told if t.endswith(f"-{stream}")]
    number = max(taken, default=0) + 1
    while not workspace.store.claim(f"trials/{stream}/{number}", b""):
        number += 1
    return f"e{number}-{stream}"


def keep(workspace: Workspace, trial: Trial, *, cause: str | None = None) -> Trial:
    """Writes a trial's result and tells the journal."""
    name = workspace.store.put(msgspec.json.encode(trial, order="sorted"))
    workspace.journal.append("trial.finished", who=workspace.person.email, cause=cause, trial=trial.id, result=name)
    return trial


def trials(workspace: Workspace) -> list[Trial]:
    """Every trial as it last stood, in the order of their starts. NotFound where the result of one is not in this clone."""
    return [_read(workspace, result) for result in _last(workspace).values()]


def readable(workspace: Workspace) -> tuple[list[Trial], list[str]]:
    """The trials whose results are in this clone, and the ids of the others: for pages, which show what there is."""
    last = _last(workspace)
    here = {trial: workspace.store.has(result) for trial, result in last.items()}
    return [_read(workspace, result) for trial, result in last.items() if here[trial]], [t for t in last if not here[t]]


def labels(found: Iterable[str]) -> dict[str, str]:
    """What to call each of some trials by its id: e12, or e12-7f3a where two clones have one of that number."""
    ids = list(found)
    numbers = Counter(i.partition("-")[0] for i in ids)
    return {i: i if numbers[i.partition("-")[0]] > 1 else i.partition("-")[0] for i in ids}


def load(workspace: Workspace, what: str) -> Trial:
    """The trial that WHAT names: e12, or e12-7f3a where two clones have one. NotFound, Conflict."""
    last = _last(workspace)
    found = [t for t in last if t == what or t.partition("-")[0] == what]
    mine = own_stream(workspace.folder).removeprefix("c-")[:STREAM_DIGITS]
    found = [t for t in found if t.endswith(f"-{mine}")] or found  # a bare number means this clone's
    if not found:
        raise NotFound(f"no trial {what}", remedy="cdl trial list")
    if len(found) > 1:
        raise Conflict(f"{what} is short for {len(found)} trials", remedy="type it whole: " + ", ".join(found))
    return _read(workspace, last[found[0]])


def points(workspace: Workspace, trial: Trial) -> dict[str, list[tuple[float, float]]]:
    """The curve of each measure: (epoch, value)."""
    if trial.points is None:
        return {}
    columns = batch.read(workspace.store.get(trial.points), where=trial.id)
    epochs = columns.pop("epoch", [])
    return {
        name: [(float(e), float(v)) for e, v in zip(epochs, values, strict=True) if v is not None]
        for name, values in sorted(columns.items())
    }


def points_batch(reports: list[Mapping[str, float]]) -> bytes:
    """Reports as columns; a measure that one does not name is null there."""
    names = sorted({name for report in reports for name in report})
    return batch.write({name: [report.get(name) for report in reports] for name in names})


def _last(workspace: Workspace) -> dict[str, str]:
    """The last result of each trial."""
    return {e.fields["trial"]: e.fields["result"] for e in workspace.journal.events("trial.finished")}


def _read(workspace: Workspace, name: str) -> Trial:
    try:
        return msgspec.json.decode(workspace.store.get(name), type=Trial)
    except msgspec.DecodeError as error:
        raise Corrupt(f"not a trial: {error}", where=name[:12], remedy="cdl store verify") from error
