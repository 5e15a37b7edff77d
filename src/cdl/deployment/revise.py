"""Revision: the changed model is tested again, sealed, and compared with its original on accuracy, size and latency.

Latency is that of single predictions on one thread with validation inputs: the median of five 95th percentiles, with the
machine recorded; a slow model is timed with fewer. The revision gate is the Model Validator's.
"""

import os
import platform
import statistics
from pathlib import Path
from typing import Any

from cdl.data.dataset import dataset_record
from cdl.deployment.gates import revised, revision_key
from cdl.deployment.validation import validation
from cdl.model.arrays import array
from cdl.model.current import original
from cdl.model.evaluate import compare, evaluate, signed
from cdl.model.loading import Predictor, with_predictor
from cdl.model.results import claim_result
from cdl.model.source import model_record
from cdl.registry.records import Model, short
from cdl.workflow.workspace import Workspace

ROUNDS = 5
PREDICTIONS = 200  # single ones, a round
FEWEST = 20
ROUND_SECONDS = 1.0
WARM = 20


def revise(workspace: Workspace, model_id: str, *, cause: str | None = None) -> dict[str, Any]:
    """Tests a changed model and its original, times both, and keeps the result; what stands already is given.

    Unavailable without the key.
    """
    found = revised(workspace, model_id)
    if found is not None:
        return found
    before = original(workspace, model_id)
    workspace.tell(f"revision  {short(model_id)} against {short(before)}: sealed test, size, latency")
    first, second = evaluate(workspace, before, cause=cause), evaluate(workspace, model_id, cause=cause)
    difference = compare(workspace, first, second)
    model, source = model_record(workspace, model_id), model_record(workspace, before)
    content = {
        "kind": "revision",
        "model": model_id,
        "original": before,
        "dataset": second.result["dataset"],
        "evaluations": {"original": first.object, "model": second.object},
        "comparison": difference["object"],
        "accuracy": [first.measures()["test.accuracy"], second.measures()["test.accuracy"]],
        "difference": [difference["difference"], *difference["interval"]],
        "size": [len(workspace.store.view(m.weights)) for m in (source, model)],
        "latency_p95": latencies(workspace, source, model),
        "machine": machine(),
    }
    name = dataset_record(workspace, second.result["dataset"]).name
    identity = signed(workspace, name, content)
    claim_result(workspace, name, revision_key(model_id, first, second), identity)
    workspace.journal.append(
        "model.revised", who=workspace.person.email, cause=cause, model=model_id, original=before, result=identity
    )
    made = revised(workspace, model_id)
    assert made is not None
    return made


def latencies(workspace: Workspace, source: Model, model: Model) -> list[float]:
    """Seconds of a single prediction, of the original and of the model; measured once where they are one."""
    first = latency(workspace, source)
    return [first, first if model == source else latency(workspace, model)]


def latency(workspace: Workspace, model: Model) -> float:
    """Seconds of a single prediction: the median of ROUNDS 95th percentiles."""
    inputs = array(workspace.store.get(validation(workspace, model).arrays["validation_inputs"]))
    found: list[float] = []

    def use(predictor: Predictor) -> None:
        about = statistics.median(predictor.seconds(inputs, WARM))
        count = int(min(PREDICTIONS, max(FEWEST, ROUND_SECONDS / max(about, 1e-9))))
        for _ in range(ROUNDS):
            taken = sorted(predictor.seconds(inputs, count))
            found.append(taken[int(0.95 * (len(taken) - 1))])

    with_predictor(workspace, model, use)
    return round(statistics.median(found), 7)


def machine() -> dict[str, Any]:
    """Where latency was measured."""
    info = Path("/proc/cpuinfo")
    lines_ = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines_ if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "threads": 1}
