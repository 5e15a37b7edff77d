"""Runs one data step over the items of both sets, in one worker that holds exactly the step's closure.

An item that the version before worked with the same step identity (code, environment) and the same content and fields is
not worked again: its outcome is taken from there. The job held test items, so its log is sealed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cdl import document
from cdl.config.schema import Step
from cdl.errors import JobFailed
from cdl.jobs.closure import Closure
from cdl.jobs.environment import Environment
from cdl.jobs.job import Job
from cdl.jobs.local import Jobs, Worker
from cdl.journal import batch
from cdl.store.seal import Vault
from cdl.store.store import digest

BATCH = 64  # items in one message
LOOP = "cdl.data.worker:serve"


@dataclass(frozen=True)
class Content:
    """An item's bytes and fields."""

    data: bytes
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Rejected:
    """An item that a step set aside, with its reason."""

    item: Content
    reason: str


def key(vault: Vault, item: Content) -> str:
    """What an item is to a step: a keyed digest of its bytes and fields."""
    return vault.digest(document.canonical(dict(item.fields)) + b"\0" + item.data)


def process(
    jobs: Jobs,
    vault: Vault,
    *,
    step: Step,
    code: Closure,
    environment: Environment,
    items: Mapping[str, Content],
    known: Mapping[str, Content | Rejected],
) -> dict[str, Content | Rejected]:
    """The outcome of each item by id. `known` holds earlier outcomes by `key`. JobFailed when the code fails."""
    keys = {identity: key(vault, item) for identity, item in items.items()}
    fresh = [identity for identity, k in sorted(keys.items()) if k not in known]
    found = {identity: known[k] for identity, k in keys.items() if k in known}
    if not fresh:
        return found
    job = Job(
        loop=LOOP,
        closure=code,
        inputs={"items": vault.digest("\n".join(keys[i] for i in fresh).encode())},
        parameters={},
        environment=environment,
    )

    def drive(worker: Worker) -> Mapping[str, str]:
        worker.ask({"op": "open", "run": step.run})
        for start in range(0, len(fresh), BATCH):
            ids = fresh[start : start + BATCH]
            sent = [[items[i].data, dict(items[i].fields)] for i in ids]
            results = worker.ask({"op": "items", "items": sent})["results"]
            found.update(zip(ids, [_outcome(items[i], r) for i, r in zip(ids, results, strict=True)], strict=True))
        worker.tell({"op": "stop"})
        return {}

    jobs.run(job, drive, vault=vault, fresh=True)
    return found


def equal_values(
    jobs: Jobs, vault: Vault, *, by: str, code: Closure, environment: Environment, contents: list[bytes]
) -> list[bytes]:
    """What `split.by` gives for each content, in order."""
    values: list[bytes] = []
    inputs = {"items": vault.digest("\n".join(vault.digest(c) for c in contents).encode())}
    job = Job(loop=LOOP, closure=code, inputs=inputs, parameters={"by": by}, environment=environment)

    def drive(worker: Worker) -> Mapping[str, str]:
        values.extend(_asked(worker, by, contents))
        return {}

    jobs.run(job, drive, vault=vault, fresh=True)
    return values


def open_values(jobs: Jobs, *, by: str, code: Closure, environment: Environment, contents: list[bytes]) -> list[bytes]:
    """The same for items that are not sealed; the values are kept for the next time."""
    inputs = {"items": digest("\n".join(digest(c) for c in contents).encode())}
    job = Job(loop=LOOP, closure=code, inputs=inputs, parameters={"by": by}, environment=environment)

    def drive(worker: Worker) -> Mapping[str, str]:
        return {"values": jobs.store.put(batch.write({"value": _asked(worker, by, contents)}))}

    kept = jobs.run(job, drive).outputs["values"]
    return batch.read(jobs.store.get(kept), where=kept)["value"]


def _asked(worker: Worker, by: str, contents: list[bytes]) -> list[bytes]:
    worker.ask({"op": "open", "run": by})
    values: list[bytes] = []
    for start in range(0, len(contents), BATCH):
        values.extend(worker.ask({"op": "values", "items": contents[start : start + BATCH]})["values"])
    worker.tell({"op": "stop"})
    return values


def _outcome(item: Content, result: Any) -> Content | Rejected:
    if isinstance(result, dict):
        return Rejected(item, str(result["reject"]))
    if not (
        isinstance(result, list) and len(result) == 2 and isinstance(result[0], bytes) and isinstance(result[1], dict)
    ):
        raise JobFailed("a step gave neither bytes nor a rejection")
    try:
        document.canonical(result[1])
    except (TypeError, ValueError) as error:  # of NaN, of bytes, of keys that are no text: no tree could hold them
        raise JobFailed("a step gave a field that is no text, number, list or map of JSON") from error
    return Content(result[0], result[1])
