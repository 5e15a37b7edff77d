"""What is wrong with a training set: kinds, encoding, images, arrays, columns, repeated items, and items of both sets."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdl.config.schema import Validate
from cdl.cycle import CYCLE
from cdl.data import versions
from cdl.data.dataset import dataset_record
from cdl.data.items.kinds import Kind, judge
from cdl.data.validate import OTHER_FORM, OTHER_KIND, Findings, findings, leaks, look_through, measures
from cdl.errors import Refused
from cdl.pages.dataset import dataset_page
from cdl.report.page import Table, plain
from cdl.report.write import text_of
from cdl.store.store import Store
from cdl.workflow.decide import decide, meant
from tests.projects import DATA, Toy, make_toy

WORDS = """\
cdl: 1
project: toy
data:
  words:
    source: [{path: train, set: train}, {path: test, set: test}]
    items: {rows: {format: jsonl, id: id, label: side}}
    mask: [note]
    require: [REQUIRE]
    validate: {columns: {text: text, size: number, note: integer}, per_class: 3}
    labels: {classes: [left, right], origin: {source: true}}
"""


def png(size: tuple[int, int] = (3, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "PNG")
    return buffer.getvalue()


def npy(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def looked(
    root: Path, contents: list[bytes], declared: Validate | None = None, *, mask: frozenset[str] = frozenset()
) -> Findings:
    store = Store(root)
    tree = store.tree(store.put_tree({f"i{n}": data for n, data in enumerate(contents)}))
    return look_through(tree, declared or Validate(), mask)


@pytest.mark.parametrize(
    ("content", "kind", "form", "faults"),
    [
        (b"plain words", "text", "", ()),
        ("Grüße\n\t\f".encode(), "text", "", ()),
        ("Grüße".encode("latin-1"), "text", "", ("not UTF-8",)),
        ("a \ufffd b\x07".encode(), "text", "", ("replacement characters (U+FFFD)", "control characters")),
        (b" \n", "text", "", ("empty",)),
        (b"", "text", "", ("empty",)),
        (b"{not a row", "text", "", ()),
        (b'{"a": 1}', "row", "", ()),
        (b'{"a": "x\\u0007", "b": "\\ufffd"}', "row", "", ("replacement characters (U+FFFD)", "control characters")),
        (b"\0\1\2\xff", "bytes", "", ()),
        (png(), "image", "PNG L 3 x 2", ()),
        (png((40, 40))[:-25], "image", "", ("no readable image",)),
        (b"BMW and Audi", "text", "", ()),
        (npy(np.zeros((2, 3), "u1")), "array", "uint8 2 x 3", ()),
        (npy(np.zeros((2, 3), "u1"))[:-1], "array", "", ("no readable array",)),
        (b"\x93NUMPY", "array", "", ("no readable array",)),
    ],
)
def test_what_bytes_are_and_what_is_wrong_with_them(
    content: bytes, kind: Kind, form: str, faults: tuple[str, ...]
) -> None:
    found = judge(content)
    assert (found.kind, found.form, found.faults) == (kind, form, faults)


def test_what_is_declared_is_asked_of_every_item(tmp_path: Path) -> None:
    found = looked(tmp_path, [png(), b"words", b"\x89PNG"], Validate(kind="image"))
    assert found.faults["no readable image"].count == found.invalid == 2 and found.kinds == {"image": 3}
    assert looked(tmp_path, [b"a", b'{"a": 1}'], Validate(kind="row")).faults["no row of a table"].examples == ["i0"]
    assert judge(b"\xff", "text").faults == ("not UTF-8",) and judge(b"\0", "bytes").faults == ()


def test_items_unlike_most_are_named_and_are_not_invalid(tmp_path: Path) -> None:
    found = looked(tmp_path, [b"one", b"two", png()])
    assert found.kinds == {"text": 2, "image": 1} and found.faults[OTHER_KIND].examples == ["i2"]
    arrays = looked(tmp_path, [npy([1, 2]), npy([3, 4]), npy([1.0])])
    assert arrays.forms == {"int64 2": 2, "float64 1": 1} and arrays.faults[OTHER_FORM].examples == ["i2"]
    assert found.invalid == arrays.invalid == 0


def test_columns_have_types_and_masked_ones_are_not_looked_at(tmp_path: Path) -> None:
    rows = [{"n": "1", "s": "a", "b": True, "m": "x"}, {"n": 2.5, "s": "3", "b": None}, {"n": "", "s": [1], "b": "no"}]
    declared = Validate(columns={"n": "number", "s": "text", "b": "boolean?", "m": "integer"})
    found = looked(tmp_path, [json.dumps(r).encode() for r in rows], declared)
    assert found.columns == {
        "n": {"integer": 1, "number": 1, "nothing": 1}, "s": {"text": 1, "integer": 1, "list": 1},
        "b": {"boolean": 1, "nothing": 1, "text": 1}, "m": {"text": 1},
    }  # fmt: skip
    assert {name: fault.examples for name, fault in found.faults.items()} == {
        "m is text, not integer": ["i0"], "no column m": ["i1", "i2"], "n is nothing, not number": ["i2"],
        "s is list, not text": ["i2"], "b is text, not boolean?": ["i2"],
    }  # fmt: skip
    hidden = looked(tmp_path, [json.dumps(r).encode() for r in rows], declared, mask=frozenset("m"))
    assert "m" not in hidden.columns and not [fault for fault in hidden.faults if " m" in fault or fault[0] == "m"]


def test_an_empty_set_has_nothing_wrong(tmp_path: Path) -> None:
    assert looked(tmp_path, [], Validate(columns={"a": "text"})) == Findings()


def test_equal_items_and_those_that_differ_in_case_and_spaces(tmp_path: Path) -> None:
    same = [b"One  word", b"one word", b"One  word", b"another", "ｏｎｅ word".encode(), b"ONE\n WORD"]
    found = looked(tmp_path, same)
    assert (found.equal, found.alike) == (1, 3) and found.groups == [["i0", "i1", "i2", "i4", "i5"]]
    picture, other = png(), png((4, 4))
    assert looked(tmp_path, [picture, other, picture]).equal == 1
    assert looked(tmp_path, [b"A\0", b"a\0"]).alike == 0, "bytes have no case"


def row(number: int, text: str, side: str = "left", **more: object) -> str:
    fields = {"id": f"p{number}", "text": text, "size": number, "note": f"HIDDEN {number}", "side": side}
    return json.dumps(fields | more) + "\n"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Words in two sources, one for each set: two test items are training items but for case and spaces."""
    toy = make_toy(
        tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=WORDS.replace("REQUIRE", "leaked <= 1, invalid == 1")
    )
    toy.write(
        "train/t.jsonl", "".join(row(n, f"Word number {n % 9}", size=n % 9) for n in range(10)) + row(11, "", size="x")
    )
    tested = [row(20, "WORD number  0", size=0), row(21, "word Number 2", size=2), row(22, "SECRETTEST", "right")]
    toy.write("test/t.jsonl", "".join(tested))
    return toy


def test_leaks_are_counted_by_who_makes_the_version_and_asked_for_at_the_gate(words: Toy) -> None:
    made = versions.make(words.become(DATA), "words")
    assert [line for line in words.said if line.startswith("validate")] == [
        "validate  1: size is text, not number",
        "validate  1: text is nothing, not text",
        "validate  1: equal to another item",
        "validate  2: test items that are a training item but for case and spaces",
    ]
    workspace = words.become(DATA)
    found, counted = findings(workspace, made), leaks(workspace, made)
    assert counted is not None and (counted.equal, counted.alike) == (0, 2)
    assert (found.items, found.invalid, found.equal, found.alike) == (11, 1, 1, 0)
    asked = measures(workspace, made, ["items", "invalid", "duplicates", "alike", "leaked"])
    assert asked == {"invalid": 1, "duplicates": 1, "alike": 0, "leaked": 2}
    with pytest.raises(Refused, match="not held: leaked <= 1: 2"):
        words.approve(DATA, "data")
    words.write("test/t.jsonl", row(20, "WORD number  0", size=0) + row(22, "SECRETTEST", "right"))
    versions.make(words.become(DATA), "words")
    workspace = words.become(DATA)
    decide(workspace, CYCLE, "data", meant(workspace, CYCLE, "data").subject, "approve")


def test_the_report_says_it_without_opening_anything(words: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    made = versions.make(words.become(DATA), "words")
    decide(words.become(DATA), CYCLE, "data", made, "approve", despite="a test")
    monkeypatch.setenv("CDL_KEYRING", str(words.root / "none"))
    workspace = words.become(DATA)
    opened = len(workspace.journal.events("sealed.opened"))
    record = dataset_record(workspace, made)
    page = dataset_page(workspace, made)
    assert len(workspace.journal.events("sealed.opened")) == opened
    (section,) = [s for s in page.sections if s.title == "Checks"]
    table = section.parts[0]
    assert isinstance(table, Table)
    checks = {plain(row[1]): (plain(row[0]), row[2]) for row in table.rows}
    assert checks["size is text, not number"] == ("found", 1)
    assert checks["equal to another item"] == ("found", 1) and checks["another item but for case and spaces"][1] == 0
    assert checks["test items that are a training item but for case and spaces"] == ("found", 2)
    assert (
        checks["at least 3 labeled items of each class"][0] == "too few" and checks["classes of a size"][0] == "uneven"
    )
    for text in (text_of(page), text_of(page, "md")):
        assert (
            "Items to look at" in text
            and "HIDDEN" not in text
            and "SECRETTEST" not in text
            and "word Number 2" not in text
        )
        assert not [name for name in words.become(DATA).store.tree(record.train).names if name in text], "ids are short"
