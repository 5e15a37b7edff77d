"""A dataset as code sees it: items, whole batches, inputs and targets for torch; read when asked for, masked, never sealed."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import cdl
from cdl.data import versions
from cdl.data.dataset import Dataset, Item, dataset_record, training
from cdl.data.ready import released
from cdl.errors import ConfigError, NotFound
from cdl.store.builder import Builder
from cdl.store.store import Store
from tests.projects import DATA, YAML, Toy, make_toy, table

ARRAYS = """\
cdl: 1
project: toy
data:
  points:
    source: {path: incoming}
    items: {arrays: {data: "pack.npz#images", labels: "pack.npz#classes"}}
    split: {test: 0.3}
    labels: {classes: ["0", "1", "2"], origin: {source: true}}
"""
IMAGES = np.arange(60 * 4 * 6, dtype=">i2").reshape(60, 4, 6)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Points in a table, with a column that is masked."""
    made = make_toy(
        tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=YAML.replace("    require:", "    mask: [y]\n    require:")
    )  # fmt: skip
    made.data(table(60))
    return made


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Arrays with labels."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=ARRAYS)
    (made.root / "incoming").mkdir()
    np.savez(made.root / "incoming" / "pack.npz", images=IMAGES, classes=np.arange(60) % 3)
    versions.make(made.become(DATA), "points")
    made.approve(DATA, "data")
    return made


def opened(toy: Toy) -> Dataset:
    found: Dataset = cdl.open(toy.root).data["points"]
    return found


def test_items_by_place_without_masked_columns_and_without_a_key(rows: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEYRING", str(rows.root / "none"))
    events = len(rows.become(DATA).journal.events("sealed.opened"))
    data = opened(rows)
    assert 30 < len(data) < 60 and data.set == "train" and data.classes == ("left", "right")
    assert list(data.ids) == sorted(data.ids) and len(data.contents) == len(data.labels) == len(data.fields) == len(
        data
    )
    item = data.item(3)
    assert item == Item(id=data.ids[3], content=data.contents[3], fields={}, label=data.labels[3])
    assert json.loads(item.content).keys() == {"x"} and item.label in data.classes
    assert [bytes(v) for v in data.views()] == list(data.contents) == data.contents[:]
    assert data[3] == (item.content, data.classes.index(item.label or ""))
    assert data[-1] == data[len(data) - 1]
    for place in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data.item(place)
        with pytest.raises(IndexError):
            data.take([place])
    assert len(rows.become(DATA).journal.events("sealed.opened")) == events


def test_a_name_that_is_not_there_and_a_dataset_without_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    data = cdl.open(toy.root).data
    assert list(data) == ["points"] and "points" in data and "pionts" not in data
    with pytest.raises(KeyError):
        data["pionts"]
    with pytest.raises(NotFound):
        data["points"]


def test_a_batch_has_its_items_in_the_order_asked(pictures: Toy) -> None:
    data = opened(pictures)
    places = [5, 0, 5, len(data) - 1]
    batch = data.take(places)
    assert batch.ids == tuple(data.ids[i] for i in places) and batch.labels == tuple(data.labels[i] for i in places)
    assert list(batch.contents) == [data.contents[i] for i in places]
    assert batch.take([3, 1]).ids == (batch.ids[3], batch.ids[1])
    arrays = batch.arrays()
    assert (
        arrays.shape == (4, 4, 6)
        and arrays.dtype == np.dtype("i2")
        and arrays.dtype.isnative
        and arrays.flags.writeable
    )
    assert [a.tolist() for a in arrays] == [np.load(io.BytesIO(c)).tolist() for c in batch.contents]
    number = {IMAGES[i].tobytes(): i for i in range(60)}
    labels = [number[a.astype(">i2").tobytes()] % 3 for a in data.arrays()]
    assert data.targets().tolist() == labels and data.targets().dtype == np.int64 and set(labels) == {0, 1, 2}
    empty = data.take([])
    assert len(empty) == 0 and list(empty.contents) == [] and empty.targets().shape == (0,)
    with pytest.raises(ConfigError, match="no item"):
        empty.arrays()


def test_fields_are_those_of_each_item_without_masked_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    builder = Builder(store)
    for number in range(3):
        builder.add(f"i{number}", b"words", {"year": 2000 + number, "note": "hidden"})
    tree = store.tree(builder.finish())
    data = Dataset(tree, np.arange(3), set="train", labels=[None] * 3, mask=frozenset(["note"]))
    assert (
        list(data.fields) == [{"year": 2000}, {"year": 2001}, {"year": 2002}]
        and data.take([2]).fields[0]["year"] == 2002
    )
    assert data.item(1).fields == {"year": 2001} and data.fields[-1:] == [{"year": 2002}]


def test_torch_loads_whole_batches(pictures: Toy) -> None:
    data = opened(pictures)
    inputs, targets = zip(*DataLoader(data, batch_size=16), strict=True)
    assert [len(t) for t in targets[:-1]] == [16] * (len(targets) - 1)
    assert inputs[0].dtype == torch.int16 and targets[0].dtype == torch.int64
    assert torch.equal(torch.cat(inputs), torch.from_numpy(data.arrays()))
    assert torch.cat(targets).tolist() == data.targets().tolist()
    picture, target = data[2]
    assert (
        isinstance(picture, np.ndarray)
        and picture.tolist() == data.arrays()[2].tolist()
        and target == data.targets()[2]
    )


def test_rows_are_no_arrays_and_an_unlabeled_item_has_no_target(rows: Toy) -> None:
    data = opened(rows)
    with pytest.raises(ConfigError, match="no npy array"):
        data.arrays()
    workspace = rows.become(DATA)
    before = training(workspace, released(workspace, "points")[0], None)
    assert set(before.targets().tolist()) == {-1} and before[0][1] == -1 and len(before.labeled()) == 0
    (inputs, targets), *_ = DataLoader(data, batch_size=4)
    assert list(inputs) == list(data.take(range(4)).contents) and targets.tolist() == data.targets()[:4].tolist()


def test_nothing_is_read_before_it_is_asked_for(pictures: Toy) -> None:
    record = versions.make(pictures.become(DATA), "points")
    workspace = pictures.become(DATA)
    tree = workspace.store.tree(dataset_record(workspace, record).train)
    for pack in set(tree.rows.needs):
        workspace.store.remove(pack)
    data = opened(pictures)
    assert len(data) == len(tree) and len(data.take([1, 2]).labels) == 2
    with pytest.raises(NotFound, match="not in the store"):
        data.take([1]).views()
