"""`copy: false`: contents stay in their folder, pinned by hash, and are held against it when they are read."""

import os
import random
import shutil
from pathlib import Path

import pytest

from cdl.data.exposed import exposed
from cdl.data.history.reproduce import reproduce_data
from cdl.data.history.rewrite import rewrite
from cdl.data.sources.outside import place_of
from cdl.errors import ConfigError, Conflict, Corrupt, NotFound, Unavailable
from cdl.registry.records import Dataset, DatasetHead
from cdl.store import chunk
from tests.data.places import CODE, YAML, make, trees
from tests.projects import DATA, ROLES, Toy, make_toy

BYTES = 40_000


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Twenty files that no compression makes smaller, and one that is cut into chunks."""
    monkeypatch.setattr("cdl.data.sources.looked.TICK", 0)
    monkeypatch.setattr(chunk, "CHUNKED_BYTES", 2_000_000)
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.write("data/steps.py", CODE)
    made.write("cdl.yaml", YAML + ROLES)
    for number in range(20):
        put(made, f"{'ab'[number % 2]}/{number:02d}.bin", content(number))
    put(made, "a/large.bin", b"\1" + random.Random(99).randbytes(2_500_000))
    put(made, "a/readme.txt", b"it is kept too")
    return made


def put(toy: Toy, name: str, data: bytes) -> None:
    place = toy.root / "incoming" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


def content(number: int) -> bytes:
    return b"\1" + random.Random(number).randbytes(BYTES)


def taken(toy: Toy) -> int:
    """Bytes in the store."""
    return sum(p.stat().st_size for p in (toy.root / ".cdl/store/objects").rglob("*") if p.is_file())


def test_contents_stay_where_they_are(toy: Toy) -> None:
    record = make(toy)
    assert taken(toy) < 2 * BYTES  # of 21 files
    train, test, raw = trees(toy, record)
    wanted = {p.read_bytes() for p in (toy.root / "incoming").rglob("*.bin")}
    assert {*train.contents().values(), *test.contents().values()} == wanted and len(test)
    assert {*raw.contents().values()} == {*wanted, b"it is kept too"}
    assert train.unfit() == test.unfit() == []
    put(toy, "b/new.bin", b"\0" + content(50))  # the step changes it: what it makes is stored
    second = make(toy)
    assert sum(second.items.values()) == 22
    assert content(50)[::-1] + b"\0" in [bytes(d) for tree in trees(toy, second)[:2] for d in tree.contents().values()]
    assert exposed(toy.become(DATA), "points") == ["incoming stays in place, in the open (copy: false)"]
    assert "0 faults" in toy.cdl(DATA, "data", "verify")


def test_what_changed_or_went_is_told_when_it_is_read(toy: Toy) -> None:
    record = make(toy)
    train = trees(toy, record)[0]
    place = min(train.places.values())
    name = next(p for p in (toy.root / "incoming").rglob("*.bin") if p.read_bytes() == train.view(place))
    whole = name.read_bytes()
    os.chmod(name, 0o600)
    name.write_bytes(whole[:-1] + b"?")
    with pytest.raises(Corrupt, match=f"incoming/.*{name.name}: it is not what the version holds any more"):
        train.view(place)
    assert train.unfit() == [train.names[place]]
    with pytest.raises(Corrupt, match="faults"):
        toy.cdl(DATA, "data", "verify")
    name.unlink()
    with pytest.raises(Unavailable, match="put it back"):
        train.view(place)
    name.write_bytes(whole)
    shutil.move(toy.root / "incoming", toy.root / "away")
    with pytest.raises(Unavailable, match="copy: false.*not here"):
        trees(toy, record)[0].view(place)


def test_who_has_the_key_verifies_test_items_too(toy: Toy) -> None:
    record = make(toy)
    _, test, _ = trees(toy, record)
    wanted = bytes(test.view(min(test.places.values())))
    place = next(p for p in (toy.root / "incoming").rglob("*.bin") if p.read_bytes() == wanted)
    os.chmod(place, 0o600)
    place.write_bytes(wanted[:-1] + b"?")
    said, _ = toy.refused(DATA, "data", "verify")
    assert f"test item {test.names[min(test.places.values())][:12]} is not what the tree says" in said
    assert place.name not in said
    (toy.root.parent / "keyring").rename(toy.root.parent / "away")
    assert "0 faults" in toy.cdl(DATA, "data", "verify")


def test_a_clone_with_the_folder_finds_each_content_by_its_hash(toy: Toy) -> None:
    record = make(toy)
    workspace = toy.become(DATA)
    place_of(workspace.root, workspace.folder, "incoming").unlink()  # what another clone does not have
    for at, path in enumerate(sorted((toy.root / "incoming").rglob("*.bin"))):
        path.rename(path.with_name(f"renamed-{at}.bin"))
    train = trees(toy, record)[0]
    assert len(train.contents()) == record.items["train"]
    assert any("are read to know which is which" in line for line in toy.said)
    toy.write("cdl.yaml", YAML.replace("incoming", "elsewhere") + ROLES)
    with pytest.raises(Unavailable, match="cdl.yaml names no such source"):  # no other folder is looked into
        trees(toy, record)[0].contents()


def test_it_can_be_changed_either_way(toy: Toy) -> None:
    first = make(toy)
    toy.write("cdl.yaml", YAML.replace(", copy: false", "") + ROLES)
    copied = make(toy)
    assert copied.train != first.train and taken(toy) > 20 * BYTES
    shutil.move(toy.root / "incoming", toy.root / "away")
    for tree in trees(toy, copied):
        tree.contents()  # all of it is in the store
    shutil.move(toy.root / "away", toy.root / "incoming")
    toy.write("cdl.yaml", YAML + ROLES)
    again = make(toy)
    assert [tree.rows.columns["at"].min() for tree in trees(toy, again)] == [
        tree.rows.columns["at"].min() for tree in trees(toy, first)
    ]


def test_a_checkout_elsewhere_copies_and_gc_takes_no_file(toy: Toy, tmp_path: Path) -> None:
    record = make(toy)
    toy.cdl(DATA, "data", "checkout", "--to", str(tmp_path / "out"))
    there = {p.relative_to(tmp_path / "out").name: p.read_bytes() for p in (tmp_path / "out").rglob("*.bin")}
    assert there == {p.name: p.read_bytes() for p in (toy.root / "incoming").rglob("*.bin")}
    toy.cdl(DATA, "gc", "--remove")
    assert all(tree.contents() for tree in trees(toy, record))


def test_only_a_folder_can_stay(toy: Toy) -> None:
    toy.write("cdl.yaml", YAML.replace("path: incoming", "path: incoming/a/00.bin") + ROLES)
    with pytest.raises(ConfigError, match="only the files of a folder"):
        make(toy)
    toy.write("cdl.yaml", YAML.replace("path: incoming", "command: [ls]") + ROLES)
    with pytest.raises(ConfigError, match="only what lies in a folder"):
        make(toy)


def test_an_erased_item_is_gone_from_the_version_and_its_file_is_the_persons(toy: Toy) -> None:
    record = make(toy)
    train = trees(toy, record)[0]
    item = min(train.names)
    data = train.get(item)
    toy.cdl(DATA, "data", "erase", item, "--yes")
    with pytest.raises(NotFound, match="was erased"):
        trees(toy, record)[0].get(item)
    assert len(trees(toy, record)[0].contents()) == len(train) - 1
    assert data in [
        p.read_bytes() for p in (toy.root / "incoming").rglob("*.bin")
    ]  # it says: take it out of the source
    second = make(toy)  # where it still lies
    assert item not in trees(toy, second)[0] and sum(second.items.values()) == 20


def test_nothing_is_removed_from_the_folder_by_a_checkout(toy: Toy) -> None:
    make(toy)
    path = next((toy.root / "incoming").rglob("01.bin"))
    path.rename(path.with_name("renamed.bin"))  # the only copy
    with pytest.raises(Conflict, match="1 files are not as in"):
        toy.cdl(DATA, "data", "checkout")
    with pytest.raises(Conflict, match="stay in place"):
        toy.cdl(DATA, "data", "checkout", "--force")
    assert path.with_name("renamed.bin").read_bytes() == content(1)


def test_a_merge_leaves_contents_and_folder_as_they_are(toy: Toy) -> None:
    git = toy.become(DATA).git
    git.run("add", "cdl.yaml", "data")
    git.run("commit", "--quiet", "--message", "declared")
    make(toy)
    git.run("switch", "--quiet", "-c", "theirs")
    put(toy, "a/theirs.bin", content(50))
    changed = toy.root / "incoming/b/01.bin"
    put(toy, "b/01.bin", content(51))
    make(toy)
    git.run("switch", "--quiet", "main")
    shutil.move(toy.root / "incoming/a/theirs.bin", toy.root / "aside")
    changed.write_bytes(content(1))
    put(toy, "a/ours.bin", content(60))
    make(toy)
    assert git.call("merge", "--no-edit", "theirs").returncode == 1
    before = taken(toy)
    said = toy.cdl(DATA, "data", "merge")  # what theirs added is not here
    assert "2 items as in theirs" in said and "incoming: left alone, its files stay where they are" in said
    assert taken(toy) - before < BYTES and not (toy.root / "incoming/a/theirs.bin").exists()
    git.run("commit", "--quiet", "--no-edit")
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None
    record = toy.become(DATA).registry.record(Dataset, head.version)
    assert all(tree.outside == {*tree.names} for tree in trees(toy, record))
    shutil.move(toy.root / "aside", toy.root / "incoming/a/theirs.bin")
    changed.write_bytes(content(51))
    make(toy)  # from what is there now: the same, and which file is which is known
    again = toy.become(DATA).registry.head(DatasetHead, "points")
    assert again is not None and again.version == head.version
    joined = [data for tree in trees(toy, record)[:2] for data in tree.contents().values()]
    assert {content(50), content(51), content(60)} <= {*joined} and len(joined) == 23
    assert [each.identical for each in reproduce_data(toy.become(DATA), head.version)] == [True]


def test_sealing_again_leaves_contents_where_they_are(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make(toy)
    before = taken(toy)
    shutil.move(toy.root / "incoming", toy.root / "away")  # nothing is read
    again = toy.become(DATA).registry.record(Dataset, rewrite(toy.become(DATA), "points"))
    assert taken(toy) - before < BYTES
    shutil.move(toy.root / "away", toy.root / "incoming")
    for new, was in zip(trees(toy, again), trees(toy, record), strict=True):
        assert new.contents() == was.contents() and new.outside == {*new.names}


def test_what_was_made_from_large_files_in_place_is_made_again(toy: Toy) -> None:
    make(toy)
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None
    assert [each.identical for each in reproduce_data(toy.become(DATA), head.version)] == [True, True, True]
