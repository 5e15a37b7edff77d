"""Runs one data step over the items of both sets, in one worker that holds exactly the step's closure.

An item that the version before worked with the same step identity (code, environment) and the same content and fields is
not worked again: its outcome is taken from there. The job held test items, so its log is sealed.
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
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
    name: str,
    step: Step,
    code: Closure,
    environment: Environment,
    items: Iterable[tuple[str, Content]],
    tell: Callable[[str], None] = print,
) -> Generator[tuple[str, Content | Rejected]]:
    """The outcome of each item, in the order given."""
    given = list(items)
    if not given:
        return
    found: list[tuple[str, Content | Rejected]] = []
    keys = [key(vault, item) for _, item in given]
    job = Job(
        loop=LOOP,
        closure=code,
        inputs={"items": vault.digest("\n".join(keys).encode())},
        parameters={},
        environment=environment,
    )

    def drive(worker: Worker) -> Mapping[str, str]:
        worker.ask({"op": "open", "run": step.run})
        for start in range(0, len(given), BATCH):
            part = given[start : start + BATCH]
            results = worker.ask({"op": "items", "items": [[i.data, dict(i.fields)] for _, i in part]})["results"]
            found.extend((n, _outcome(i, r)) for (n, i), r in zip(part, results, strict=True))
        worker.tell({"op": "stop"})
        return {}

    jobs.run(job, drive, vault=vault, fresh=True)
    yield from found


def equal_values(
    jobs: Jobs,
    vault: Vault,
    *,
    by: str,
    code: Closure,
    environment: Environment,
    contents: Iterable[bytes],
    inputs: str,
) -> list[bytes]:
    """What `split.by` gives for each content, in order; `inputs` is a digest that tells the contents together from others."""
    values: list[bytes] = []
    job = Job(loop=LOOP, closure=code, inputs={"items": inputs}, parameters={"by": by}, environment=environment)

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


def _asked(worker: Worker, by: str, contents: Iterable[bytes]) -> list[bytes]:
    worker.ask({"op": "open", "run": by})
    values: list[bytes] = []
    left = iter(contents)
    while batch_ := list(itertools.islice(left, BATCH)):
        values.extend(worker.ask({"op": "values", "items": batch_})["values"])
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
