"""What items are compared by: `split.by` over many contents, in one worker that holds exactly its closure."""

import itertools
from collections.abc import Iterable, Mapping

from cdl.data.workers.folders import FAULTS
from cdl.data.workers.hand import LOOP
from cdl.errors import JobFailed
from cdl.jobs.closure import Closure
from cdl.jobs.environment import Environment
from cdl.jobs.job import Job
from cdl.jobs.local import Jobs, Worker
from cdl.journal import batch
from cdl.store.seal import Vault
from cdl.store.store import digest

BATCH = 64  # items in one message


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
    if "broken" in worker.ask({"op": "open", "run": by, "values": True}):
        raise JobFailed(FAULTS["open"], where=f"split.by: {by}")
    values: list[bytes] = []
    left = iter(contents)
    while batch_ := list(itertools.islice(left, BATCH)):
        values.extend(worker.ask({"op": "items", "items": batch_})["values"])
    worker.tell({"op": "stop"})
    return values
