"""Makes everything again that a package or a model names: data, labels, transformation, weights, compressed form, package.

No cache and no checkpoint is asked; what was made is compared with the record hash by hash, and nothing is committed.
"""

import json
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from cdl.data.dataset import dataset_record
from cdl.data.history.reproduce import Same, erased_from, reproduce_data, reproduce_labels
from cdl.deployment import package as packages
from cdl.deployment.compress import export
from cdl.deployment.stages import declared
from cdl.errors import NotFound
from cdl.model.source import model_record, source, transformation_of
from cdl.model.train import reproduce as train_again
from cdl.model.transform import Learned, Prepared, prepare
from cdl.registry.records import (
    Dataset,
    DatasetHead,
    DeploymentHead,
    Labels,
    LabelsHead,
    Model,
    ModelHead,
    Package,
    short,
)
from cdl.registry.registry import PRODUCTION
from cdl.store.tree import content_of
from cdl.workflow.workspace import Workspace


def reproduce(workspace: Workspace, what: str | None) -> list[Same]:
    """What a package, model, dataset, label snapshot or revision names, made again. NotFound where it names nothing."""
    alone = replace(workspace, jobs=workspace.jobs.with_empty_cache())
    found: list[Same] = []
    for identity in _named(workspace, what):
        record = workspace.registry.get(identity).record
        if isinstance(record, Package):
            found += _package(alone, identity, record)
        elif isinstance(record, Model):
            found += _model(alone, identity, record)
        elif isinstance(record, Labels):
            found.append(reproduce_labels(alone, identity))
        elif isinstance(record, Dataset):
            found += reproduce_data(alone, identity)
        else:
            kind = type(record).__name__.lower()
            raise NotFound(
                f"a {kind} is not made again", where=short(identity), remedy="a model, package, dataset or labels"
            )
    return list(dict.fromkeys(found))


def _named(workspace: Workspace, what: str | None) -> list[str]:
    """The package that a revision's stages name; else its promoted models; else its datasets and labels. Or the record itself."""
    if what is not None and workspace.git.resolve(what) is None:
        return [workspace.registry.get(what).id]
    registry = workspace.registry
    commit = workspace.git.resolve(what) if what else None
    if commit is None and what is None and (head := declared(workspace, PRODUCTION)) is not None:
        return [head.package]
    at = commit or registry.tip()
    stages = registry.heads(DeploymentHead, at=at)
    if stages:
        chosen = stages.get(PRODUCTION) or next(iter(stages.values()))
        return [chosen.package]
    models = [h.promoted for h in registry.heads(ModelHead, at=at).values()]
    datasets = [h.version for h in registry.heads(DatasetHead, at=at).values()]
    datasets += [h.version for h in registry.heads(LabelsHead, at=at).values()]
    if not models and not datasets:
        raise NotFound("nothing was made there yet", remedy="cdl run")
    return models or datasets


def _package(workspace: Workspace, identity: str, record: Package) -> list[Same]:
    model = model_record(workspace, record.model)
    found = _model(workspace, record.model, model)
    described = workspace.store.tree(record.tree).get("package.json")
    files = packages.contents(workspace, json.loads(described)["name"], record.model, model)
    tree = workspace.store.put_tree(files)
    return [*found, Same(what="package", name=short(identity), identical=_alike(workspace, tree, record.tree))]


def _alike(workspace: Workspace, *trees: str) -> bool:
    return len({content_of(workspace.store, tree) for tree in trees}) == 1


def _model(workspace: Workspace, identity: str, model: Model) -> list[Same]:
    origin = model.origin or {}
    if origin.get("by") in ("compression", "implementation"):
        before = model_record(workspace, origin["model"])
        found = _model(workspace, origin["model"], before)
        if origin["by"] == "implementation":
            return [*found, *_transformation(workspace, model, _prepared(workspace, model))]
        workspace.tell(f"again     compression of {short(origin['model'])}")
        made = export(workspace, origin["model"], before, origin["quantize"])
        what = f"weights, {origin['quantize'] or 'onnx'}"
        same = made.outputs["onnx"] == model.weights
        return [*found, Same(what=what, name=short(identity), identical=same, why=_left(made.differs))]
    name = dataset_record(workspace, model.data["dataset"]).name
    workspace.tell(f"again     data and labels {name} {short(model.data['dataset'])}")
    found = reproduce_data(workspace, model.data["dataset"])
    found.append(reproduce_labels(workspace, model.data["labels"]))
    if (why := erased_from(workspace, model.data["dataset"])) is not None:
        return [*found, Same(what="weights", name=short(identity), identical=None, why=why)]
    workspace.tell(f"again     transformation and training of {short(identity)}, without cache or checkpoint")
    found += _transformation(workspace, model, _prepared(workspace, model))
    again = train_again(workspace, model)
    same = again.weights == model.weights
    found.append(Same(what="weights", name=short(identity), identical=same, why=_left(again.differs)))
    return found


def _prepared(workspace: Workspace, model: Model) -> Prepared:
    code = source(workspace, model)
    return prepare(workspace, code, Learned.of(model.data))


def _transformation(workspace: Workspace, model: Model, made: Prepared) -> list[Same]:
    """The fitted transformation, where the model has one."""
    before = transformation_of(workspace, model)
    if made.transformation is None or before is None or model.transformation is None:
        return []
    same = made.transformation == msgspec.structs.replace(before, state=made.transformation.state)
    same = same and _alike(workspace, made.transformation.state, before.state)
    name = short(model.transformation)
    return [Same(what="transformation", name=name, identical=same, why=_left(made.differs))]


def _left(differs: Mapping[str, str] | None) -> str | None:
    """What an equal job had left otherwise, in words."""
    if not differs:
        return None
    return "an equal job had left other " + ", ".join(f"{name} ({left[:12]})" for name, left in sorted(differs.items()))
