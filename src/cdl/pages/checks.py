"""What validation found in the training set of a version: each check with its verdict, types of columns, and items to look at.

Nothing sealed is opened: whether test items are like training items was counted when the version was made, or is not known here.
Masked fields and columns are neither looked at nor shown.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from cdl.config.schema import Validate
from cdl.data.dataset import Dataset, dataset_record, mask_in_force
from cdl.data.items.kinds import CONTROLS, EMPTY, NO_ARRAY, NO_IMAGE, NO_ROW, NOT_UTF8, REPLACED
from cdl.data.validate import OTHER_FORM, OTHER_KIND, Fault, Findings, declared_for, findings, leaks
from cdl.pages.shown import brief_text, picture
from cdl.registry.records import short
from cdl.report import chart
from cdl.report.page import Cell, Code, Page, bad, good, several, soft, warn
from cdl.workflow.workspace import Workspace

ALWAYS = {  # the checks of each kind: what is looked for, and is said also where it was not found
    "text": (NOT_UTF8, REPLACED, CONTROLS, EMPTY),
    "image": (NO_IMAGE,),
    "array": (NO_ARRAY, OTHER_FORM),
    "row": (NO_ROW, REPLACED, CONTROLS),
    "bytes": (EMPTY,),
}
SHOWN = 4  # ids in a row, and items of each fault among the examples
UNEVEN = 10  # times as many items in the largest class as in the smallest

Row = Sequence[Cell]


def checks(workspace: Workspace, page: Page, dataset_id: str, items: Dataset) -> None:
    """The section of a dataset's page. `items` is its training set with labels. NotFound where items are not in this clone."""
    name = dataset_record(workspace, dataset_id).name
    found, declared = findings(workspace, dataset_id), declared_for(workspace, name)
    mask = mask_in_force(workspace, name)
    section = page.section("Checks")
    rows = [*_of_items(found, declared), *_repeated(found), _leaked(workspace, dataset_id), *_classes(items, declared)]
    section.table(["result", "check", "items", "for example"], rows)
    section.table(["column", "values", "declared"], _columns(found, declared, mask))
    section.figures(
        chart.bars("what is wrong", {n: f.count for n, f in found.faults.items()}, what="training items")
        if found.faults
        else None,
        chart.bars("sizes and shapes", dict(found.forms), what="training items") if len(found.forms) > 1 else None,
    )
    _examples(page, found, items)


def _of_items(found: Findings, declared: Validate) -> Iterator[Row]:
    kinds = several(f"{kind} ({count:,})" for kind, count in found.kinds.items())
    yield [soft("found"), "what the items are", kinds, None]
    wanted = [check for kind in found.kinds for check in ALWAYS[kind]]
    for check in dict.fromkeys([OTHER_KIND, *wanted, *found.faults]):
        fault = found.faults.get(check, Fault())
        strict = check not in (OTHER_KIND, OTHER_FORM)
        yield _row(check, fault.count, fault.examples, strict=strict)
    if declared.kind or declared.columns:
        yield _row("not as `validate` in cdl.yaml says", found.invalid, [], strict=True)


def _row(check: str, count: int, examples: Sequence[str], *, strict: bool) -> Row:
    result = good("none") if not count else bad("found") if strict else warn("found")
    return [result, check, count, several(Code(short(i)) for i in examples[:SHOWN])]


def _repeated(found: Findings) -> Iterator[Row]:
    yield _row("equal to another item", found.equal, [], strict=False)
    yield _row("another item but for case and spaces", found.alike, [], strict=False)


def _leaked(workspace: Workspace, dataset_id: str) -> Row:
    """Whether test items are like training items, where that was counted."""
    known, check = leaks(workspace, dataset_id), "test items that are a training item but for case and spaces"
    if known is None:
        hint = (
            "counted by `cdl data run` of who holds the key, where cdl.yaml has `validate` or `require: [leaked == 0]`"
        )
        return [soft("not counted here"), check, None, hint]
    return [bad("found") if known.alike else good("none"), check, known.alike, None]


def _classes(items: Dataset, declared: Validate) -> Iterator[Row]:
    """Whether classes are of a size, and have the fewest items that are asked for."""
    counts = Counter(label for label in items.labels if label is not None)
    if not counts:
        return
    sizes = {name: counts[name] for name in items.classes}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    uneven = sizes[most] > UNEVEN * sizes[least]
    said = f"{least} has {sizes[least]:,}, {most} {sizes[most]:,}"
    yield [warn("uneven") if uneven else good("even"), "classes of a size", None, said]
    if declared.per_class is not None:
        small = [name for name, count in sizes.items() if count < declared.per_class]
        result = bad("too few") if small else good("held")
        yield [result, f"at least {declared.per_class:,} labeled items of each class", None, ", ".join(small) or None]


def _columns(found: Findings, declared: Validate, mask: frozenset[str]) -> Iterator[Row]:
    """The types of each column's values, and what they are declared to be."""
    for name in sorted({*found.columns, *declared.columns} - mask):
        types = found.columns.get(name, {})
        counts = several(f"{kind} ({count:,})" for kind, count in sorted(types.items(), key=lambda pair: -pair[1]))
        yield [name, counts or "not there", declared.columns.get(name)]


def _examples(page: Page, found: Findings, items: Dataset) -> None:
    """Items with faults, and items that are equal or alike."""
    at = {identity: place for place, identity in enumerate(items.ids)}
    named = [(fault, i) for fault, seen in found.faults.items() for i in seen.examples[:SHOWN]]
    named += [(f"equal or alike, group {n}", i) for n, group in enumerate(found.groups, start=1) for i in group[:SHOWN]]
    shown = [(why, i, items.contents[at[i]]) for why, i in named if i in at]
    section = page.section("Items to look at")
    pictures = [(why, png) for why, _, content in shown if (png := picture(content)) is not None]
    section.pictures(pictures)
    rows: list[Row] = [
        [why, Code(short(i)), brief_text(content) if picture(content) is None else "a picture"]
        for why, i, content in shown
    ]
    section.table(["because", "item", "content"], rows)
