"""An item's bytes go everywhere they are, a tombstone stays, and everything else stays readable."""

import json
import random
from pathlib import Path

import pytest

from cdl.data.dataset import training
from cdl.data.labels import from_source
from cdl.data.pipeline import ledger
from cdl.data.versions import make
from cdl.errors import ConfigError, Conflict, Corrupt, NotFound, Refused
from cdl.housekeeping.erase import erase, plan
from cdl.housekeeping.gc import collect
from cdl.registry.records import Dataset, Labels, Model
from cdl.sharing.push import push
from cdl.store.erased import ERASED, Tombstone, encode
from cdl.store.hold import holding
from cdl.store.remote import Folder
from cdl.store.store import Store, digest
from cdl.store.table import read_root
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, REVIEW, SCIENCE, YAML, make_toy, table
from tests.sharing.conftest import Team

FILES = YAML.replace("{rows: {format: csv, id: id, label: side}}", '{files: "*.json"}').replace(
    "origin: {source: true}", "origin: {csv: {path: sides.csv, item: item, label: side}}"
)


def version(workspace: Workspace) -> Dataset:
    """The only version."""
    return workspace.registry.all(Dataset)[0][1]


def holding_bytes(folder: Path, data: bytes) -> list[Path]:
    """The files below a folder that hold some bytes in the open."""
    return [p for p in folder.rglob("*") if p.is_file() and data in p.read_bytes()]


def an_item(workspace: Workspace, side: str) -> tuple[str, bytes]:
    """An item of a side, with its bytes."""
    if side == "train":
        tree = workspace.store.tree(version(workspace).train)
    else:
        tree = workspace.vault("points", by="test").tree(version(workspace).test)
    return tree.names[3], bytes(tree.view(3))


def opened(workspace: Workspace, record: Dataset) -> dict[str, bytes]:
    """Every item of a version that can be read."""
    tree = workspace.vault("points", by="test").tree(record.test)
    return workspace.store.tree(record.train).contents() | tree.contents()


def packs_of(workspace: Workspace, tree: str) -> list[str]:
    """The objects that the contents of a tree lie in."""
    return list(read_root(workspace.store.view(tree), where=tree)["needs"])


@pytest.mark.parametrize("side", ["train", "test"])
def test_the_bytes_go_everywhere_and_nothing_else_does(shared: Team, tmp_path: Path, side: str) -> None:
    a = shared.a.become(DATA)
    item, data = an_item(a, side)
    before = opened(a, version(a))
    packs = packs_of(a, version(a).test if side == "test" else version(a).train)
    raw = packs_of(a, version(a).sources[0].raw)
    assert side == "test" or (holding_bytes(shared.store, data) and holding_bytes(shared.b.root / ".cdl", data))
    assert collect(a.clone, remove=False, older_than=0).gone, (
        "nothing that was computed from it is kept for the next time"
    )
    said = shared.a.cdl(DATA, "data", "erase", item[:10], "--because", "she asked", "--yes")
    assert collect(shared.a.become(DATA).clone, remove=False, older_than=0).gone == {}
    model = next(i for i in said.split() if i.startswith("m-"))
    assert f"item {item} of points" in said and "whole raw file, which goes: points.csv" in said
    assert "affected: dataset version d-" in said and "label snapshot l-" in said and "out of reach" in said and model
    for toy, who in ((shared.a, DATA), (shared.b, SCIENCE)):
        toy.cdl(who, "sync")
        assert not holding_bytes(toy.root / ".cdl/store", data), toy.root
        assert not any(toy.become(who).store.has(p) for p in [*packs, *raw])
    assert not holding_bytes(shared.store, data)
    assert not any((shared.store / "objects" / p[2:4] / p[4:]).exists() for p in [*packs, *raw])
    a = shared.a.become(DATA)
    assert opened(a, version(a)) == {i: d for i, d in before.items() if i != item}
    vault = a.vault("points", by="test")
    assert not any(data in bytes(vault.read(p)) for p in packs)
    assert raw == packs_of(a, version(a).sources[0].raw) and not any(a.store.has(a.store.standing(p)) for p in raw)
    with pytest.raises(NotFound, match="was erased") as caught:
        (
            training(a, a.registry.all(Dataset)[0][0], None)
            if side == "train"
            else a.vault("points", by="test").tree(version(a).test).get(item)
        )
    assert "she asked" in str(caught.value) and DATA in str(caught.value) and item[:12] in str(caught.value)
    c = shared.another(tmp_path / "c", DATA)
    assert not holding_bytes(c.root / ".cdl/store", data) and not list(c.become(DATA).store.verify())
    for toy, who in ((shared.a, DATA), (shared.b, SCIENCE), (c, DATA)):
        assert "wrong " not in toy.cdl(who, "doctor"), who
        assert collect(toy.become(who).clone, remove=True, older_than=0).missing == 0
    assert set(opened(shared.a.become(DATA), version(a))) == set(before) - {item}


def test_the_source_may_not_bring_it_back_and_work_goes_on_without_it(shared: Team) -> None:
    a = shared.a.become(DATA)
    item, data = an_item(a, "train")
    name = ledger.read(a.vault("points", by="test"), version(a).split.ledger).origins[item].name
    shared.a.cdl(DATA, "data", "erase", item, "--yes")
    a = shared.a.become(DATA)
    found = ledger.read(a.vault("points", by="test"), version(a).split.ledger)
    assert name not in [o.name for o in found.origins.values()] and found.origins[item].label is None
    with pytest.raises(Refused, match="still stand in the source"):
        make(shared.a.become(DATA), "points")
    with pytest.raises(Refused, match="were erased"):
        a.store.put(data)
    rows = [line for line in table(120).splitlines() if not line.startswith(name + ",")]
    made = shared.a.data("\n".join(rows) + "\n")
    record = next(d for i, d in made.registry.all(Dataset) if d.parent is not None)
    assert item not in opened(made, record) and len(opened(made, record)) == 119
    new = made.registry.all(Labels)
    assert len(new) == 2
    model = shared.a.model("exp/second")
    assert shared.a.cdl(DATA, "model", "evaluate", model)
    old = next(i for i, d in made.registry.all(Dataset) if d.parent is None)
    said = shared.a.cdl(DATA, "reproduce", old)
    assert "not made again" in said and f"held item {item[:12]}" in said
    assert "DIFFERENT" not in shared.a.cdl(DATA, "reproduce", model)
    assert "wrong " not in shared.a.cdl(DATA, "doctor")


@pytest.mark.parametrize("after", [1, 2, 4, 6])
def test_killed_in_between_it_goes_on(shared: Team, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    a = shared.a.become(DATA)
    item, _ = an_item(a, "test")
    before = opened(a, version(a))
    packs = packs_of(a, version(a).test)
    real, calls = Store.remove, list[str]()

    def dies(self: Store, name: str, *, older_than: float | None = None) -> bool:
        calls.append(name)
        if len(calls) == after:
            raise RuntimeError("killed")
        return real(self, name, older_than=older_than)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", dies)
        with pytest.raises(RuntimeError):
            shared.a.cdl(DATA, "data", "erase", item, "--yes")
    with pytest.raises(Corrupt, match="things are wrong"):
        shared.a.cdl(DATA, "doctor")
    midway = opened(shared.a.become(DATA), version(a))
    assert midway | {item: before[item]} == before and midway.get(item, before[item]) == before[item]
    shared.b.cdl(SCIENCE, "sync")
    assert "wrong " not in shared.b.cdl(SCIENCE, "doctor")
    shared.a.cdl(DATA, "data", "erase", item, "--yes")
    a = shared.a.become(DATA)
    assert opened(a, version(a)) == {i: d for i, d in before.items() if i != item}
    assert not any(a.store.has(p) for p in packs)
    shared.b.cdl(SCIENCE, "sync")
    for toy, who in ((shared.a, DATA), (shared.b, SCIENCE)):
        assert "wrong " not in toy.cdl(who, "doctor", "--full")
    assert not list((shared.a.root / ".cdl/erasing").iterdir())


def test_two_items_of_one_pack_go_one_after_the_other(shared: Team) -> None:
    a = shared.a.become(DATA)
    tree = a.vault("points", by="test").tree(version(a).test)
    before = opened(a, version(a))
    for item in tree.names[:2]:
        shared.a.cdl(DATA, "data", "erase", item, "--yes")
    a = shared.a.become(DATA)
    assert set(opened(a, version(a))) == set(before) - set(tree.names[:2])
    assert len({a.store.standing(p) for p in packs_of(a, version(a).test)}) == 1
    shared.b.cdl(SCIENCE, "sync")
    assert "wrong " not in shared.b.cdl(SCIENCE, "doctor", "--full")
    with pytest.raises(NotFound, match="no item"):
        plan(a, "points", "0" * 8)


def test_only_the_data_engineer_and_only_when_asked_and_nothing_runs(shared: Team) -> None:
    a = shared.a.become(DATA)
    item, _ = an_item(a, "train")
    with pytest.raises(Refused, match="nobody is asked"):
        shared.a.cdl(DATA, "data", "erase", item)
    with pytest.raises(Refused, match="data erase is for data_engineer"):
        shared.a.cdl(REVIEW, "data", "erase", item, "--yes")
    with holding(a.folder), pytest.raises(Conflict, match="works here"):
        erase(a, plan(a, "points", item))
    assert not a.store.claims(ERASED)


def test_a_clone_that_sends_it_once_more_loses_it_with_its_next_sync(shared: Team) -> None:
    a = shared.a.become(DATA)
    item, data = an_item(a, "train")
    name = packs_of(a, version(a).train)[0]
    data = a.store.get(name)
    shared.a.cdl(DATA, "data", "erase", item, "--yes")
    place = shared.store / "objects" / name[:2] / name[2:]
    place.write_bytes(data)  # who was sending it just then
    assert "erased, and lies there" in shared.a.cdl(DATA, "doctor", "--mend") and not place.exists()
    place.write_bytes(data)
    assert shared.b.become(SCIENCE).store.has(name)
    shared.b.cdl(SCIENCE, "sync")
    assert not place.exists() and not shared.b.become(SCIENCE).store.has(name)


@pytest.mark.parametrize("way", ["claim", "parcel"])
def test_a_tombstone_that_no_key_of_the_dataset_signed_is_named_and_not_followed(shared: Team, way: str) -> None:
    a = shared.a.become(DATA)
    name = a.registry.all(Model)[0][1].weights
    other = a.store.put(b"read this instead")
    forged = encode(
        Tombstone(instead=other, items=["points/" + "0" * 32], who=DATA, when="now", signature="ed25519:00")
    )
    claim = ERASED + name
    if way == "claim":
        place = shared.store / "claims" / claim
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(forged)
    else:
        a.store.claim(claim, forged)
        a.journal.append("project.initialized", who=DATA)
        shared.a.become(DATA)
        push(shared.a.become(DATA).clone, Folder(shared.store))
    with pytest.raises(Corrupt, match="fault"):
        shared.b.cdl(SCIENCE, "sync")
    b = shared.b.become(SCIENCE)
    assert b.store.erased(name) is None and digest(b.store.get(name)) == name


def test_files_with_the_same_bytes_go_too_and_are_left_out_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=FILES)
    lines = ["item,side"]
    for n, row in enumerate(table(40).splitlines()[1:]):
        _, x, y, side = row.split(",")
        toy.write(f"incoming/{n:03d}.json", json.dumps({"x": x, "y": y}))
        lines.append(f"{n:03d}.json,{side}")
    toy.write("incoming/900.json", (toy.root / "incoming/007.json").read_text())
    toy.write("sides.csv", "\n".join([*lines, "900.json,left"]) + "\n")
    make(toy.become(DATA), "points")
    workspace = toy.become(DATA)
    origins = ledger.read(workspace.vault("points", by="test"), version(workspace).split.ledger).origins
    item = next(i for i, o in origins.items() if o.name == "007.json")
    twin = next(i for i, o in origins.items() if o.name == "900.json")
    said = toy.cdl(DATA, "data", "erase", "007.json", "--yes")
    assert (
        f"item {item} of points" in said
        and f"the same bytes, which go too: item {twin}" in said
        and "whole raw file, which goes: 900.json" in said
    )
    assert set(opened(toy.become(DATA), version(workspace))) == set(origins) - {item, twin}
    with pytest.raises(ConfigError, match=r"(?s)sides\.csv: line 9: no item '007\.json'.*items erased \(1\)"):
        from_source(toy.become(DATA), "points")
    with pytest.raises(NotFound, match=r"items erased \(1\), and their names"):
        toy.cdl(DATA, "data", "erase", "007.json", "--yes")
    with pytest.raises(Conflict, match=f"item {item[:12]} was erased at 20.* by {DATA}"):
        toy.cdl(DATA, "data", "erase", item, "--yes")
    toy.write("sides.csv", "\n".join(line for line in lines if not line.startswith("007")) + "\n")
    assert len(from_source(toy.become(DATA), "points")) == 39
    make(toy.become(DATA), "points")
    assert any("left out: 2 files" in line for line in toy.said)
    record = next(d for _, d in toy.become(DATA).registry.all(Dataset) if d.parent is not None)
    assert set(opened(toy.become(DATA), record)) == set(origins) - {item, twin}


@pytest.mark.parametrize("which", ["one", "other"])
def test_chunks_that_another_item_needs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    monkeypatch.setattr("cdl.store.chunk.CHUNKED_BYTES", 2_000_000)
    yaml = FILES.replace('{files: "*.json"}', '{files: "*.bin"}').replace(
        ", origin: {csv: {path: sides.csv, item: item, label: side}}", ""
    )
    yaml = yaml.replace("split: {test: 0.3}", "split: {test: 0}").replace("    require: [items >= 10]\n", "")
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=yaml)
    shared_part, drawn = random.Random(1).randbytes(3_000_000), random.Random(2)
    files = {name: shared_part + drawn.randbytes(900_000) for name in ("one", "other", "third")} | {"empty": b""}
    (toy.root / "incoming").mkdir()
    for name, data in files.items():
        (toy.root / f"incoming/{name}.bin").write_bytes(data)
    make(toy.become(DATA), "points")
    own = files[which][-200:]
    assert holding_bytes(toy.root / ".cdl/store", own)
    for name in (which, "empty"):
        toy.cdl(DATA, "data", "erase", f"{name}.bin", "--yes")
    workspace = toy.become(DATA)
    assert sorted(opened(workspace, version(workspace)).values()) == sorted(
        files[n] for n in files if n not in (which, "empty")
    )
    assert not holding_bytes(toy.root / ".cdl/store", own)
    assert workspace.store.put(b"") and "wrong " not in toy.cdl(DATA, "doctor", "--full")
