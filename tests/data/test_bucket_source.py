"""A source that is a bucket: objects are fetched once, in parallel ahead of the reader, and only what changed."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdl.config.load import parse
from cdl.config.schema import Source
from cdl.data import versions
from cdl.data.pipeline import pending
from cdl.data.sources import objects
from cdl.data.sources.fetch import check_names, fetched
from cdl.data.sources.watch import Watch
from cdl.errors import ConfigError, Refused, Unavailable
from cdl.git.repository import Git
from cdl.registry.records import Dataset, DatasetHead
from cdl.sharing.trust import Trusted, note
from cdl.store.bucket import Bucket
from cdl.store.client import Client, Listed, Part
from tests.projects import DATA, FILES, ROLES, Toy, make_toy
from tests.s3 import of_server, s3_server

PLACE = "s3://team/raw/points"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The prefix that is the source, empty."""
    for name, value in of_server(server).items():
        monkeypatch.setenv(name, value)
    made = Bucket(PLACE)
    for each in list(made.held("")):
        made.delete(each.name)
    return made


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests for content, by name."""
    found: list[str] = []
    real, lock = Client.part, threading.Lock()

    def part(client: Client, listed: Listed, start: int, size: int) -> Part | None:
        with lock:
            found.append(listed.name)
        return real(client, listed, start, size)

    monkeypatch.setattr(Client, "part", part)
    return found


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> Toy:
    """Points as objects."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.write("cdl.yaml", FILES.replace("{path: incoming}", f'{{bucket: "{PLACE}/"}}') + ROLES)
    made.write("sides.csv", "item,side\n")
    for number in range(20):
        bucket.put(f"{number % 3}/{number:03d}.json", point(number))
    return made


def point(number: int) -> bytes:
    return json.dumps({"x": number, "y": 1}).encode()


def make(toy: Toy) -> Dataset:
    workspace = toy.become(DATA)
    return workspace.registry.record(Dataset, versions.make(workspace, "points"))


def read(place: str = PLACE) -> dict[str, bytes]:
    """Every object through the source."""
    with fetched(Source(bucket=place), Path()) as files:
        files.expect(files)
        return dict(files)


def test_only_what_is_new_or_changed_is_fetched_and_once(toy: Toy, bucket: Bucket, parts: list[str]) -> None:
    first = make(toy)
    assert sum(first.items.values()) == 20 and set(Counter(parts).values()) == {1} and len(parts) == 20
    assert [(s.bucket, s.path) for s in first.sources] == [(f"{PLACE}/", None)]
    parts.clear()
    assert make(toy) == first and parts == []
    assert not pending.pending(toy.become(DATA), "points")  # `cdl run` leaves it alone
    bucket.put("0/000.json", point(0).replace(b"1", b"2"))  # of the same size
    bucket.put("9/new.json", point(101))
    bucket.delete("1/001.json")
    second = make(toy)
    assert sorted(parts) == ["0/000.json", "9/new.json"]
    assert sum(second.items.values()) == 20 and second.parent is not None
    (toy.root / ".cdl/looked/points.bin").unlink()  # as in another clone: all are fetched, and nothing differs
    assert make(toy) == second and len(parts) == 22


def test_objects_come_several_at_a_time_and_large_ones_in_parts(
    bucket: Bucket, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 1000)
    held = {f"{number:02d}": bytes([number]) * (number * 331) for number in range(12)}
    for name, data in held.items():
        bucket.put(name, data)
    bucket.put(".hidden", b"x")
    bucket.put("folder/.git/x", b"x")
    together = threading.Barrier(3, timeout=60)  # broken unless three requests are under way at once
    real = Client.part

    def part(client: Client, listed: Listed, start: int, size: int) -> Part | None:
        if listed.name in ("01", "02", "03"):
            together.wait()
        return real(client, listed, start, size)

    monkeypatch.setattr(Client, "part", part)
    assert read() == held
    assert Counter(parts) == {name: -(-len(data) // 1000) for name, data in held.items() if data}


def test_no_more_is_fetched_ahead_than_fits(bucket: Bucket, parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "AHEAD_BYTES", 250)
    for number in range(12):
        bucket.put(f"{number:02d}", bytes(100))
    with ExitStack() as held:
        files = held.enter_context(fetched(Source(bucket=PLACE), Path()))
        files.expect(files)
        assert files["00"] == bytes(100)
        for _ in range(600):
            if len(parts) > 3:
                break
            time.sleep(0.1)
    assert sorted(parts) == ["00", "01", "02", "03"]


def test_an_object_that_changes_while_it_is_read_is_named(bucket: Bucket) -> None:
    bucket.put("a", b"one")
    bucket.put("b", b"one")
    with fetched(Source(bucket=PLACE), Path()) as files:
        bucket.put("a", b"two")
        bucket.delete("b")
        for name in ("a", "b"):
            with pytest.raises(ConfigError, match=f"{name}: it changed while the source was read"):
                files[name]


def test_what_no_file_can_be_called_is_named(bucket: Bucket) -> None:
    bucket.put("a/b", b"x")
    bucket.put("a", b"x")
    with pytest.raises(ConfigError, match="an object and a folder have one name"):
        read()
    with pytest.raises(ConfigError, match="the source is empty"):
        check_names(Source(bucket=PLACE), read(f"{PLACE}/elsewhere"))


def test_a_bucket_takes_trust_and_credentials(toy: Toy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    git = Git(toy.root)
    note(git, Trusted(code=False))
    with pytest.raises(Refused, match="cdl trust"):
        make(toy)
    note(git, Trusted(code=True))
    monkeypatch.setattr("cdl.store.client.RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=f"{PLACE}/: the bucket cannot be reached"):
        make(toy)
    for wrong in ("ftp://a/b", "incoming"):
        with pytest.raises(ConfigError, match="names no bucket"):
            parse((toy.root / "cdl.yaml").read_text().replace(f"{PLACE}/", wrong).encode(), where="cdl.yaml")


def test_a_bucket_is_watched(toy: Toy, bucket: Bucket, parts: list[str]) -> None:
    first = make(toy)
    watching = Watch(toy.become(DATA), "points", items=2)
    assert not watching.look() and watching.watched == [f"{PLACE}/"]
    bucket.put("0/a.json", point(50))
    assert not watching.look() and watching.count == 1
    bucket.put("0/b.json", point(51))
    assert watching.look()
    versions.make(toy.become(DATA), "points", sift=watching.options["sift"])
    watching.took(toy.become(DATA))
    assert not watching.look() and watching.count == 0
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None and sum(first.items.values()) + 2 == 22
