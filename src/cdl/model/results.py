"""Results of sealed evaluations as they stand: finding, reading and checking them needs no key and runs nothing.

A result is a signed object of the store, claimed under its key: model, test items, their labels, and what judged. Labels of
training items are in the same snapshot and do not matter to it. Where the evaluation key was renewed, what the older one signed
counts only for decisions that named it; anything else is claimed again under the public half in use.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.config.schema import Evaluation as EvaluationConfig
from cdl.data.dataset import dataset_record, labels_record
from cdl.data.pipeline.split import TEST
from cdl.data.ready import released
from cdl.errors import Corrupt, NotFound
from cdl.keys import SIGNATURE
from cdl.model.source import model_record
from cdl.registry.keyfile import Validity
from cdl.registry.records import Dataset, Labels, Model
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace, same_person

SIGNER_DIGITS = 16  # hex digits of a public half that end a claim's name


class Target(msgspec.Struct, frozen=True, kw_only=True):
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


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
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
    return evaluated_on(workspace, model_id, model, target(workspace, model))


def evaluated_on(workspace: Workspace, model_id: str, model: Model, on: Target) -> Evaluation | None:
    """The result of a model on a test, when there is one that counts."""
    judged_by = evaluator(workspace, model.name, on.dataset.name)
    meant = {
        "kind": "evaluation",
        "model": model_id,
        "test": on.dataset.test,
        "truth": on.truth,
        "evaluator": judged_by,
    }
    found = claimed_result(workspace, on.dataset.name, result_key(workspace, model_id, model, on), meant)
    return None if found is None else read_result(workspace, found["object"])


def last_evaluation(workspace: Workspace, model_id: str) -> Evaluation | None:
    """The result on the current test; else the last one on an earlier test. Needs no key."""
    return last_evaluations(workspace, [model_id])[model_id]


def last_evaluations(workspace: Workspace, models: Iterable[str]) -> dict[str, Evaluation | None]:
    """The same of each of some models."""
    told = {e.fields["model"]: e.fields["result"] for e in workspace.journal.events("model.evaluated")}

    def last(model: str) -> Evaluation | None:
        found = evaluated(workspace, model)
        if found is not None or model not in told or outdated(workspace, told[model]):
            return found
        return read_result(workspace, told[model])

    return {model: last(model) for model in models}


def read_result(workspace: Workspace, identity: str) -> Evaluation:
    """A stored result by its object; Corrupt when its signature does not count on the integration branch."""
    result = json.loads(workspace.store.get(identity))
    if judge(workspace, identity, result) != "valid":
        raise _unsigned(workspace, result)
    number = counted(workspace, result["test"]).index(identity) + 1
    return Evaluation(object=identity, result=result, number=number, limit=limit(workspace))


def kept_result(workspace: Workspace, name: str) -> dict[str, Any]:
    """Any signed result by its object. NotFound where this clone has it not; Corrupt as in `read_result`."""
    result: dict[str, Any] = json.loads(workspace.store.get(name))
    if judge(workspace, name, result) != "valid":
        raise _unsigned(workspace, result)
    return result | {"object": name}


def outdated(workspace: Workspace, identity: str) -> bool:
    """Whether a result was signed with an older key and no decision named it by then; False for one that is not here."""
    if not workspace.store.has(identity):
        return False
    try:
        return judge(workspace, identity, json.loads(workspace.store.get(identity))) == "outdated"
    except NotFound:  # its dataset is on no branch here
        return False


def evaluation_waits(workspace: Workspace, dataset: str) -> str:
    """Who evaluates what this person registered."""
    if workspace.may_sign(dataset):
        return "evaluation waits: cdl run"
    others = [h for h in workspace.holders(dataset) if not same_person(h, workspace.person.email)]
    return f"evaluation waits for {' or '.join(others) or 'a holder of the key'}, who runs `cdl run`, or CI"


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


def judge(workspace: Workspace, identity: str, result: Mapping[str, Any]) -> Validity:
    """Whether the signature of a result counts, as the integration branch says."""
    file = workspace.key_file(dataset_record(workspace, result["dataset"]).name)
    if file is None:
        return "forged"
    return file.judge(identity, unsigned(result), str(result.get("signature", "")))


def unsigned(result: Mapping[str, Any]) -> bytes:
    """What the signature of a result is made of."""
    return document.canonical({k: v for k, v in result.items() if k != "signature"})


def _unsigned(workspace: Workspace, result: Mapping[str, Any]) -> Corrupt:
    name = dataset_record(workspace, result["dataset"]).name
    return Corrupt("the signature does not fit", where=f"evaluation on {name}", remedy="cdl ci check")


def compared(workspace: Workspace, first: Evaluation, second: Evaluation) -> dict[str, Any] | None:
    """The paired comparison of two results, with its object, where it was made already."""
    name = dataset_record(workspace, second.result["dataset"]).name
    meant = {"kind": "comparison", "first": first.object, "second": second.object}
    return claimed_result(workspace, name, comparison_key(first, second), meant)


def claimed_result(workspace: Workspace, dataset: str, name: str, meant: Mapping[str, str]) -> dict[str, Any] | None:
    """The result that was claimed under a name and counts, with its object; None when there is none.

    Corrupt for a forged one, and for one of another model or test that was put under this name: it says not what is `meant`.
    """
    for suffix in _signers(workspace, dataset):
        taken = workspace.store.claimed(name + suffix)
        if taken is None:
            continue
        identity = taken.decode()
        result: dict[str, Any] = json.loads(workspace.store.get(identity))
        found = judge(workspace, identity, result)
        if found == "forged":
            raise _unsigned(workspace, result)
        for what, value in meant.items():
            if result.get(what) != value:
                wrong = f"{identity[:12]} is of {what} {str(result.get(what))[:10]}, and was put there for {value[:10]}"
                raise Corrupt(wrong, where=name[:24], remedy="cdl ci check")
        if found == "valid":
            return result | {"object": identity}
    return None


def claim_result(workspace: Workspace, dataset: str, name: str, identity: str) -> None:
    """Claims a name for a result that was just signed; the first one stands."""
    workspace.store.claim(name + _signers(workspace, dataset)[0], identity.encode())


def comparison_key(first: Evaluation, second: Evaluation) -> str:
    """The name under which a comparison is claimed."""
    return f"comparisons/{first.object}/{second.object}"


def _signers(workspace: Workspace, dataset: str) -> list[str]:
    """What ends a claim's name for each evaluation key that there was, the one in use first; nothing for the first of all."""
    file = workspace.key_file(dataset)
    publics = file.publics if file else []
    return [*(f"-{public.removeprefix(SIGNATURE)[:SIGNER_DIGITS]}" for public in publics[:-1]), ""]
