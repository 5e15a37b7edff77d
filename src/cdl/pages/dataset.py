"""The page of a dataset's version: what came in, what was rejected, classes, what changed, and the training set in pictures.

Nothing sealed is opened: of test items, rejected ones and their labels only the counts that the record declares. Masked
fields are not there.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdl.data.dataset import Dataset, current_items, dataset_record, labels_record, training
from cdl.data.gate import look
from cdl.errors import NotFound
from cdl.pages.changes import dataset_changes, rejected
from cdl.pages.checks import checks
from cdl.pages.decisions import history, made_on, open_decisions, requirements, say_waiting
from cdl.pages.shown import brief, brief_text, picture
from cdl.pages.written import REPORTS, dataset_name, made_line, model_name
from cdl.registry import records
from cdl.registry.names import Thing, numbers
from cdl.registry.records import Labels, Model, Source, short
from cdl.report import chart
from cdl.report.page import Cell, Code, Figure, Link, Page, Section, several
from cdl.report.write import write
from cdl.workflow.workspace import Workspace

SHOWN = 24  # examples on the page
COLUMNS = 10  # of a table's rows among the examples
FIELDS = 24  # of which there is a chart
LONGEST_VALUE = 1000  # characters of a value; longer ones are told apart by these alone
FREQUENT = 12  # values of a field in its chart
MOST_READ = 20_000  # items whose fields are charted


def analyze(workspace: Workspace, name: str) -> Path:
    """Writes reports/<name>-<version>.html of this branch's version; the file. NotFound without a version."""
    return write(dataset_page(workspace, current_items(workspace, name)[0]), workspace.root / REPORTS)


def dataset_page(workspace: Workspace, dataset_id: str) -> Page:
    """The page of a version, with the labels released for it last."""
    record = dataset_record(workspace, dataset_id)
    labels_id = labels_of(workspace, record.name, dataset_id)
    page = Page(name=dataset_name(record.name, dataset_id), title=f"Dataset {record.name} {short(dataset_id)}")
    made = workspace.registry.brought(dataset_id)
    known = numbers(workspace.registry, Thing(kind="dataset", name=record.name))
    version = f"version {known[dataset_id]}, " if dataset_id in known else ""
    page.subtitle = f"{version}made by {made.who}, {made.when.replace('T', ' ')[:16]} UTC"
    say_waiting(page, open_decisions(workspace, dataset_id))
    _overview(workspace, page, record, labels_id)
    decided = made_on(workspace, dataset_id)
    requirements(page, look(workspace, dataset_id).requirements, title="What the data gate asks")
    _pipeline(workspace, page, record)
    _parent(workspace, page, dataset_id, record, labels_id)
    _content(workspace, page, dataset_id, labels_id)
    _uses(workspace, page, dataset_id)
    history(workspace, page, dataset_id, decided)
    page.made = made_line(workspace)
    return page


def labels_of(workspace: Workspace, name: str, dataset_id: str) -> str | None:
    """The snapshot of labels that was released last for a version."""
    found = [
        (workspace.registry.brought(i).place, i)
        for i, r in workspace.registry.all(Labels, name)
        if r.dataset == dataset_id
    ]
    return max(found)[1] if found else None


def _overview(workspace: Workspace, page: Page, record: records.Dataset, labels_id: str | None) -> None:
    section = page.section("At a glance")
    config = workspace.config.data.get(record.name)
    labels = labels_record(workspace, labels_id) if labels_id else None
    section.facts(
        {
            "training items": record.items["train"],
            "test items": f"{record.items['test']:,}, sealed",
            "rejected": rejected(record),
            "set aside": record.split.set_aside["count"] or None,
            "split": f"{100 * record.split.test:g} % for the test"
            + (f", items with equal {record.split.by} on one side" if record.split.by else ""),
            "masked fields": ", ".join(config.mask) if config and config.mask else None,
            "labels": several([Code(short(labels_id)), f"the {labels.resolve} one of an item counts"])
            if labels and labels_id
            else "none released",
            "labeled": ", ".join(f"{100 * share:.4g} % of {side}" for side, share in labels.coverage.items())
            if labels
            else None,
            "made for the request": Code(short(record.answers)) if record.answers else None,
            "steps left out": ", ".join(record.skipped) or None,
        }
    )


def _pipeline(workspace: Workspace, page: Page, record: records.Dataset) -> None:
    """Where items come from, what each step left, and what was rejected."""
    section = page.section("Where it comes from")
    section.table(["source", "", "set"], [_source(s) for s in record.sources])
    rows: list[list[Cell]] = []
    for stage in record.steps:
        here = workspace.store.has(stage.train)
        left = len(workspace.store.tree(stage.train)) if here else None
        rows.append([stage.name, left, Code(stage.code[:12]) if stage.code else None])
    section.table(["step", "training items after it", "code"], rows)
    reasons = sorted(record.rejected["reasons"].items(), key=lambda pair: -pair[1])
    section.table(["rejected because", "items of both sets"], [[reason, number] for reason, number in reasons])


def _source(source: Source) -> list[Cell]:
    if source.command:
        return [Code(" ".join(source.command)), "command", source.set or "by the split"]
    if source.url:
        pinned = f"address, sha256 {source.sha256[:12]}" if source.sha256 else "address, may change"
        return [Code(source.url), pinned, source.set or "by the split"]
    if source.bucket:
        return [Code(source.bucket), "bucket", source.set or "by the split"]
    return [Code(source.path or ""), "path", source.set or "by the split"]


def _parent(workspace: Workspace, page: Page, dataset_id: str, record: records.Dataset, labels_id: str | None) -> None:
    if record.parent is None:
        return
    try:
        before = labels_of(workspace, record.name, record.parent)
        section = page.section(f"What changed since {short(record.parent)}, the version before")
        dataset_changes(workspace, section, (record.parent, before), (dataset_id, labels_id))
    except NotFound:
        section.text(f"{short(record.parent)} is not in this clone.")


def _content(workspace: Workspace, page: Page, dataset_id: str, labels_id: str | None) -> None:
    """The training set: classes, sizes, fields, examples, and what is wrong with it."""
    section = page.section("Training set")
    try:
        items = training(workspace, dataset_id, labels_id)
        some = items.take(range(0, len(items), 1 + len(items) // MOST_READ))
        rows = _columns(some)
        counts = Counter(label for label in items.labels if label is not None)
        constant, charts = _fields(rows)
        section.figures(
            chart.bars("items of each class", {c: counts[c] for c in items.classes}, what="training items")
            if items.classes
            else None,
            chart.histogram("size of an item", [float(len(v)) for v in some.views()], unit="bytes"),
            *charts,
        )
        if len(some) < len(items):
            section.text(f"Sizes and fields are those of {len(some):,} of them, evenly taken.")
        for text in constant:
            section.text(text)
        if len(items):
            _examples(page.section("Examples"), some, rows)
        checks(workspace, page, dataset_id, items)
    except NotFound:
        section.text("The items of this version are not in this clone: cdl sync brings them.")


def _columns(items: Dataset) -> list[Mapping[str, Any]]:
    """The fields of each item; where all items are rows of a table, their columns too, numbers as numbers."""
    found: list[Mapping[str, Any]] = []
    for content, fields in zip(items.contents, items.fields, strict=True):
        try:
            row = json.loads(content) if content.startswith(b"{") else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            return list(items.fields)
        found.append({**fields, **{str(k): _number(v) for k, v in row.items()}})
    return found


def _number(value: Any) -> Any:
    """A text that says a number as that number; everything else as it is."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _fields(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Figure]]:
    """A chart of each field that varies; one that never does is a line of text."""
    constant: list[str] = []
    charts: list[Figure] = []
    names = sorted({name for fields in rows for name in fields})
    for name in names:
        values = [fields.get(name) for fields in rows]
        numbers_ = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len({str(v) for v in values}) == 1:
            constant.append(f"{name} is {brief(values[0])} in every item.")
        elif len(charts) == FIELDS:
            constant.append(f"{name} varies too.")
        elif len(numbers_) == len(values):
            charts.append(chart.histogram(name, numbers_))
        else:
            most = Counter(str(v)[:LONGEST_VALUE] for v in values).most_common(FREQUENT)
            charts.append(chart.bars(f"{name}: most frequent values", dict(most), what="training items"))
    return constant, charts


def _examples(section: Section, items: Dataset, rows: Sequence[Mapping[str, Any]]) -> None:
    step = max(1, len(items) // SHOWN)
    places = range(0, len(items), step)[:SHOWN]
    shown = [(items.labels[i] or "?", items.contents[i]) for i in places]
    pictures = [(label, png) for label, content in shown if (png := picture(content)) is not None]
    if pictures:
        section.pictures(pictures)
        return
    names = list(rows[0])[:COLUMNS]
    if items.contents[0].startswith(b"{") and names:
        section.table(
            ["label", *names], [[items.labels[i] or "?", *(brief(rows[i].get(n)) for n in names)] for i in places]
        )
        return
    section.table(["label", "content"], [[label, brief_text(content)] for label, content in shown])


def _uses(workspace: Workspace, page: Page, dataset_id: str) -> None:
    """The models that learned from it."""
    learned = [(m.made.when, i, m) for i, m in workspace.registry.all(Model) if m.data["dataset"] == dataset_id]
    rows: list[list[Cell]] = [
        [Link(short(i), model_name(i)), m.name, m.made.who, when.replace("T", " ")[:16]]
        for when, i, m in sorted(learned)
    ]
    page.section("Models that learned from it").table(["model", "name", "made by", "when (UTC)"], rows)
