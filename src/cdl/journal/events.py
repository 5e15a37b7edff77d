"""What can happen: small typed events. They hold ids, numbers and enums, never an item's content.

    {"id":"v-6b1e...","kind":"dataset.versioned","stream":"c-71...","count":14,"who":"data@example.org",
     "at":"2026-11-23T09:12:44Z","cause":null,"fields":{"name":"articles","version":"d-3f2a..."}}

The id of an event about a record is a hash of its kind and the record's id, of one about a head a hash of kind, path,
old and new value, author and author time: the same for its maker and for everyone who pulls it. `at` is only shown.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.errors import ConfigError

ID_DIGITS = 32
LONGEST_TEXT = 200  # characters of one text field

# kind -> its fields and their types: str, int, float, list (of str), dict (of numbers); with '?' also None
KINDS: dict[str, dict[str, str]] = {
    "project.initialized": {},
    "decision.made": {"decision": "str", "gate": "str", "subject": "str", "verdict": "str"},
    "decision.refused": {"gate": "str", "subject": "str", "because": "str"},
    "request.opened": {"request": "str", "step": "str"},
    "request.answered": {"request": "str", "by": "str"},
    "review.stale": {"model": "str", "because": "str"},
    "job.finished": {"job": "str", "seconds": "float"},
    "sealed.opened": {"tree": "str", "by": "str", "items": "int"},
    "dataset.versioned": {"name": "str", "version": "str"},
    "dataset.ready": {"name": "str", "dataset": "str", "labels": "str"},
    "item.erased": {"dataset": "str", "item": "str", "objects": "int"},
    "labels.recorded": {"dataset": "str", "batch": "str", "count": "int", "by": "str"},
    "labels.released": {"name": "str", "version": "str", "dataset": "str"},
    "experiment.created": {"name": "str", "commit": "str"},
    "search.started": {"search": "str", "trials": "int"},
    "search.finished": {"search": "str", "best": "str?"},
    "trial.started": {"trial": "str", "config": "str"},
    "trial.finished": {"trial": "str", "result": "str"},
    "transformation.fitted": {"version": "str"},
    "model.registered": {"name": "str", "model": "str"},
    "model.evaluated": {"model": "str", "result": "str"},
    "model.compressed": {"name": "str", "model": "str"},
    "model.revised": {"model": "str", "original": "str", "result": "str"},
    "model.promoted": {"name": "str", "model": "str", "before": "str?"},
    "package.built": {"package": "str", "model": "str"},
    "deployment.applied": {"stage": "str", "package": "str", "before": "str?"},
    "prediction.made": {"model": "str", "rows": "int", "result": "str"},
    "scoring.collected": {"stage": "str", "model": "str", "batch": "str", "rows": "int"},
    "feedback.recorded": {"stage": "str", "batch": "str", "rows": "int"},
    "monitor.window": {"stage": "str", "model": "str", "window": "int", "measures": "dict"},
    "monitor.drift": {"stage": "str", "model": "str", "window": "int", "measures": "dict", "selected": "str?"},
    "monitor.alarm": {"stage": "str", "model": "str", "window": "int", "measure": "str"},
    "trigger.claimed": {"trigger": "str", "event": "str"},
    "trigger.finished": {"records": "list"},
}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `count` orders events; `cause` is the event that led to it."""

    id: str
    kind: str
    stream: str
    count: int
    who: str
    at: str
    cause: str | None = None
    fields: dict[str, Any] = {}


def record_event_id(kind: str, record: str) -> str:
    """The id of an event about a record."""
    return _named(["record", kind, record])


def head_event_id(kind: str, path: str, old: str | None, new: str, author: str, author_time: int) -> str:
    """The id of an event about a head that moved."""
    return _named(["head", kind, path, old, new, author, author_time])


def plain_event_id(stream: str, count: int, kind: str, fields: Mapping[str, Any]) -> str:
    """The id of an event about neither."""
    return _named(["plain", stream, count, kind, dict(fields)])


def check(kind: str, fields: Mapping[str, Any]) -> None:
    """ConfigError for an unknown kind, or for fields that the kind has not, or of another type."""
    if kind not in KINDS:
        raise ConfigError(f"no kind of event '{kind}'")
    wanted = KINDS[kind]
    if set(wanted) != set(fields):
        raise ConfigError(f"{kind} has the fields {sorted(wanted)}, not {sorted(fields)}")
    for name, value in fields.items():
        if not _fits(wanted[name], value):
            raise ConfigError(f"{kind}.{name} is {wanted[name]}, not {type(value).__name__}")


def _fits(wanted: str, value: Any) -> bool:
    if value is None:
        return wanted.endswith("?")
    match wanted.rstrip("?"):
        case "str":
            return isinstance(value, str) and len(value) <= LONGEST_TEXT
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "list":
            return isinstance(value, list) and all(_fits("str", v) for v in value)
    return isinstance(value, dict) and all(_fits("str", k) and _fits("float", v) for k, v in value.items())


def _named(parts: list[Any]) -> str:
    return "v-" + blake3(document.canonical(parts)).hexdigest()[:ID_DIGITS]
