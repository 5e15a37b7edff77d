"""Results of sealed evaluations as they stand: finding, reading and checking them needs no key and runs nothing.

A result is a signed object of the store, claimed under its key: model, test items, their labels, and what judged. Labels of
training items are in the same snapshot and do not matter to it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.config.schema import Evaluation as EvaluationConfig
from cdl.data.dataset import dataset_record, labels_record
from cdl.data.ready import released
from cdl.data.split import TEST
from cdl.errors import Corrupt, NotFound
from cdl.keys import verify
from cdl.model.source import model_record
from cdl.registry.records import Dataset, Labels, Model, key_path
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a model is evaluated on: test and labels of the integration branch."""

    dataset_id: str
    dataset: Dataset
    labels_id: str
    labels: Labels

    @property
    def truth(self) -> str:
        """A name for what the test items' labels come to: their rows and how these are resolved."""
        content = {
            "rows": self.labels.rows[TEST],
            "resolve": self.labels.resolve,
            "values": self.labels.values,
        }
        return blake3(document.canonical(content)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A result as stored: its object, its content, which evaluation of its test version it was, and how many are allowed."""

    object: str
    result: dict[str, Any]
    number: int
    limit: int

    def measures(self) -> dict[str, float]:
        """Every declared number by name."""
        return {name: float(found["value"]) for name, found in self.result["measures"].items()}


def target(workspace: Workspace, model: Model) -> Target:
    """Test and labels of the integration branch for a model's dataset; the model's own before anything was released there."""
    name = dataset_record(workspace, model.data["dataset"]).name
    try:
        dataset_id, labels_id = released(workspace, name, at=workspace.registry.tip())
    except NotFound:
        dataset_id, labels_id = model.data["dataset"], model.data["labels"]
    return Target(
        dataset_id=dataset_id,
        dataset=dataset_record(workspace, dataset_id),
        labels_id=labels_id,
        labels=labels_record(workspace, labels_id),
    )


def evaluator(workspace: Workspace, model: str, dataset: str) -> str:
    """The hash of what the policy in force judges a model by: its metrics and tests, masked fields, isolation.

    Requirements and roles are not part of it: they are held against a result when somebody decides.
    """
    policy = in_force(workspace)
    code = policy.document["code"]
    content = {
        "format": 1,
        "code": {name: code.get(name) for name in judging(workspace, model)},
        "mask": policy.parts.get("data", {}).get(dataset, {}).get("mask", []),
        "isolation": (policy.parts.get("evaluation") or {}).get("isolation"),
    }
    return blake3(document.canonical(content)).hexdigest()


def judging(workspace: Workspace, name: str) -> dict[str, str]:
    """The metrics and tests that the policy in force names for a model, by their name in its document."""
    asked = in_force(workspace).parts["model"].get(name, {})
    found = {f"metrics:{name}:{call}": call for call in asked.get("metrics", [])}
    return found | ({f"tests:{name}": asked["tests"]} if asked.get("tests") else {})


def result_key(workspace: Workspace, model_id: str, model: Model, on: Target) -> str:
    """The name under which a result is claimed."""
    judged_by = evaluator(workspace, model.name, on.dataset.name)
    key = {"model": model_id, "test": on.dataset.test, "truth": on.truth, "evaluator": judged_by}
    return "evaluations/" + blake3(document.canonical(key)).hexdigest()


def evaluated(workspace: Workspace, model_id: str) -> Evaluation | None:
    """The result of a model on the current test, when there is one. Needs no key."""
    model = model_record(workspace, model_id)
    taken = workspace.store.claimed(result_key(workspace, model_id, model, target(workspace, model)))
    return None if taken is None else read_result(workspace, taken.decode())


def last_evaluation(workspace: Workspace, model_id: str) -> Evaluation | None:
    """The result on the current test; else the last one on an earlier test. Needs no key."""
    return last_evaluations(workspace, [model_id])[model_id]


def last_evaluations(workspace: Workspace, models: Iterable[str]) -> dict[str, Evaluation | None]:
    """The same of each of some models."""
    told = {e.fields["model"]: e.fields["result"] for e in workspace.journal.events("model.evaluated")}

    def last(model: str) -> Evaluation | None:
        found = evaluated(workspace, model)
        return read_result(workspace, told[model]) if found is None and model in told else found

    return {model: last(model) for model in models}


def read_result(workspace: Workspace, identity: str) -> Evaluation:
    """A stored result by its object; Corrupt when its signature does not fit the public key on the integration branch."""
    result = json.loads(workspace.store.get(identity))
    check_signature(workspace, result)
    number = counted(workspace, result["test"]).index(identity) + 1
    return Evaluation(object=identity, result=result, number=number, limit=limit(workspace))


def counted(workspace: Workspace, test: str) -> list[str]:
    """The results that a test version has answered, in the order in which their makers counted them.

    Two clones that evaluated side by side gave the same number: their results stand one after the other, in all clones alike.
    """
    names = workspace.store.claims(f"counted/{test[2:]}")
    found = [(int(workspace.store.claimed(name) or b"0"), name.rsplit("/", 1)[-1]) for name in names]
    return [identity for _, identity in sorted(found)]


def limit(workspace: Workspace) -> int:
    """How many evaluations one test version may answer, as the policy in force says."""
    return msgspec.convert(in_force(workspace).parts.get("evaluation", {}), EvaluationConfig).evaluations


def check_signature(workspace: Workspace, result: dict[str, Any]) -> None:
    """Corrupt unless a result is signed with the evaluation key whose public half stands on the integration branch."""
    tip = workspace.registry.tip()
    name = dataset_record(workspace, result["dataset"]).name
    data = workspace.git.read(tip, key_path(name)) if tip else None
    public = document.read(data, where="registry/keys").value["evaluation"] if data else ""
    unsigned = {k: v for k, v in result.items() if k != "signature"}
    if not verify(public, document.canonical(unsigned), str(result.get("signature", ""))):
        raise Corrupt("the signature does not fit", where=f"evaluation on {name}", remedy="cdl ci check")


def compared(workspace: Workspace, first: Evaluation, second: Evaluation) -> dict[str, Any] | None:
    """The paired comparison of two results, with its object, where it was made already."""
    return claimed_result(workspace, comparison_key(first, second))


def claimed_result(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """The result that was claimed under a name, with its object; None when there is none. Corrupt as in `read_result`."""
    taken = workspace.store.claimed(name)
    if taken is None:
        return None
    result: dict[str, Any] = json.loads(workspace.store.get(taken.decode()))
    check_signature(workspace, result)
    return result | {"object": taken.decode()}


def comparison_key(first: Evaluation, second: Evaluation) -> str:
    """The name under which a comparison is claimed."""
    return f"comparisons/{first.object}/{second.object}"
