"""A version's data as files: the source as it was, the training set by id; nothing that stands there is lost unasked."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdl.data.dataset import training
from cdl.errors import ConfigError, Conflict, Refused, Unavailable
from cdl.registry.records import Dataset, DatasetHead
from cdl.store.table import Table
from tests.projects import DATA, ROLES, SCIENCE, YAML, Toy, make_toy, table

FILES = YAML.replace("{rows: {format: csv, id: id, label: side}}", '{files: "*.json"}').replace(
    "origin: {source: true}", "origin: {csv: {path: sides.csv, item: item, label: side}}"
)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Two versions of 60 files in folders, of which the second changes one, adds one and removes one."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=FILES, roles=True)
    lines = ["item,side"]
    for n, row in enumerate(table(60).splitlines()[1:]):
        _, x, y, side = row.split(",")
        made.write(f"incoming/{n % 3}/{n:03d}.json", json.dumps({"x": x, "y": y}))
        lines.append(f"{n % 3}/{n:03d}.json,{side}")
    made.write("sides.csv", "\n".join(lines) + "\n")
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
    with pytest.raises(Conflict, match="2 files are not as in .*incoming/0/003.json, incoming/new.json"):
        toy.cdl(DATA, "data", "checkout", first)
    assert files(toy.root / "incoming") == now
    said = toy.cdl(DATA, "data", "checkout", first, "--force")
    assert "2 files written" in said and "58 stood there" in said and "2 in the way removed" in said
    then = files(toy.root / "incoming")
    assert then.keys() ^ now.keys() == {"new.json", "1/004.json"} and json.loads(then["0/003.json"])["x"] != "9"
    assert "0 files written" in toy.cdl(DATA, "data", "checkout", first)
    toy.cdl(DATA, "data", "checkout", second, "--force")
    assert files(toy.root / "incoming") == now


def test_data_follow_a_checkout_of_git(toy: Toy) -> None:
    now = files(toy.root / "incoming")
    git = toy.become(DATA).git
    commit = git.text("log", "--format=%H", "--diff-filter=A", "--", "registry/datasets/points/").split()[-1]
    git.run("switch", "--quiet", "--detach", commit)
    toy.cdl(DATA, "data", "checkout", "--force")
    assert "new.json" not in files(toy.root / "incoming")
    git.run("switch", "--quiet", "main")
    toy.cdl(DATA, "data", "checkout", "--force")
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
