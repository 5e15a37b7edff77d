from collections.abc import Mapping
from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.data import labels, versions
from cdl.data.dataset import training
from cdl.data.labels import Row, resolve
from cdl.data.pipeline.ledger import Origin, read
from cdl.data.ready import announce, ready
from cdl.errors import ConfigError
from cdl.registry.records import LabelsHead
from cdl.workflow.decide import decide, meant
from cdl.workflow.workspace import Workspace

from .test_versions import CANARY, YAML, Again, again

__all__ = ["again"]


def row(item: str, value: str, who: str) -> Row:
    return Row(item=item, value=value, who=who, when="2026-01-01T00:00:00Z", dataset="d-1")


def test_rules_of_resolving() -> None:
    found = [row("i", "a", "x"), row("i", "b", "y"), row("j", "a", "x"), row("j", "b", "x")]
    assert resolve(found, "latest") == ({"i": "b", "j": "b"}, ["i"])
    assert resolve([*found, row("i", "a", "z")], "majority")[0] == {"i": "a", "j": "b"}
    assert resolve(found, "adjudicated") == ({"j": "b"}, ["i"])
    assert resolve([*found, row("i", "a", "z")], "adjudicated")[0] == {"i": "a", "j": "b"}
    assert resolve([row("i", "a", "x"), row("i", "b", "y"), row("i", "b", "x")], "majority") == ({"i": "b"}, [])


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ("ax bx", "x"),
        ("ax by", None),
        ("ax by ax", "x"),
        ("ax by cy", "y"),
        ("ax by bx", "x"),  # they agree now
        ("ax bx ay", None),  # who changed his mind saw no dispute: he made one
        ("ax bx cy", None),  # nor did the third
        ("ax bx cy az", "z"),
        ("ax ay bz", None),
        ("ax by cz dw", "w"),
    ],
)
def test_a_dispute_is_settled_by_a_label_that_follows_it(rows: str, value: str | None) -> None:
    found = [row("i", said[1], said[0]) for said in rows.split()]
    assert resolve(found, "adjudicated")[0] == ({"i": value} if value else {})


def with_table(again: Again, missing: int = 0) -> Path:
    root = again().root
    lines = [f"{CANARY}-name-{i}.txt,{'ab'[i % 2]}" for i in range(40 - missing)]
    (root / "labels.csv").write_text("\ufefffile,label\n" + "\n".join(lines) + "\n")  # as a spreadsheet writes it
    (root / "cdl.yaml").write_text(
        YAML.replace("classes: [a, b]", "classes: [a, b], origin: {csv: {path: labels.csv}}")
    )
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + "labels.csv\n")
    workspace = again()
    workspace.git.run("commit", "--quiet", "--all", "--message", "labels")
    decide(workspace, CYCLE, "policy", meant(workspace, CYCLE, "policy").subject, "approve")
    return root


def test_complete_labels_of_the_source_are_released_by_the_approval(again: Again) -> None:
    with_table(again)
    workspace = again()
    made = versions.make(workspace, "words")
    assert ready(workspace, "words") is None
    decide(workspace, CYCLE, "data", made, "approve")
    head = workspace.registry.head(LabelsHead, "words")
    assert head is not None and ready(workspace, "words") == (made, head.version)
    announce(workspace)
    announce(again())
    assert len(workspace.journal.events("dataset.ready")) == 1
    assert workspace.git.run("status", "--porcelain") == b""


def resolved(workspace: Workspace) -> dict[str, str]:
    """The labels of training items as the released snapshot gives them."""
    head = workspace.registry.head(LabelsHead, "words")
    assert head is not None
    data, released = ready(workspace, "words") or ("", "")
    assert released == head.version
    items = training(workspace, data, released)
    return {i: label for i, label in zip(items.ids, items.labels, strict=True) if label is not None}


def approved_with(again: Again, text: str, new: str) -> Workspace:
    """A version with one more item and the label table `text`, approved."""
    root = again().root
    (root / "labels.csv").write_text(text)
    (root / "incoming" / new).write_text(f"  one more, {new}\n")
    made = versions.make(again(), "words")
    decide(again(), CYCLE, "data", made, "approve")
    return again()


def test_a_correction_stays_until_the_source_says_something_new(again: Again) -> None:
    root = with_table(again)
    decide(again(), CYCLE, "data", versions.make(again(), "words"), "approve")
    first, names = resolved(again()), origins(again())
    item, other = [i for i, label in sorted(first.items()) if label == "b"][:2]
    for value in ("b", "a"):  # within one second: the last one counts
        labels.record(again(), "words", {item: value})
    labels.release(again(), "words")
    assert resolved(again()) == {**first, item: "a"}
    text = (root / "labels.csv").read_text() + "more.txt,a\n"
    before = recorded(again())
    after = approved_with(again, text, "more.txt")
    assert resolved(after)[item] == "a" and recorded(after) == before + 1
    for number, value in enumerate("aba"):  # it changes its mind about another item, and back, and again
        text = text.replace(f"{names[other].name},{'b' if value == 'a' else 'a'}", f"{names[other].name},{value}")
        text += f"{number}.txt,a\n"
        after = approved_with(again, text, f"{number}.txt")
        assert (resolved(after)[other], resolved(after)[item]) == (value, "a")
    assert recorded(after) == before + 1 + 6


def recorded(workspace: Workspace) -> int:
    """How many rows there are."""
    return sum(e.fields["count"] for e in workspace.journal.events("labels.recorded"))


def origins(workspace: Workspace) -> Mapping[str, Origin]:
    _, dataset = labels.current(workspace, "words")
    return read(workspace.vault("words", by="test"), dataset.split.ledger).origins


def test_labels_of_test_items_are_nowhere_in_the_open(again: Again) -> None:
    root = with_table(again)
    workspace = again()
    made = versions.make(workspace, "words")
    decide(workspace, CYCLE, "data", made, "approve")
    _, dataset = labels.current(workspace, "words")
    tested = {i for i, side in labels.sides(workspace, dataset).items() if side == "test"}
    open_rows = [r for r in labels.rows(workspace, "words", "train")]
    assert tested and not tested & {r.item for r in open_rows} and len(open_rows) == 40 - len(tested)
    assert {r.item for r in labels.rows(workspace, "words", "test")} == tested
    everything = b"".join(p.read_bytes() for p in (root / ".cdl").rglob("*") if p.is_file())
    everything += workspace.git.run("cat-file", "--batch-all-objects", "--batch")
    assert not any(i.encode() in everything for i in tested)


def test_labels_that_are_not_complete_wait_for_people(again: Again) -> None:
    with_table(again, missing=3)
    workspace = again()
    made = versions.make(workspace, "words")
    decide(workspace, CYCLE, "data", made, "approve")
    assert workspace.registry.head(LabelsHead, "words") is None and labels.rows(workspace, "words", "train") == []
    labels.record(workspace, "words", labels.from_source(workspace, "words"))
    first = labels.release(workspace, "words")
    assert min(first.record.coverage.values()) < 1 and ready(workspace, "words") is None
    _, dataset = labels.current(workspace, "words")
    known = labels.sides(workspace, dataset)
    done = {r.item for side in ("train", "test") for r in labels.rows(workspace, "words", side)}
    labels.record(workspace, "words", {i: "a" for i in known if i not in done})
    second = labels.release(workspace, "words")
    assert second.record.coverage == {"train": 1.0, "test": 1.0}
    assert ready(workspace, "words") == (made, second.id)
    assert labels.release(workspace, "words").id == second.id


def test_an_unknown_item_or_class_keeps_nothing(again: Again) -> None:
    workspace = again()
    versions.make(workspace, "words")
    _, dataset = labels.current(workspace, "words")
    item = next(iter(labels.sides(workspace, dataset)))
    with pytest.raises(ConfigError, match="no class 'c'"):
        labels.record(workspace, "words", {item: "c"})
    with pytest.raises(ConfigError, match="no item 0000"):
        labels.record(workspace, "words", {item: "a", "0" * 32: "a"})
    assert workspace.journal.events("labels.recorded") == []


def test_what_is_no_table_is_named() -> None:
    with pytest.raises(ConfigError, match="no column 'label'"):
        labels._csv("file,x\n", "l.csv", "file", "label")
    with pytest.raises(ConfigError, match="l.csv: line 2: not CSV"):
        labels._csv('file,label\na,"b"c\n', "l.csv", "file", "label")
