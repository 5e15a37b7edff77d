"""How a registered model is brought into a process: its own source, its own weights, its own transformation.

Everything comes from the record: cdl.yaml and the closure from the commit it names, weights and state from the store.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cdl.errors import Corrupt, JobFailed, Unavailable
from cdl.jobs.job import Job
from cdl.jobs.local import Sealer, Worker
from cdl.model import predictor
from cdl.model.arrays import array, array_bytes
from cdl.model.code import ModelCode
from cdl.model.predictor import LIBRARIES
from cdl.model.runtime import probabilities
from cdl.model.source import source, transformation_of
from cdl.optional import require
from cdl.registry.records import Model
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace

BATCH = 256  # items in one message to a predictor
LOOP = "cdl.model.predictor:serve"
EXPECTED_WALLS = frozenset({"landlock", "seccomp", "no_new_privs", "limits"})
T = TypeVar("T")
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc", "/sys/devices", "/dev/null", "/dev/urandom")


def spec(model: Model, code: ModelCode) -> dict[str, Any]:
    """What `cdl.model.runtime.load` needs to know of a model."""
    config = code.config
    kind = "onnx" if model.output["format"] == "onnx" else "network" if config.network else "function"
    transform = config.transformation()
    return {
        "kind": kind,
        "call": config.network or config.predict,
        "hyperparameters": model.trial["hyperparameters"],
        "transform": transform.run if transform else None,
    }


def state_of(workspace: Workspace, model: Model) -> dict[str, bytes]:
    """The files of the transformation's state."""
    record = transformation_of(workspace, model)
    if record is None:
        return {}
    return workspace.store.tree(record.state).contents()


def readable() -> list[str]:
    """What a walled process may read beside its own folder: the interpreter, its libraries and the system's."""
    found = [p for p in (*SYSTEM, sys.prefix, sys.base_prefix, *sys.path) if p and Path(p).exists()]
    return sorted(set(found))


class Predictor:
    """A loaded model in a walled process. `walls` are those that stood."""

    def __init__(self, worker: Worker, model: Model, walls: list[str]) -> None:
        self._worker = worker
        self._model = model
        self.walls = walls

    def probabilities(self, items: Sequence[bytes]) -> NDArray[np.float64]:
        """Probabilities (n, classes) of item contents. JobFailed when the answer has not the declared form."""
        parts = [self._probabilities({"op": "predict", "items": list(b)}, len(b)) for b in _batches(items)]
        return np.concatenate(parts) if parts else np.zeros((0, self._classes))

    def of_inputs(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of inputs that are transformed already."""
        message = {"op": "forward", "inputs": array_bytes(inputs.astype(np.float32))}
        return self._probabilities(message, len(inputs))

    def inputs(self, items: Sequence[bytes]) -> NDArray[np.float32]:
        """What the transformation makes of items. JobFailed when that are not finite numbers for each."""
        return np.concatenate([self._inputs(batch) for batch in _batches(items)])

    def seconds(self, inputs: NDArray[Any], times: int) -> list[float]:
        """How long single predictions took."""
        message = {"op": "time", "inputs": array_bytes(inputs.astype(np.float32)), "times": times}
        return self._answer(message, lambda answer: [float(s) for s in answer["seconds"]])

    @property
    def _classes(self) -> int:
        return len(self._model.output["classes"])

    def _probabilities(self, message: dict[str, Any], count: int) -> NDArray[np.float64]:
        kind = self._model.output["kind"]
        return self._answer(message, lambda a: probabilities(array(a["outputs"]), kind, count, self._classes))

    def _inputs(self, items: Sequence[bytes]) -> NDArray[np.float32]:
        def read(answer: Mapping[str, Any]) -> NDArray[np.float32]:
            found = array(answer["inputs"]).astype(np.float32)
            if len(found) != len(items) or not np.isfinite(found).all():
                raise ValueError(f"{len(found)} inputs for {len(items)} items, or numbers that are not finite")
            return found

        return self._answer({"op": "transform", "items": list(items)}, read)

    def _answer(self, message: dict[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        """What is read in an answer. What is wrong with it is not told where it could quote a sealed item."""
        answer = self._worker.ask(message)
        try:
            return read(answer)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, Corrupt) as error:
            why = "" if self._worker.sealed else f": {error}"
            raise JobFailed(f"the model's answer has not the declared form{why}", where=self._model.name) from error


def with_predictor(
    workspace: Workspace, model: Model, use: Callable[[Predictor], None], *, vault: Sealer | None = None
) -> None:
    """Loads a model in a walled process and hands it to `use`. With a vault, everything it leaves is sealed.

    Unavailable without a package that it needs, or where isolation is required and a wall is missing; JobFailed when its
    code fails or does not answer.
    """
    code = source(workspace, model)
    require(*LIBRARIES[str(spec(model, code)["kind"])])
    job = Job(
        loop=LOOP,
        closure=code.closure,
        inputs={"weights": model.weights},
        parameters={"transformation": model.transformation},
        environment=code.environment,
    )

    def drive(worker: Worker) -> dict[str, str]:
        message = {
            "op": "load",
            "spec": spec(model, code),
            "weights": workspace.store.get(model.weights),
            "state": state_of(workspace, model),
            "read": readable(),
            "walled": True,
        }
        loaded = Predictor(worker, model, [str(w) for w in worker.ask(message)["walls"]])
        walls_stand(workspace, loaded.walls)
        worker.receive()  # what the walls are was said before the first line of the model's code ran
        use(loaded)
        worker.tell({"op": "stop"})
        return {}

    workspace.jobs.run(job, drive, vault=vault, fresh=True, timeout=predictor.SECONDS)


def walls_stand(workspace: Workspace, walls: Sequence[str]) -> None:
    """Unavailable where the policy requires isolation and a wall is missing."""
    wanted = (in_force(workspace).parts.get("evaluation") or {}).get("isolation")
    missing = EXPECTED_WALLS - set(walls)
    if wanted == "required" and missing:
        listed = ", ".join(sorted(missing))
        raise Unavailable(f"isolation is required and missing here: {listed}", remedy="evaluate on Linux")


def _batches(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
