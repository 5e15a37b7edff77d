"""Sealed evaluation: a registered model on the test set of the integration branch. Only declared numbers leave.

A result is a signed object of the store, found by its key (model, test, truth, evaluator). The walled predictor holds the
model and sees inputs only; metrics and tests of the target branch run in another walled process; `cdl` itself compares
with the truth. Predictions of single items are kept sealed, so that two models can be compared item by item later.
"""

import ast
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdl import document
from cdl.data.dataset import Dataset, dataset_record, equal_items, sealed_test
from cdl.errors import JobFailed, Refused
from cdl.jobs.closure import closure
from cdl.jobs.environment import environment
from cdl.jobs.job import Job
from cdl.jobs.local import Worker
from cdl.journal.events import record_event_id
from cdl.model.arrays import array, array_bytes
from cdl.model.code import lock_bytes
from cdl.model.loading import Predictor, readable, with_predictor
from cdl.model.measures import classification, paired
from cdl.model.predictor import SECONDS
from cdl.model.results import (
    Evaluation,
    Target,
    claim_result,
    compared,
    comparison_key,
    counted,
    evaluated_on,
    evaluator,
    judging,
    limit,
    result_key,
    target,
)
from cdl.model.source import model_record
from cdl.registry.records import Model, short
from cdl.store.seal import Vault
from cdl.workflow.policy import require_code
from cdl.workflow.workspace import Workspace

JUDGE = "cdl.model.casework:serve"


def evaluate(workspace: Workspace, model_id: str, *, cause: str | None = None) -> Evaluation:
    """Evaluates a registered model on the current sealed test, or gives the result that stands.

    Unavailable without the key; Refused beyond the limit of evaluations, or when a training item equals a test item.
    """
    model = model_record(workspace, model_id)
    on = target(workspace, model)
    found = evaluated_on(workspace, model_id, model, on)
    if found is not None:
        return found
    workspace.signing(on.dataset.name)  # before anything is opened
    _within_limit(workspace, on)
    for called, entry in judging(workspace, model.name).items():
        require_code(workspace, called, entry)
    content = _judge(workspace, model_id, model, on)
    identity = signed(workspace, on.dataset.name, content)
    _count(workspace, on.dataset.test, identity)
    workspace.journal.append(
        "model.evaluated",
        who=workspace.person.email,
        cause=cause,
        event_id=record_event_id("model.evaluated", identity),
        model=model_id,
        result=identity,
    )
    name = result_key(workspace, model_id, model, on)
    claim_result(workspace, on.dataset.name, name, identity)  # at last: who finds it finds its number and its event too
    made = evaluated_on(workspace, model_id, model, on)
    assert made is not None
    return made


def compare(workspace: Workspace, first: Evaluation, second: Evaluation) -> dict[str, Any]:
    """`second` minus `first` on the same test items, paired; kept and signed. Needs the key the first time."""
    found = compared(workspace, first, second)
    if found is not None:
        return found
    if any(first.result[what] != second.result[what] for what in ("test", "truth")):
        raise Refused("two evaluations on different tests cannot be compared", remedy="cdl run evaluates again")
    dataset = dataset_record(workspace, second.result["dataset"])
    vault = workspace.vault(dataset.name, by="evaluation")
    kept = [array(vault.get(e.result["predictions"])) for e in (first, second)]
    truth = kept[0][:, 0].astype(np.int64)
    difference = paired(truth, *(k[:, 1:].argmax(axis=1).astype(np.int64) for k in kept))
    content = {"kind": "comparison", "first": first.object, "second": second.object, **difference}
    content |= {"dataset": second.result["dataset"]}
    claim_result(workspace, dataset.name, comparison_key(first, second), signed(workspace, dataset.name, content))
    made = compared(workspace, first, second)
    assert made is not None
    return made


def signed(workspace: Workspace, dataset: str, content: dict[str, Any]) -> str:
    """Signs a result with the dataset's evaluation key and stores it; its object. Unavailable without the key in use."""
    whole = content | {"signature": workspace.signing(dataset).sign(document.canonical(content))}
    return workspace.store.put(document.canonical(whole))


def _count(workspace: Workspace, test: str, identity: str) -> None:
    """Counts a result once; a killed command may have counted it already."""
    workspace.store.claim(f"counted/{test[2:]}/{identity}", str(len(counted(workspace, test)) + 1).encode())


def _within_limit(workspace: Workspace, on: Target) -> None:
    number, most = len(counted(workspace, on.dataset.test)), limit(workspace)
    if number >= most:
        raise Refused(
            f"{number} evaluations of this test version; {most} are allowed",
            remedy="the Model Validator may raise `evaluation: {evaluations: N}` in cdl.yaml and approve the policy",
        )


def _judge(workspace: Workspace, model_id: str, model: Model, on: Target) -> dict[str, Any]:
    """The unsigned content of a result."""
    if list(model.output["classes"]) != list(on.labels.values["classes"]):
        raise Refused("the model's classes are not those of the labels", remedy="train again on the released labels")
    vault = workspace.vault(on.dataset.name, by="evaluation")
    equal = equal_items(workspace, model.data["dataset"], on.dataset_id, vault)
    if any(equal.values()):
        raise Refused(f"training items of the model equal test items: {equal}", remedy="train on the current version")
    items = sealed_test(workspace, on.dataset_id, on.labels_id, vault)
    workspace.tell(f"evaluate  {short(model_id)} on {len(items)} sealed items, behind walls")
    truth = np.asarray([items.classes.index(label) for label in items.labels if label is not None], dtype=np.int64)
    found: dict[str, Any] = {}

    def use(predictor: Predictor) -> None:
        found["values"] = predictor.probabilities(items.contents)
        found["walls"] = predictor.walls
        found["judged"] = _cases(workspace, model, items, truth, predictor, found["values"], vault)

    with_predictor(workspace, model, use, vault=vault)
    values, judged = found["values"], found["judged"]
    report = classification(truth, values, items.classes)
    report["measures"] |= {f"test.{n}": {"value": round(v, 6)} for n, v in judged["metrics"].items()}
    kept = np.concatenate([truth[:, None].astype(np.float64), values], axis=1)
    return {
        "kind": "evaluation",
        "model": model_id,
        "test": on.dataset.test,
        "dataset": on.dataset_id,
        "labels": on.labels_id,
        "truth": on.truth,
        "evaluator": evaluator(workspace, model.name, on.dataset.name),
        "items": len(items),
        "equal_items": equal,
        **report,
        "tests": judged["tests"],
        "walls": found["walls"],
        "predictions": vault.put(array_bytes(kept)),
    }


def _cases(
    workspace: Workspace,
    model: Model,
    items: Dataset,
    truth: NDArray[np.int64],
    predictor: Predictor,
    values: NDArray[np.float64],
    vault: Vault,
) -> dict[str, Any]:
    """Metrics and test cases that the policy in force names: {metrics: {name: number}, tests: {name: pass | fail}}.

    Their code is that of the integration branch, and was approved with the policy.
    """
    asked = judging(workspace, model.name)
    if not asked:
        return {"metrics": {}, "tests": {}}
    tests = asked.get(f"tests:{model.name}")
    metrics = [entry for entry in asked.values() if entry != tests]
    tip = workspace.registry.tip() or workspace.git.head()
    files = workspace.git.files(tip)
    code = closure(files, workspace.git.cat, list(asked.values()), declared=(), section=None)
    names = _test_names(workspace, files, tests) if tests else []
    message = {
        "op": "judge",
        "metrics": {call.partition(":")[2]: call for call in metrics},
        "tests": tests.removesuffix(".py").replace("/", ".") if tests else None,
        "names": names,
        "items": list(items.contents),
        "truth": array_bytes(truth),
        "probabilities": array_bytes(values),
        "classes": list(items.classes),
        "read": readable(),
        "walled": True,
    }
    job = Job(
        loop=JUDGE,
        closure=code,
        inputs={"model": model.weights},
        parameters={"names": names},
        environment=environment(lock_bytes(workspace, tip)),
    )
    found: dict[str, Any] = {}

    def drive(worker: Worker) -> dict[str, str]:
        answer = worker.ask(message)
        while "predict" in answer:
            answer = worker.ask({"probabilities": array_bytes(predictor.probabilities(answer["predict"]))})
        found.update(_declared(answer, metrics, names))
        return {}

    workspace.jobs.run(job, drive, vault=vault, fresh=True, timeout=SECONDS)
    return found


def _declared(answer: dict[str, Any], metrics: list[str], names: list[str]) -> dict[str, Any]:
    """Exactly what was declared, and nothing else that a process may have sent."""
    wanted = [call.partition(":")[2] for call in metrics]
    try:
        numbers = {name: float(answer["metrics"][name]) for name in wanted}
        tests = {name: "pass" if answer["tests"][name] == "pass" else "fail" for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise JobFailed("the test cases gave not what was declared", where="evaluation") from error
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise JobFailed(f"metric {bad[0]} is not a finite number", where="evaluation")
    return {"metrics": numbers, "tests": tests}


def _test_names(workspace: Workspace, files: dict[str, str], path: str) -> list[str]:
    """The test functions of a file, read without running it."""
    tree = ast.parse(workspace.git.cat([files[path]])[files[path]], filename=path)
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
