"""Preprocessing: the transformation is fitted on the training part, after the validation split, and applied to both parts.

What was fitted once on the same items with the same code is loaded, not run: the job's identity says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3

from cdl.data.dataset import Dataset, dataset_record, training, validation_part
from cdl.errors import ConfigError
from cdl.jobs.closure import closure
from cdl.jobs.job import Job
from cdl.jobs.local import Worker
from cdl.model.arrays import array, array_bytes
from cdl.model.code import ModelCode
from cdl.registry.records import Transformation
from cdl.workflow.workspace import Workspace

LOOP = "cdl.model.trainer:serve"


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What a model learns from: a dataset version, a label snapshot, the share that validates, and the fields left out."""

    dataset: str
    labels: str
    validation: float
    mask: frozenset[str] = frozenset()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Learned":
        """What a model record says."""
        return cls(**{**data, "mask": frozenset(data.get("mask", ()))})

    def plain(self) -> dict[str, Any]:
        """As a record says it; a mask only where there is one."""
        found: dict[str, Any] = {"dataset": self.dataset, "labels": self.labels, "validation": self.validation}
        return found | ({"mask": sorted(self.mask)} if self.mask else {})


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Both parts as a model reads them: objects of npy arrays, and the transformation that made them.

    `differs`: what an equal fit had left otherwise, where it was run again.
    """

    arrays: Mapping[str, str]
    transformation: Transformation | None
    counts: Mapping[str, int]
    classes: tuple[str, ...]
    differs: Mapping[str, str] | None = None


def parts(workspace: Workspace, code: ModelCode, data: Learned) -> tuple[Dataset, Dataset]:
    """The labeled training items, split into training and validation part by the public key."""
    items = training(workspace, data.dataset, data.labels, mask=data.mask).labeled()
    if not len(items):
        raise ConfigError("no training item is labeled", where=data.dataset, remedy="cdl label next, cdl label release")
    record = dataset_record(workspace, data.dataset)
    validates = validation_part(workspace, record, items, data.validation, code.commit)
    first = items.take(i for i, v in enumerate(validates) if not v)
    second = items.take(i for i, v in enumerate(validates) if v)
    if not len(first) or not len(second):
        raise ConfigError(
            f"{len(first)} items train and {len(second)} validate",
            where="cdl.yaml: model.validation",
            remedy="collect more items, or another share",
        )
    return first, second


def prepare(workspace: Workspace, code: ModelCode, data: Learned) -> Prepared:
    """Fits or loads the transformation and gives both parts as arrays. JobFailed when its code fails."""
    first, second = parts(workspace, code, data)
    put = workspace.store.put
    arrays = {
        "training_labels": put(array_bytes(_places(first))),
        "validation_labels": put(array_bytes(_places(second))),
    }
    counts = {"training": len(first), "validation": len(second)}
    transform = code.config.transformation()
    if transform is None:
        arrays["training_inputs"] = put(array_bytes(_stacked(first)))
        arrays["validation_inputs"] = put(array_bytes(_stacked(second)))
        return Prepared(arrays=arrays, transformation=None, counts=counts, classes=first.classes)
    files = workspace.git.files(code.commit)
    declared = code.config.files
    own = closure(
        files,
        workspace.git.cat,
        [transform.run],
        declared=declared,
        section={"transform": transform.run, "lock": code.environment.lock},
    )
    job = Job(
        loop=LOOP,
        closure=own,
        inputs={"training": _digest(first.contents), "validation": _digest(second.contents)},
        parameters={"transform": transform.run, "parameters": dict(transform.parameters)},
        environment=code.environment,
    )

    def drive(worker: Worker) -> dict[str, str]:
        answer = worker.ask(
            {
                "op": "fit",
                "call": transform.run,
                "parameters": dict(transform.parameters),
                "training": list(first.contents),
                "validation": list(second.contents),
            }
        )
        return {
            "state": workspace.store.put_tree(answer["state"]),
            "training": put(answer["training"]),
            "validation": put(answer["validation"]),
        }

    done = workspace.jobs.run(job, drive)
    arrays["training_inputs"], arrays["validation_inputs"] = done.outputs["training"], done.outputs["validation"]
    record = Transformation(
        call=transform.run,
        code=own.id,
        parameters=dict(transform.parameters),
        fitted_on={"set": "train", "part": "training", **{k: v for k, v in data.plain().items() if k != "labels"}},
        state=done.outputs["state"],
    )
    return Prepared(arrays=arrays, transformation=record, counts=counts, classes=first.classes, differs=done.differs)


def _places(items: Dataset) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The place of each label in the classes."""
    at = {name: i for i, name in enumerate(items.classes)}
    return np.asarray([at[label] for label in items.labels if label is not None], dtype=np.int64)


def _stacked(items: Dataset) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    found = [array(c) for c in items.contents]
    if len({a.shape for a in found}) != 1:
        raise ConfigError(
            "items of different shapes need a transformation", where="cdl.yaml: model.transform", remedy="module:Class"
        )
    return np.stack(found).astype(np.float32)


def _digest(contents: Sequence[bytes]) -> str:
    return blake3(b"".join(blake3(c).digest() for c in contents)).hexdigest()
