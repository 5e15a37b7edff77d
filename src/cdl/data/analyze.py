"""Analysis: what the training set looks like, as an HTML page. The test set is not read, masked fields are not there."""

import io
from collections import Counter
from importlib import import_module
from pathlib import Path

from cdl.data.dataset import Items, current_items, dataset_record
from cdl.registry.records import short
from cdl.report import chart
from cdl.report.page import Page
from cdl.workflow.workspace import Workspace

SHOWN = 24  # examples on the page
LONGEST_TEXT = 160  # characters of an example
REPORTS = "reports"  # ignored by git


def analyze(workspace: Workspace, name: str) -> Path:
    """Writes reports/<name>-<version>.html from the training set; the file. NotFound without a version."""
    dataset_id, items = current_items(workspace, name)
    record = dataset_record(workspace, dataset_id)
    page = Page(f"{name} {short(dataset_id)}: training set")
    labeled = items.labeled()
    page.facts(
        {
            "training items": len(items),
            "of these labeled": len(labeled),
            "test items": f"{record.items['test']} (sealed)",
            "rejected": sum(record.rejected["reasons"].values()),
            "set aside": record.split.set_aside["count"],
            "masked fields": ", ".join(workspace.config.data[name].mask) or None,
        }
    )
    if labeled.classes:
        counts = Counter(label for label in items.labels if label is not None)
        page.heading("Labels").figures(chart.bars("items of each class", {c: counts[c] for c in labeled.classes}))
    page.heading("Content and fields")
    page.figures(chart.histogram("bytes of an item", [len(c) for c in items.contents]), *_fields(page, items))
    _examples(page, items)
    target = workspace.root / REPORTS / f"{name}-{short(dataset_id)}.html"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(page.html())
    return target


def _fields(page: Page, items: Items) -> list[str]:
    """A chart of each field that varies; one that never does is a line of text."""
    charts = []
    for name in sorted({name for fields in items.fields for name in fields}):
        values = [fields.get(name) for fields in items.fields]
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len({str(v) for v in values}) == 1:
            page.text(f"{name} is {values[0]} in every item.")
        elif len(numbers) == len(values):
            charts.append(chart.histogram(name, numbers))
        else:
            most = Counter(str(v) for v in values).most_common(12)
            charts.append(chart.bars(f"{name}: most frequent values", dict(most)))
    return charts


def _examples(page: Page, items: Items) -> None:
    step = max(1, len(items) // SHOWN)
    places = range(0, len(items), step)[:SHOWN]
    shown = [(items.labels[i] or "?", items.contents[i]) for i in places]
    pictures = [(label, png) for label, content in shown if (png := _picture(content)) is not None]
    page.heading("Examples")
    if pictures:
        page.thumbnails(chart.thumbnails(pictures))
        return
    rows = [{"label": label, "content": _text(content)} for label, content in shown]
    page.table(rows, ["label", "content"])


def _picture(content: bytes) -> bytes | None:
    """An item as PNG, where it is an image or a small array of two axes."""
    images = import_module("PIL.Image")
    try:
        if content.startswith(b"\x93NUMPY"):
            values = import_module("numpy").load(io.BytesIO(content), allow_pickle=False)
            image = images.fromarray(values) if values.ndim == 2 and values.dtype == "uint8" else None
        else:
            image = images.open(io.BytesIO(content), formats=["PNG", "JPEG", "GIF", "BMP"])
    except (OSError, ValueError, SyntaxError):
        return None
    if image is None:
        return None
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _text(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
