"""A version's data as files: the source as it was, the training set by id; nothing that stands there is lost unasked."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdl.data.dataset import training
from cdl.data.sources import reflink
from cdl.errors import ConfigError, Conflict, Refused, Unavailable
from cdl.registry.records import Dataset, DatasetHead
from cdl.store.table import Table
from tests.projects import DATA, FILES, ROLES, SCIENCE, YAML, Toy, make_toy, table, write_files


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Two versions of 60 files in folders, of which the second changes one, adds one and removes one."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=FILES, roles=True)
    write_files(made, 60)
    made.cdl(DATA, "data", "run")
    made.write("incoming/0/003.json", json.dumps({"x": "9", "y": "9"}))
    made.write("incoming/new.json", json.dumps({"x": "8", "y": "8"}))
    (made.root / "incoming/1/004.json").unlink()
    made.cdl(DATA, "data", "run")
    return made


def versions(toy: Toy) -> tuple[str, str]:
    workspace = toy.become(DATA)
    head = workspace.registry.head(DatasetHead, "points")
    assert head is not None and head.before is not None
    return head.before, head.version


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_source_of_another_version_comes_back_where_it_was(toy: Toy) -> None:
    first, second = versions(toy)
    now = files(toy.root / "incoming")
    toy.write("incoming/0/003.json", "edited since")
    toy.write("incoming/other.json", "no version has it")
    edited = files(toy.root / "incoming")
    with pytest.raises(Conflict, match="2 files are not as in .*incoming/0/003.json, incoming/other.json"):
        toy.cdl(DATA, "data", "checkout", first)
    assert files(toy.root / "incoming") == edited
    toy.cdl(DATA, "data", "checkout", second, "--force")
    assert files(toy.root / "incoming") == now
    said = toy.cdl(DATA, "data", "checkout", first)
    assert "2 files written" in said and "58 stood there" in said and "2 in the way removed" in said
    then = files(toy.root / "incoming")
    assert then.keys() ^ now.keys() == {"new.json", "1/004.json"} and json.loads(then["0/003.json"])["x"] != "9"
    assert "0 files written" in toy.cdl(DATA, "data", "checkout", first)
    toy.cdl(DATA, "data", "checkout", second)
    assert files(toy.root / "incoming") == now


def test_data_follow_a_checkout_of_git(toy: Toy) -> None:
    now = files(toy.root / "incoming")
    git = toy.become(DATA).git
    commit = git.text("log", "--format=%H", "--diff-filter=A", "--", "registry/datasets/points/").split()[-1]
    git.run("switch", "--quiet", "--detach", commit)
    toy.cdl(DATA, "data", "checkout")
    assert "new.json" not in files(toy.root / "incoming")
    git.run("switch", "--quiet", "main")
    toy.cdl(DATA, "data", "checkout")
    assert files(toy.root / "incoming") == now


def test_elsewhere_and_only_for_who_may(toy: Toy, tmp_path: Path) -> None:
    _, second = versions(toy)
    now = files(toy.root / "incoming")
    toy.cdl(DATA, "data", "checkout", "--to", str(tmp_path / "out"))
    assert files(tmp_path / "out" / "incoming") == now
    (tmp_path / "out" / "incoming" / "0" / "003.json").write_text("mine")
    with pytest.raises(Conflict, match="1 files are not"):
        toy.cdl(DATA, "data", "checkout", second, "--to", str(tmp_path / "out"))
    with pytest.raises(Refused, match="data_engineer"):
        toy.cdl(SCIENCE, "data", "checkout", "--to", str(tmp_path / "other"))
    (tmp_path / "keyring").unlink()
    with pytest.raises(Unavailable):
        toy.cdl(DATA, "data", "checkout", "--to", str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_source_that_is_a_file_and_one_that_is_none_of_the_project(toy: Toy, tmp_path: Path) -> None:
    (toy.root / "rows").mkdir()
    toy.write("rows/points.csv", table(40))
    toy.write("cdl.yaml", YAML.replace("{path: incoming}", "{path: rows/points.csv}") + ROLES)
    toy.cdl(DATA, "data", "run")
    toy.write("rows/points.csv", "mine")
    toy.write("rows/other.txt", "stays")
    with pytest.raises(Conflict, match="rows/points.csv"):
        toy.cdl(DATA, "data", "checkout")
    toy.cdl(DATA, "data", "checkout", "--force")
    assert (toy.root / "rows/points.csv").read_text() == table(40) and (toy.root / "rows/other.txt").exists()
    url = f"{{url: 'file://{toy.root}/rows/points.csv', sha256: {hashlib.sha256(table(40).encode()).hexdigest()}}}"
    toy.write("cdl.yaml", YAML.replace("{path: incoming}", url) + ROLES)
    toy.cdl(DATA, "data", "run")
    with pytest.raises(ConfigError, match="no folder of the project"):
        toy.cdl(DATA, "data", "checkout")
    toy.cdl(DATA, "data", "checkout", "--to", str(tmp_path / "out"))
    assert files(tmp_path / "out") == {"source-1/points.csv": table(40).encode()}


@pytest.mark.parametrize("form", ["files", "jsonl"])
def test_the_training_set_goes_out_by_id_and_nothing_else(toy: Toy, tmp_path: Path, form: str) -> None:
    _, second = versions(toy)
    out = tmp_path / "out"
    assert "training items" in toy.cdl(SCIENCE, "data", "export", str(out), "--format", form)
    items = training(toy.become(SCIENCE), second, None)
    found = files(out)
    lines = [json.loads(line) for line in found.pop("items.jsonl" if form == "jsonl" else "labels.jsonl").splitlines()]
    assert [line["id"] for line in lines] == list(items.ids)
    contents = [line["text"].encode() for line in lines] if form == "jsonl" else [found[i] for i in items.ids]
    assert contents == list(items.contents) and len(found) == (0 if form == "jsonl" else len(items))
    with pytest.raises(Conflict, match="something already"):
        toy.cdl(SCIENCE, "data", "export", str(out))


def test_verify_reads_everything_and_names_what_is_broken(toy: Toy) -> None:
    _, second = versions(toy)
    assert "0 faults" in toy.cdl(SCIENCE, "data", "verify")
    store = toy.become(SCIENCE).store
    record = toy.become(SCIENCE).registry.record(Dataset, second)
    objects = [Table(store, record.train).root["needs"][0], record.test[2:], record.split.ledger[2:]]
    for name in objects:
        place = store.path(name)
        data = place.read_bytes()
        place.chmod(0o644)
        for wrong in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), None):
            place.unlink() if wrong is None else place.write_bytes(wrong)
            said = json.loads(failing(toy, "data", "verify", "--json"))
            assert {fault["object"] for fault in said["faults"]} == {name}, (name, said)
        place.write_bytes(data)
    assert "0 faults" in toy.cdl(SCIENCE, "data", "verify")


def failing(toy: Toy, *command: str) -> str:
    """What a command prints that finds something broken; its exit code is 5."""
    toy.sign(SCIENCE)
    done = subprocess.run([sys.executable, "-m", "cdl", *command], cwd=toy.root, capture_output=True, check=False)
    assert done.returncode == 5, done.stderr
    return done.stdout.decode()


def test_large_files_are_copied_or_linked_and_small_ones_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloned: list[Path]
) -> None:
    yaml = FILES.replace("split: {test: 0.3}", "split: {test: 0.0}").replace('"*.json"', '"*"')
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=yaml)
    write_files(toy, 12)
    large = b"0123456789abcdef" * 100_000
    (toy.root / "incoming/large.bin").write_bytes(large)
    toy.cdl(DATA, "data", "run")
    shutil.rmtree(toy.root / "incoming")
    said = toy.cdl(DATA, "data", "checkout")
    place = toy.root / "incoming/large.bin"
    assert place.read_bytes() == large and place.stat().st_nlink == 1 and place.stat().st_mode & 0o777 == 0o644
    assert cloned == [place] and "13 files written" in said and "1 of them share" in said
    place.unlink()
    said = toy.cdl(DATA, "data", "checkout", "--link", "--to", str(tmp_path / "out"))
    linked = tmp_path / "out/incoming/large.bin"
    assert linked.read_bytes() == large and linked.stat().st_mode & 0o222 == 0 and linked.stat().st_nlink == 2
    assert (tmp_path / "out/incoming/0/000.json").stat().st_nlink == 1 and "1 of them are links" in said
    assert "0 faults" in toy.cdl(DATA, "data", "verify")


@pytest.fixture
def cloned(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What a file system that shares blocks would be asked for, on one that copies."""
    found: list[Path] = []
    place = reflink.place

    def told(source: Path, target: Path, *, mode: int) -> bool:
        place(source, target, mode=mode)
        found.append(target)
        return True

    monkeypatch.setattr(reflink, "place", told)
    return found


def test_a_file_system_that_shares_no_blocks_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a", tmp_path / "deep/er/b"
    source.write_bytes(b"x" * 3_000_000)
    for error in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL):
        asked: list[int] = []

        def refused(new: int, what: int, old: int, error: int = error, asked: list[int] = asked) -> None:
            asked.append(what)
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(fcntl, "ioctl", refused)
        assert not reflink.place(source, target, mode=0o600) and asked == [0x40049409]
        assert target.read_bytes() == source.read_bytes() and target.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        reflink.place(source, target, mode=0o600)
    assert target.read_bytes() == source.read_bytes() and [p.name for p in target.parent.iterdir()] == ["b"]
