"""What changed between two models: their code, settings, data and environment. Sealed sides by their declared counts only."""

from collections import Counter
from collections.abc import Mapping

from cdl.data.dataset import class_counts, dataset_record
from cdl.errors import CdlError, NotFound
from cdl.git.changes import FileChange, changes, unified
from cdl.model.source import source
from cdl.registry.diff import inside
from cdl.registry.records import Dataset, Model, short
from cdl.report.page import Cell, Code, Fixed, Page, Section, soft
from cdl.report.text import count
from cdl.workflow.workspace import Workspace

LONGEST_DIFF = 300  # lines
LISTED = 40  # files
NOT_SHOWN = "registry/"  # records have their own pages


def changed(workspace: Workspace, page: Page, base_id: str, base: Model, called: str, model: Model) -> frozenset[str]:
    """A section on what is different from another model; the files whose difference it shows."""
    section = page.section(f"What changed since {short(base_id)}, {called}")
    section.facts(_settings(base, model))
    shown = _code(workspace, section, base, model)
    _data(workspace, section, base, model)
    return shown


def files_changed(
    workspace: Workspace,
    section: Section,
    first: str,
    second: str,
    *,
    own: frozenset[str] | None = None,
    above: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """The files that differ between two commits, those of the model first, with their difference, cut where it is long.

    The difference of files that stands `above` on the page is not shown again. Gives the files whose difference it shows.
    """
    try:
        found = [c for c in changes(workspace.git, first, second) if not c.path.startswith(NOT_SHOWN)]
    except CdlError:
        section.text(f"The commits {first[:8]} and {second[:8]} are not both in this clone: git fetch.")
        return frozenset()
    mine = [c for c in found if own is None or c.path in own]
    other = [c for c in found if c not in mine]
    if not mine:
        section.text("None of the model's own files differs." if own is not None else "No file differs.")
    section.table(["file", "", "lines added", "removed"], [_file(c) for c in mine[:LISTED]])
    if len(mine) > LISTED:
        section.text(f"{len(mine) - LISTED} more files differ.")
    data = frozenset(c.path for c in mine if _is_data(workspace, c.path))
    shown = frozenset(c.path for c in mine) - above - data
    text = unified(workspace.git, first, second, sorted(shown))
    lines = text.splitlines()
    title = f"the difference, {count(len(lines), 'line')}"
    if len(lines) > LONGEST_DIFF:
        title += f"; cut after {LONGEST_DIFF}: git diff {first[:10]} {second[:10]}"
        text = "\n".join(lines[:LONGEST_DIFF])
    section.listing(title, text.rstrip("\n"))
    repeated = len(mine) - len(shown) - len(data)
    if repeated:
        section.text(f"The difference of {count(repeated, 'file')} stands above.")
    if data:
        section.text(f"{count(len(data), 'file')} of a declared source or of labels: what is in them is not shown.")
    if other:
        names = ", ".join(c.path for c in other[:8]) + (", ..." if len(other) > 8 else "")
        section.text(f"Different, but not used by the model: {count(len(other), 'file')}: {names}")
    return shown


def _is_data(workspace: Workspace, path: str) -> bool:
    """Whether a file is of a source or of labels, which may hold test items, wherever somebody put them under git."""
    declared = [p.strip("/").removeprefix("./") for data in workspace.config.data.values() for p in data.paths()]
    return any(path == p or path.startswith(p + "/") for p in declared)


def _file(change: FileChange) -> list[Cell]:
    return [Code(change.path), change.kind, change.added, change.removed]


def _settings(base: Model, model: Model) -> Mapping[str, Cell]:
    """Hyperparameters, seed and the like that differ."""
    first, second = _plain(base), _plain(model)
    names = dict.fromkeys([*first, *second])
    differing = {
        n: f"{first.get(n, '(none)')} -> {second.get(n, '(none)')}" for n in names if first.get(n) != second.get(n)
    }
    return differing or {"settings": soft("hyperparameters, seed, epochs and environment are the same")}


def _plain(model: Model) -> dict[str, str]:
    trial = model.trial
    found = {name: f"{value}" for name, value in trial["hyperparameters"].items()}
    found |= {name: f"{trial[name]}" for name in ("seed", "epochs", "threads")}
    found |= {"how it was made": model.origin["by"] if model.origin else "training"}
    return found | {name: f"{value}"[:16] for name, value in model.environment.items()}


def _code(workspace: Workspace, section: Section, base: Model, model: Model) -> frozenset[str]:
    if base.code["closure"] == model.code["closure"]:
        section.text("Code: the same. Every file that the training uses is equal.")
        return frozenset()
    used: set[str] = {"cdl.yaml", workspace.config.environment.lock or "cdl.yaml"}
    try:
        for each in (base, model):
            used |= source(workspace, each).closure.blobs.keys()
    except CdlError:
        section.text("Code: not every file of both models can be read in this clone.")
    section.text("Code: files that the training uses.")
    return files_changed(workspace, section, base.code["commit"], model.code["commit"], own=frozenset(used))


def _data(workspace: Workspace, section: Section, base: Model, model: Model) -> None:
    first, second = base.data["dataset"], model.data["dataset"]
    if (first, base.data["labels"]) == (second, model.data["labels"]):
        section.text(f"Data: the same, {short(second)} with the labels {short(model.data['labels'])}.")
        return
    section.text(
        f"Data: {short(first)} -> {short(second)}, labels {short(base.data['labels'])} -> {short(model.data['labels'])}."
    )
    dataset_changes(workspace, section, (first, base.data["labels"]), (second, model.data["labels"]))


def dataset_changes(
    workspace: Workspace, section: Section, first: tuple[str, str | None], second: tuple[str, str | None]
) -> None:
    """Items added, removed and changed, and classes of the training side, between two versions (data, labels)."""
    one, two = (dataset_record(workspace, d) for d, _ in (first, second))
    inner = inside(workspace.store, one, two)
    rows: list[list[Cell]] = [
        ["training items", one.items["train"], two.items["train"], _more(one.items["train"], two.items["train"])],
        ["test items (sealed)", one.items["test"], two.items["test"], _more(one.items["test"], two.items["test"])],
        ["rejected", rejected(one), rejected(two), _more(rejected(one), rejected(two))],
    ]
    section.table(["", short(first[0]), short(second[0]), "difference"], rows)
    if inner is not None:
        section.text(
            f"Of the {inner.what} {inner.added:,} were added, {inner.removed:,} removed, {inner.changed:,} changed."
        )
    before, after = _counts(workspace, *first), _counts(workspace, *second)
    if before is not None and after is not None and before != after:
        classes = list(dict.fromkeys([*before, *after]))
        if len(classes) > LISTED:
            classes.sort(key=lambda c: -abs(after[c] - before[c]))
            section.text(f"The {LISTED} of {len(classes)} classes that changed most.")
        found: list[list[Cell]] = [[c, before[c], after[c], _more(before[c], after[c])] for c in classes[:LISTED]]
        section.table(["class of training items", short(first[0]), short(second[0]), "difference"], found)


def rejected(record: Dataset) -> int:
    """How many items a version rejected, whatever for."""
    return sum(record.rejected["reasons"].values())


def _more(before: int, after: int) -> Cell:
    return Fixed(after - before, 0, signed=True)


def _counts(workspace: Workspace, dataset: str, labels: str | None) -> "Counter[str] | None":
    try:
        return Counter(class_counts(workspace, dataset, labels)) if labels else None
    except NotFound:
        return None
