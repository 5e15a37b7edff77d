"""Scoring data: what services were asked and answered, taken off their folders into the store, sealed.

Requests may come back as items, and the key decides their side then; so they are sealed like test items from the start.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cdl.deployment.serve.scoring import FEEDBACK, SCORING, read
from cdl.deployment.stages import folder
from cdl.errors import Corrupt
from cdl.journal import batch
from cdl.journal.events import Event, record_event_id
from cdl.model.code import section
from cdl.model.source import model_record
from cdl.workflow.workspace import Workspace


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what was asked and answered; `error` is a class, `truth` came later."""

    id: str
    at: str
    input: bytes
    category: str
    confidence: float
    seconds: float
    error: str | None
    truth: str | None = None


def collect(workspace: Workspace, stage: str) -> int:
    """Moves whole files of a stage into the store; how many requests. Unavailable without the key of the model's dataset.

    A file that was kept and not removed, by a kill or by another process at the same time, is the same event again.
    """
    count = 0
    for path in sorted((folder(workspace, stage) / "scoring").glob("*.batch")):
        found = _read(path, SCORING)
        if found is None:
            continue
        model, columns = found
        kept = {name: list(columns[name]) for name in SCORING if name != "probabilities"}
        name = _vault(workspace, model).put(batch.write(kept))
        rows = len(kept["id"])
        _say(workspace, "scoring.collected", stage=stage, model=model, batch=name, rows=rows)
        path.unlink(missing_ok=True)
        count += rows
    for path in sorted((folder(workspace, stage) / "feedback").glob("*.batch")):
        found = _read(path, FEEDBACK)
        if found is None:
            continue
        model, columns = found
        name = _vault(workspace, model).put(batch.write({n: list(columns[n]) for n in FEEDBACK}))
        _say(workspace, "feedback.recorded", stage=stage, batch=name, rows=len(columns["id"]))
        path.unlink(missing_ok=True)
    return count


def waiting(workspace: Workspace, stage: str) -> bool:
    """Whether a stage has files that were not collected."""
    return any((folder(workspace, stage) / "scoring").glob("*.batch"))


def count(workspace: Workspace, stage: str, model: str) -> int:
    """How many requests that a model answered or refused at a stage were collected. Needs no key."""
    return sum(e.fields["rows"] for e in _collected(workspace, stage, model))


def _collected(workspace: Workspace, stage: str, model: str) -> list[Event]:
    found = workspace.journal.events("scoring.collected")
    return [e for e in found if e.fields["stage"] == stage and e.fields["model"] == model]


def rows(workspace: Workspace, stage: str, model: str) -> list[Row]:
    """Every collected request that a model answered at a stage, as they were collected. Needs the key.

    One that comes late, of another worker or by a clock that was set back, comes last: windows that were measured stay whole.
    """
    vault = _vault(workspace, model)
    truths: dict[str, str] = {}
    for event in workspace.journal.events("feedback.recorded"):
        if event.fields["stage"] == stage:
            columns = batch.read(vault.get(event.fields["batch"]), where="feedback")
            truths |= dict(zip(columns["id"], columns["truth"], strict=True))
    found = []
    for event in _collected(workspace, stage, model):
        columns = batch.read(vault.get(event.fields["batch"]), where="scoring")
        names = ("id", "at", "input", "category", "confidence", "seconds", "error")
        for values in zip(*(columns[n] for n in names), strict=True):
            found.append(Row(**dict(zip(names, values, strict=True)), truth=truths.get(values[0])))
    return found


def dataset_of(workspace: Workspace, model: str) -> str:
    """The name of the dataset that a registered model learned from."""
    record = model_record(workspace, model)
    return section(workspace, record.name, record.code["commit"]).data


def _vault(workspace: Workspace, model: str) -> Any:
    return workspace.vault(dataset_of(workspace, model), by="monitoring")


def _read(path: Path, columns: tuple[str, ...]) -> tuple[str, Mapping[str, list[Any]]] | None:
    """The model and columns of a file; None when another process took it."""
    try:
        model, found = read(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Corrupt(f"not a scoring file: {error}", where=path.name, remedy=f"remove {path}") from error
    missing = set(columns) - found.keys()
    if missing:
        raise Corrupt(f"no column {', '.join(sorted(missing))}", where=path.name, remedy=f"remove {path}")
    return model, found


def _say(workspace: Workspace, kind: str, **fields: Any) -> None:
    once = record_event_id(kind, f"{fields['stage']} {fields['batch']}")
    workspace.journal.append(kind, who=workspace.person.email, event_id=once, **fields)
