"""A version in numbers, and one training item: nothing sealed is shown, nothing masked."""

import json
from pathlib import Path

import pytest

from cdl.data.dataset import training
from cdl.data.show import kind_of, shown, shown_item
from cdl.errors import NotFound
from cdl.registry.records import Dataset, DatasetHead
from tests.projects import DATA, REVIEW, ROLES, SCIENCE, YAML, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(120))
    return made


def current(toy: Toy) -> str:
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None
    return head.version


def test_a_version_in_numbers(toy: Toy) -> None:
    identity = current(toy)
    (toy.root.parent / "keyring").unlink()  # it takes no key
    workspace = toy.become(SCIENCE)
    found, record = shown(workspace, identity), workspace.registry.record(Dataset, identity)
    assert sum(found.items.values()) == 120 and found.parent is None
    assert [(s.what, s.files) for s in found.sources] == [("incoming", 1)]
    assert [(s.name, s.train, s.test) for s in found.stages] == [
        ("ingest", record.items["train"], record.items["test"])
    ]
    assert set(found.classes) == {"left", "right"} and sum(found.classes.values()) == record.items["train"]
    assert found.bytes == sum(map(len, training(workspace, identity, None, mask=frozenset()).contents))
    said = toy.cdl(SCIENCE, "data", "show", "points@v1")
    assert "sealed" in said and "class" in said and "incoming" in said


def test_one_training_item_and_no_other(toy: Toy) -> None:
    identity = current(toy)
    workspace = toy.become(DATA)
    names = workspace.vault("points", by="data").tree(workspace.registry.record(Dataset, identity).test).names
    items = training(workspace, identity, None)
    found = json.loads(toy.cdl(SCIENCE, "data", "show", "--item", items.ids[0][:12], "--json"))
    assert found["item"] == items.ids[0] and found["text"] == items.contents[0].decode()
    assert found["label"] in ("left", "right") and found["kind"] == "text"
    for wrong in (names[0], names[0][:12], "", items.ids[0][:3]):
        with pytest.raises(NotFound, match="no training item"):
            shown_item(workspace, identity, wrong)
    toy.write("cdl.yaml", YAML.replace("labels:", "mask: [y]\n    labels:") + ROLES)
    toy.commit(toy.become(DATA), "mask")
    toy.approve(REVIEW, "policy")
    said = toy.cdl(SCIENCE, "data", "show", "--item", items.ids[0])
    assert '"x"' in said and '"y"' not in said


def test_what_a_content_is() -> None:
    assert kind_of("Grüße\n".encode()) == ("text", "Grüße\n")
    assert kind_of(b"\x89PNG\r\n\x1a\nrest")[0] == "PNG picture"
    for data in (b"\xff\xfe", b"a\0b", b"\x93NUMPY"):
        assert kind_of(data) == ("bytes", None)
