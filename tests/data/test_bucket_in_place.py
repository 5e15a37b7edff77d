"""`copy: false` of a bucket: contents stay there, pinned by hash and the bucket's version id, and are held against the hash."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdl.data.dataset import training
from cdl.data.exposed import exposed
from cdl.data.history.reproduce import reproduce_data
from cdl.data.history.rewrite import rewrite
from cdl.data.sources import objects
from cdl.data.sources.objects import Objects
from cdl.errors import Corrupt, NotFound, Refused, Unavailable
from cdl.git.repository import Git
from cdl.registry.records import Dataset, DatasetHead
from cdl.sharing.trust import Trusted, note
from cdl.store import builder, chunk
from cdl.store.bucket import Bucket
from cdl.store.client import Client, Listed, Part
from tests.data.places import CODE, YAML, make, trees
from tests.projects import DATA, ROLES, Toy, make_toy
from tests.s3 import add_bucket, of_server, s3_server

PLAIN, KEPT = "s3://team/raw/points", "s3://kept/raw/points"  # the second keeps versions
BYTES = 20_000
Make = Callable[[str], tuple[Toy, Bucket]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        add_bucket(address, "kept", versions=True)
        yield address


@pytest.fixture
def project(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a project on twenty objects that no compression makes smaller, and one that is cut into chunks."""
    for name, value in of_server(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(chunk, "CHUNKED_BYTES", 200_000)
    monkeypatch.setattr(objects, "PART_BYTES", 100_000)
    monkeypatch.setattr(builder, "LISTED", 5)

    def make_project(place: str) -> tuple[Toy, Bucket]:
        bucket = Bucket(place)
        for each in list(bucket.held("")):
            bucket.delete(each.name)
        for name, data in held().items():
            bucket.put(name, data)
        made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
        made.write("data/steps.py", CODE)
        made.write("cdl.yaml", declared(place))
        return made, bucket

    return make_project


def held() -> dict[str, bytes]:
    found = {f"{'ab'[number % 2]}/{number:02d}.bin": content(number) for number in range(20)}
    return found | {"a/large.bin": b"\1" + random.Random(99).randbytes(250_000), "a/readme.txt": b"it is kept too"}


def declared(place: str) -> str:
    return YAML.replace("path: incoming", f'bucket: "{place}"') + ROLES


def content(number: int) -> bytes:
    return b"\1" + random.Random(number).randbytes(BYTES)


def wanted() -> set[bytes]:
    return {data for name, data in held().items() if name.endswith(".bin")}


def current(toy: Toy) -> str:
    found = toy.become(DATA).registry.head(DatasetHead, "points")
    assert found is not None
    return found.version


def files(toy: Toy) -> list[bytes]:
    """What lies in the store."""
    return [p.read_bytes() for p in (toy.root / ".cdl/store/objects").rglob("*") if p.is_file()]


def test_contents_stay_in_the_bucket(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[list[str]] = []
    close = Objects.close

    def closing(self: Objects) -> None:
        close(self)
        left.append([n for n in os.listdir(self._folder) if n != "held"])

    monkeypatch.setattr(Objects, "close", closing)
    toy, bucket = project(PLAIN)
    parts: Counter[str] = Counter()
    real = Client.part

    def part(client: Client, listed: Listed, start: int, size: int) -> Part | None:
        parts[listed.name] += 1
        return real(client, listed, start, size)

    monkeypatch.setattr(Client, "part", part)
    record = make(toy)
    assert parts == {name: -(-len(data) // 100_000) for name, data in held().items()}  # each was fetched once
    assert left == [[]]  # none of them waits in the temporary folder for the end of the run
    assert sum(map(len, files(toy))) < 2 * BYTES
    train, test, raw = trees(toy, record)
    assert {*train.contents().values(), *test.contents().values()} == wanted() and len(test) and len(train)
    assert {*raw.contents().values()} == {*held().values()}
    assert train.unfit() == test.unfit() == raw.unfit() == []
    assert "0 faults" in toy.cdl(DATA, "data", "verify")
    assert exposed(toy.become(DATA), "points") == [f"{PLAIN} stays in place, in the open (copy: false)"]
    stands = {data: name for name, data in held().items()}
    told = b"\n".join(files(toy))
    assert all(stands[data].encode() not in told for data in test.contents().values())  # a test item's name is sealed
    assert all(stands[data].encode() in told for data in train.contents().values())
    parts.clear()
    bucket.put("b/new.bin", b"\0" + content(50))  # the step changes it: what it makes is stored
    second = make(toy)
    assert [*parts] == ["b/new.bin"] and sum(second.items.values()) == 22
    assert content(50)[::-1] + b"\0" in [d for tree in trees(toy, second)[:2] for d in tree.contents().values()]
    assert make(toy) == second and parts.total() == 1
    done = reproduce_data(toy.become(DATA), current(toy))
    assert [each.identical for each in done] == [True, True, True]


def test_a_bucket_that_keeps_versions_gives_what_was_overwritten(project: Make, tmp_path: Path) -> None:
    toy, bucket = project(KEPT)
    record = make(toy)
    for name in held():
        bucket.put(name, b"x")
    for name in ("a/00.bin", "a/large.bin"):
        bucket.delete(name)
    train, test, _ = trees(toy, record)
    assert {*train.contents().values(), *test.contents().values()} == wanted()
    assert "0 faults" in toy.cdl(DATA, "data", "verify")
    toy.cdl(DATA, "gc", "--remove")
    assert all(line.startswith(("note ", "  ")) for line in toy.cdl(DATA, "doctor", "--full").splitlines())
    toy.cdl(DATA, "data", "checkout", "--to", str(tmp_path / "out"))
    out = tmp_path / "out/source-1"
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == held()


def test_what_changed_or_went_is_named_when_it_is_read(project: Make) -> None:
    toy, bucket = project(PLAIN)
    record = make(toy)
    train = trees(toy, record)[0]
    stands = {data: name for name, data in held().items()}
    places = sorted(train.places.values())[:3]
    names = [stands[bytes(train.view(place))] for place in places]
    bucket.put(names[0], content(77))  # of the same size
    bucket.put(names[1], b"")
    bucket.delete(names[2])
    for place, name in zip(places, names, strict=True):
        with pytest.raises(Corrupt, match=f"{PLAIN}: not what the version holds any more, or gone: {name}"):
            train.view(place)
    with pytest.raises(Corrupt, match=f"{names[0]}, {names[1]}, {names[2]}\n.*put back"):
        train.take(sorted(train.places.values()))
    assert train.unfit() == [train.names[place] for place in places]
    with pytest.raises(Corrupt, match="3 faults"):
        toy.cdl(DATA, "data", "verify")
    second = make(toy)
    assert trees(toy, second)[0].unfit() == []


def test_a_batch_is_fetched_several_at_a_time(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, _ = project(PLAIN)
    make(toy)
    items = training(toy.become(DATA), current(toy), None)
    together = threading.Barrier(5, timeout=60)  # broken unless five requests are under way at once
    real = Client.pinned

    def pinned(client: Client, name: str, version: str | None, whole: int, start: int, size: int) -> bytes | None:
        if whole < 100_000:
            together.wait()
        return real(client, name, version, whole, start, size)

    monkeypatch.setattr(Client, "pinned", pinned)
    small = [place for place, data in enumerate(items._tree.rows.columns["size"].tolist()) if data < 100_000]
    batch = items.take(small[:5])
    assert len(batch.views()) == 5 and {bytes(view) for view in batch.views()} < wanted()


def test_no_other_bucket_is_read_and_none_without_trust(project: Make) -> None:
    toy, _ = project(PLAIN)
    record = make(toy)
    toy.write("cdl.yaml", declared("s3://team/raw"))
    with pytest.raises(Unavailable, match="cdl.yaml names no such source"):
        trees(toy, record)[0].contents()
    toy.write("cdl.yaml", declared(f"{PLAIN}/"))
    assert trees(toy, record)[0].contents()
    note(Git(toy.root), Trusted(code=False))
    with pytest.raises(Refused, match="cdl trust"):
        trees(toy, record)[0].contents()


def test_a_forked_process_is_told_that_it_cannot_read(project: Make) -> None:
    toy, _ = project(PLAIN)
    train = trees(toy, make(toy))[0]
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # the library would wait for ever
        try:
            train.view(0)
        except Unavailable as error:
            os._exit(7 if "num_workers=0" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_erased_item_leaves_no_name_in_the_lists(project: Make) -> None:
    toy, _ = project(PLAIN)
    train = trees(toy, make(toy))[0]
    item = min(train.names)
    name = {data: name for name, data in held().items()}[train.get(item)]
    others = {n: d for n, d in train.contents().items() if n != item}
    assert name.encode() in b"\n".join(files(toy))
    toy.cdl(DATA, "data", "erase", item, "--yes")
    assert name.encode() not in b"\n".join(files(toy))
    left = trees(toy, toy.become(DATA).registry.record(Dataset, current(toy)))[0]
    with pytest.raises(NotFound, match="was erased"):
        left.get(item)
    assert left.contents() == others
    third = make(toy)  # where it still lies
    assert item not in trees(toy, third)[0] and sum(third.items.values()) == 20


def test_a_merge_and_sealing_again_leave_contents_in_the_bucket(project: Make) -> None:
    toy, bucket = project(KEPT)
    git = toy.become(DATA).git
    git.run("add", "cdl.yaml", "data")
    git.run("commit", "--quiet", "--message", "declared")
    make(toy)
    git.run("switch", "--quiet", "-c", "theirs")
    bucket.put("a/theirs.bin", content(50))
    make(toy)
    git.run("switch", "--quiet", "main")
    bucket.delete("a/theirs.bin")
    bucket.put("a/ours.bin", content(60))
    make(toy)
    assert git.call("merge", "--no-edit", "theirs").returncode == 1
    before = sum(map(len, files(toy)))
    assert "1 items as in theirs" in toy.cdl(DATA, "data", "merge")
    git.run("commit", "--quiet", "--no-edit")
    record = toy.become(DATA).registry.record(Dataset, current(toy))
    again = toy.become(DATA).registry.record(Dataset, rewrite(toy.become(DATA), "points"))
    assert sum(map(len, files(toy))) - before < BYTES
    for version in (record, again):
        found = trees(toy, version)
        assert all(tree.outside == {*tree.names} for tree in found)
        items = {data for tree in found[:2] for data in tree.contents().values()}
        assert items == wanted() | {content(50), content(60)}
