"""Makes everything again that a package or a model names, backwards: package, compressed form, weights, transformation, data.

No cache and no checkpoint is asked; what was made is compared with the record hash by hash, and nothing is committed.
"""

from cdl.data.dataset import dataset_record
from cdl.data.reproduce import Same, reproduce_data
from cdl.deployment import package as packages
from cdl.deployment.apply import package_record
from cdl.deployment.compress import export
from cdl.deployment.stages import declared
from cdl.errors import NotFound
from cdl.model.current import PRODUCTION
from cdl.model.source import model_record, source
from cdl.model.train import reproduce as train_again
from cdl.model.transform import prepare
from cdl.registry.records import DatasetHead, DeploymentHead, Model, ModelHead, Package, encode, short
from cdl.store.tree import Entry
from cdl.workflow.workspace import Workspace


def reproduce(workspace: Workspace, what: str | None) -> list[Same]:
    """What a package, model, dataset or revision names, made again. NotFound where it names nothing."""
    found: list[Same] = []
    for identity in _named(workspace, what):
        record = workspace.registry.get(identity).record
        if isinstance(record, Package):
            found += _package(workspace, identity, record)
        elif isinstance(record, Model):
            found += _model(workspace, identity, record)
        else:
            found += reproduce_data(workspace, identity)
    return list(dict.fromkeys(found))


def _named(workspace: Workspace, what: str | None) -> list[str]:
    """The packages that a revision's stages name; else its promoted models; else its datasets. Or the record itself."""
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
    if not models and not datasets:
        raise NotFound("nothing was made there yet", remedy="cdl run")
    return models or datasets


def _package(workspace: Workspace, identity: str, record: Package) -> list[Same]:
    model = model_record(workspace, record.model)
    found = _model(workspace, record.model, model)
    name = _name_of(workspace, identity, model)
    files = packages.contents(workspace, name, record.model, model)
    tree = workspace.store.put_tree(Entry(p, workspace.store.put(d), len(d)) for p, d in files.items())
    return [*found, Same(what="package", name=short(identity), identical=tree == record.tree)]


def _name_of(workspace: Workspace, identity: str, model: Model) -> str:
    """The service's name, as the package itself says."""
    wanted = package_record(workspace, identity)
    for name, config in workspace.config.deploy.items():
        if config.model == model.name:
            return name
    raise NotFound(f"no deployment of {model.name}", where=short(wanted.model), remedy="cdl.yaml: deploy")


def _model(workspace: Workspace, identity: str, model: Model) -> list[Same]:
    origin = model.origin or {}
    if origin.get("by") in ("compression", "implementation"):
        before = model_record(workspace, origin["model"])
        found = _model(workspace, origin["model"], before)
        if origin["by"] == "compression":
            workspace.tell(f"again     compression of {short(origin['model'])}")
            made = export(workspace, origin["model"], before, origin["quantize"], fresh=True).outputs["onnx"]
            what = f"weights, {origin['quantize'] or 'onnx'}"
            found.append(Same(what=what, name=short(identity), identical=made == model.weights))
        return found
    name = dataset_record(workspace, model.data["dataset"]).name
    workspace.tell(f"again     data {name} {short(model.data['dataset'])}")
    found = reproduce_data(workspace, model.data["dataset"])
    workspace.tell(f"again     transformation and training of {short(identity)}, without cache or checkpoint")
    code = source(workspace, model)
    prepared = prepare(
        workspace, code, model.data["dataset"], model.data["labels"], model.data["validation"], fresh=True
    )
    if prepared.transformation is not None and model.transformation is not None:
        same = encode(prepared.transformation)[0] == model.transformation
        found.append(Same(what="transformation", name=short(model.transformation), identical=same))
    made_again = train_again(workspace, model)
    why = None
    if made_again.differs is not None:
        why = "an equal job had left " + ", ".join(
            f"{k} {v[:12]}" for k, v in made_again.differs.items() if k == "weights"
        )
    same = made_again.weights == model.weights
    found.append(Same(what="weights", name=short(identity), identical=same, why=why))
    return found
