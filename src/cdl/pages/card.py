"""The model card: what a model is for, learned from, was made with, and does not do. Declared or measured, nothing invented."""

from collections.abc import Mapping, Sequence
from typing import Any

from cdl.data.dataset import class_counts, dataset_record, labels_record
from cdl.errors import NotFound
from cdl.model.results import Evaluation
from cdl.model.source import transformation_of
from cdl.registry.records import Model, short
from cdl.report.page import Cell, Code, Estimate, Page, Section, plain, several, warn
from cdl.report.text import count, size
from cdl.workflow.workspace import Workspace

FEW = 30  # test items of a class, below which its recall says little
WALLS = {
    "limits": "limits on memory, time and processes",
    "namespaces": "no network, no other process in sight",
    "no_new_privs": "no new rights",
    "landlock": "no files but those named",
    "seccomp": "no sockets, no new programs",
}


def card(workspace: Workspace, page: Page, model_id: str, model: Model, found: Evaluation | None) -> None:
    """The section."""
    section = page.section("Model card")
    config, dataset = workspace.config, dataset_record(workspace, model.data["dataset"])
    declared = config.model.get(model.name)
    labels = labels_record(workspace, model.data["labels"])
    transformation = transformation_of(workspace, model)
    data = config.data.get(dataset.name)
    section.facts(
        {
            "model": several([Code(model_id), model.name]),
            "intended use": declared.use if declared else None,
            "made by": f"{model.made.who}, {model.made.when.replace('T', ' ').removesuffix('Z')} UTC",
            "made from": _origin(model),
            "made for the request": Code(short(model.answers)) if model.answers else None,
            "dataset": several([dataset.name, Code(short(model.data["dataset"]))]),
            "labels": several([Code(short(model.data["labels"])), f"{labels.resolve} label of an item counts"]),
            "items": f"{dataset.items['train']:,} for training, {dataset.items['test']:,} sealed for the test",
            "validation": f"{100 * model.data['validation']:g} % of the training items"
            if "validation" in model.data
            else None,
            "fields that training does not see": ", ".join(data.mask) if data and data.mask else None,
            "classes": _classes(workspace, model),
            "transformation": Code(transformation.call) if transformation else "none: items are arrays",
            **_trained(model),
            "weights": _weights(workspace, model),
            "environment": ", ".join(f"{k} {str(v)[:16]}" for k, v in model.environment.items()),
            "source": several([Code(model.code["commit"][:12]), f"closure {model.code['closure'][:12]}"]),
            "a request holds": _schema(model.schema),
            "steps left out": ", ".join(s.replace("_", " ") for s in model.skipped) or None,
            **_judged(found),
        }
    )
    limits(section, found, config.risks)


def limits(section: Section, found: Evaluation | None, risks: Sequence[str]) -> None:
    """What speaks against trusting it further: declared risks, and what the numbers show."""
    rows: list[list[Cell]] = [["declared risk", risk] for risk in risks]
    if found is not None:
        rows += [["measured", text] for text in _weak(found)]
    section.table(["limits", ""], rows)


def _origin(model: Model) -> Cell:
    if model.origin is None:
        return None
    more = ", ".join(f"{k} {v}" for k, v in model.origin.items() if k not in ("by", "model"))
    return several([model.origin["by"], Code(short(model.origin["model"])), *([more] if more else [])])


def _classes(workspace: Workspace, model: Model) -> Cell:
    try:
        counts = class_counts(workspace, model.data["dataset"], model.data["labels"])
    except NotFound:
        return ", ".join(model.output["classes"])
    return ", ".join(
        f"{name} ({number:,} training items)" if i == 0 else f"{name} ({number:,})"
        for i, (name, number) in enumerate(counts.items())
    )


def _trained(model: Model) -> dict[str, Cell]:
    trial = model.trial
    settings = ", ".join(
        f"{k} {plain(v) if isinstance(v, int | float) else v}" for k, v in trial["hyperparameters"].items()
    )
    return {
        "hyperparameters": settings or None,
        "training": f"trial {trial['id'].partition('-')[0]}: {count(trial['epochs'], 'epoch')} of {trial['planned']}, "
        f"seed {trial['seed']}, {count(trial['threads'], 'thread')}",
        "measured in training": ", ".join(f"{k} {v:.4g}" for k, v in model.metrics.items()) or None,
    }


def _weights(workspace: Workspace, model: Model) -> Cell:
    here = workspace.store.has(model.weights)
    length = size(len(workspace.store.view(model.weights))) if here else "not in this clone: cdl sync"
    return several([model.output.get("format", "safetensors"), length, Code(model.weights[:12])])


def _schema(schema: Mapping[str, Any] | None) -> Cell:
    return None if schema is None else ", ".join(f"{k}: {v}" for k, v in schema.items())


def _judged(found: Evaluation | None) -> dict[str, Cell]:
    if found is None:
        return {"sealed test": warn("not evaluated yet")}
    result = found.result
    measures = []
    for name, m in result["measures"].items():
        measures.append(f"{name} {plain(Estimate(m['value'], *m['interval']) if m.get('interval') else m['value'])}")
    return {
        "sealed test": f"{result['items']:,} items of {short(result['dataset'])}; evaluation {found.number} of {found.limit} on "
        "this test version",
        "measures": "; ".join(measures),
        "items on both sides": f"none; {sum(result['equal_items'].values())} training items equal a test item"
        if result.get("equal_items") is not None
        else None,
        "evaluated behind": ", ".join(WALLS.get(w, w) for w in result["walls"]) or warn("no walls"),
    }


def _weak(found: Evaluation) -> list[str]:
    """What the numbers themselves warn of."""
    said, classes = [], found.result["classes"]
    rows = {name: sum(row) for name, row in zip(classes, found.result["confusion"], strict=True)}
    if classes:
        worst = min(classes, key=lambda name: classes[name]["recall"]["value"])
        e = classes[worst]["recall"]
        said.append(
            f"lowest recall: class {worst}, {plain(Estimate(e['value'], *e['interval']))} on {count(rows[worst], 'item')}"
        )
    few = [f"{name} ({number})" for name, number in rows.items() if number < FEW]
    if few:
        said.append(f"fewer than {FEW} test items, so its numbers say little: class {', '.join(few)}")
    failed = [name for name, outcome in found.result["tests"].items() if outcome != "pass"]
    if failed:
        said.append("failed test cases: " + ", ".join(failed))
    if found.number > 1:
        said.append(
            f"this test version answered {found.number - 1} other times before: the best of many looks better than it is"
        )
    return said
