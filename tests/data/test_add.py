"""From a folder of files to a version: what is guessed, what is put into cdl.yaml, what is refused."""

import gzip
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdl.config.load import load, parse
from cdl.data.add import inserted
from cdl.data.items.guess import Asked, guess
from cdl.errors import CdlError, ConfigError, Conflict, NotFound, Refused
from cdl.model.train import train
from cdl.registry.records import Dataset, DatasetHead
from tests.projects import DATA, REVIEW, ROLES, SCIENCE, YAML, Toy, make_toy, table

SECTION = {"source": {"path": "b"}, "items": {"files": "*"}}
LINES = "  b:\n    source: {path: b}\n    items: {files: '*'}\n".replace("'", '"')
HEAD = "# mine\ncdl: 1   # the form\nproject: p\n"
OLD = "data:\n  # the first one\n  a:\n    source: {path: a}   # here\n    items: {files: '*'}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HEAD, HEAD + "data:\n" + LINES),
        (HEAD.rstrip("\n"), HEAD + "data:\n" + LINES),
        (HEAD + "data: {}\nsync: off\n", HEAD + "data:\n" + LINES + "sync: off\n"),
        (HEAD + "data: {}", HEAD + "data:\n" + LINES),
        (HEAD + OLD, HEAD + OLD + LINES),
        (HEAD + OLD + "\n\n# what follows\nsync: off\n", HEAD + OLD + LINES + "\n\n# what follows\nsync: off\n"),
        (OLD + HEAD, OLD + LINES + HEAD),
        ((HEAD + OLD).replace("\n", "\r\n"), (HEAD + OLD + LINES).replace("\n", "\r\n")),
    ],
)
def test_lines_are_put_in_and_nothing_else_changes(before: str, after: str) -> None:
    assert inserted(before, "b", SECTION) == after


def test_the_layout_of_the_others_is_followed() -> None:
    old = HEAD + "data:\n    a:\n        source: {path: a}\n        items: {files: '*'}\n"
    assert inserted(old, "b", SECTION) == old + '    b:\n        source: {path: b}\n        items: {files: "*"}\n'


def test_where_there_is_no_place_the_lines_are_said() -> None:
    flow = HEAD + "data: {a: {source: {path: a}, items: {files: '*'}}}\n"
    for text in (flow, "{cdl: 1, project: p}\n"):
        with pytest.raises(ConfigError, match="no place for another dataset") as told:
            inserted(text, "b", SECTION)
        assert LINES in str(told.value.remedy)


def lay(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found(folder: Path, there: Mapping[str, str | bytes], **asked: Any) -> dict[str, Any]:
    section = guess(lay(folder / "d", there).parent, "d", Asked(**asked)).section
    parse(inserted(HEAD, "d", section).encode(), where="cdl.yaml")
    return {**section}


def test_files_and_their_folders(tmp_path: Path) -> None:
    two = {"no/1.png": "", "1/2.png": "", "1/3.png": ""}
    assert found(tmp_path / "a", two) == {
        "source": {"path": "d"},
        "items": {"files": "*.png"},
        "labels": {"classes": ["1", "no"], "origin": {"folder": True}},
    }
    loose = {"source": {"path": "d"}, "items": {"files": "*"}}
    assert found(tmp_path / "b", {**two, "loose.txt": ""}) == loose
    assert "labels" not in found(tmp_path / "c", {"one/1.png": "", "one/2.png": ""})
    assert found(tmp_path / "d", {**two, "x.txt": ""}, files="*.png")["items"] == {"files": "*.png"}
    sets = {f"{side}/{c}/1.txt": "" for side in ("train", "test") for c in ("x", "y")}
    assert found(tmp_path / "e", sets) == {
        "source": [{"path": "d/train", "set": "train"}, {"path": "d/test", "set": "test"}],
        "items": {"files": "*.txt"},
        "labels": {"classes": ["x", "y"], "origin": {"folder": True}},
    }
    with pytest.raises(ConfigError, match="empty"):
        found(tmp_path / "f", {".hidden": ""})


def test_rows(tmp_path: Path) -> None:
    section = found(tmp_path / "a", {"t.csv": "class,n,id\nyes,1,7\n10,1,8\n9,2,9\n"})
    assert section["items"] == {"rows": {"format": "csv", "id": "id", "label": "class"}}
    assert section["labels"] == {"classes": ["9", "10", "yes"], "origin": {"source": True}}
    lines = "".join(json.dumps({"uuid": f"u{n}", "text": "same", "n": 1}) + "\n" for n in range(3))
    section = found(tmp_path / "b", {"t.jsonl": lines})
    assert section["items"] == {"rows": {"format": "jsonl", "id": "uuid", "text": "text"}} and "labels" not in section
    with pytest.raises(ConfigError, match="no column has a value of its own"):
        found(tmp_path / "c", {"t.csv": "a,b\n1,2\n1,2\n"})
    with pytest.raises(ConfigError, match="no column 'c'"):
        found(tmp_path / "c", {"t.csv": "a,b\n1,2\n1,2\n"}, id="c")
    assert "files" in found(tmp_path / "d", {"1.csv": "a\n1\n", "2.csv": "a\n1\n"})["items"]
    with pytest.raises(ConfigError, match="not csv"):
        found(tmp_path / "e", {"t.csv": b"\xff\xfe\xfd"})


def test_arrays(tmp_path: Path) -> None:
    idx = bytes([0, 0, 8, 1, 0, 0, 0, 3, 2, 10, 2])
    data = bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 1, 7, 8, 9])
    section = found(tmp_path / "a", {"x-images-idx2-ubyte.gz": gzip.compress(data), "x-labels-idx1-ubyte": idx})
    assert section["items"] == {"arrays": {"data": "x-images-idx2-ubyte.gz", "labels": "x-labels-idx1-ubyte"}}
    assert section["labels"] == {"classes": ["2", "10"], "origin": {"source": True}}
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    assert guess(tmp_path, "a.npy", Asked()).section["items"] == {"arrays": {"data": "a.npy"}}
    with pytest.raises(ConfigError, match="which holds the items"):
        found(tmp_path / "b", {"a.npy": "", "b.npy": ""}, form="arrays")
    with pytest.raises(ConfigError, match="no table, array or archive"):
        guess(lay(tmp_path, {"a.bin": "x"}), "a.bin", Asked())


def guessed(path: Path) -> dict[str, Any]:
    return {**guess(path.parent, path.name, Asked()).section}


def test_an_archive_is_taken_for_what_is_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        for name in ("x/1.png", "y/1.png"):
            pack.writestr(name, "")
    assert guessed(tmp_path / "a.zip") == {
        "source": {"path": "a.zip"},
        "items": {"files": "*.png"},
        "labels": {"classes": ["x", "y"], "origin": {"folder": True}},
    }
    lay(tmp_path / "in", {"t.csv": "id,label\n1,a\n2,b\n"})
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tape:
        tape.add(tmp_path / "in/t.csv", "t.csv")
    section = guessed(tmp_path / "b.tar.gz")
    assert section["source"] == {"path": "b.tar.gz"} and section["labels"]["classes"] == ["a", "b"]
    with pytest.raises(ConfigError, match="not a readable archive"):
        guessed(lay(tmp_path, {"c.tar": "x"}) / "c.tar")


def test_arrays_of_one_file_and_rows_of_parquet(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 2)), labels=np.arange(3) % 2)
    section = guessed(tmp_path / "a.npz")
    assert section["items"] == {"arrays": {"data": "a.npz#images", "labels": "a.npz#labels"}}
    assert section["labels"] == {"classes": ["0", "1"], "origin": {"source": True}}
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)))
    assert guessed(tmp_path / "b.npz")["items"] == {"arrays": {"data": "b.npz"}}
    np.savez(tmp_path / "c.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(ConfigError, match="c.npz#x, c.npz#y: which holds the items"):
        guessed(tmp_path / "c.npz")
    pq.write_table(pa.table({"image": [b"1", b"2"], "label": ["a", "b"], "key": [7, 8]}), tmp_path / "d.parquet")
    section = guessed(tmp_path / "d.parquet")
    assert section["items"] == {"rows": {"format": "parquet", "id": "key", "label": "label"}}
    assert section["labels"]["classes"] == ["a", "b"]
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        guessed(lay(tmp_path, {"e.parquet": "PAR1"}) / "e.parquet")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        guessed(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        guess(tmp_path, "a.csv", Asked(form="rows"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    lay(made.root / "flowers", {f"{c}/{n}.txt": f"{c}{n}" for c in ("rose", "daisy") for n in range(20)})
    return made


def test_one_command_to_a_first_version(toy: Toy) -> None:
    before = (toy.root / "cdl.yaml").read_text()
    said = toy.cdl(DATA, "data", "add", "flowers")
    workspace = toy.become(DATA)
    head = workspace.registry.head(DatasetHead, "flowers")
    assert head is not None and "40 items" in said
    assert sum(workspace.registry.record(Dataset, head.version).items.values()) == 40
    text = (toy.root / "cdl.yaml").read_text()
    assert text.replace("".join(text.splitlines(keepends=True)[10:14]), "") == before, text
    assert workspace.published("flowers") and workspace.holds_key("flowers")
    status = workspace.git.text("status", "--short")
    assert status.split() == ["M", ".gitignore", "M", "cdl.yaml"]
    toy.approve(DATA, head.version)
    assert json.loads(toy.cdl(SCIENCE, "data", "show", "dataset:flowers", "--json"))["classes"].keys() == {
        "daisy",
        "rose",
    }
    with pytest.raises(Conflict, match="there is a dataset 'flowers'"):
        toy.cdl(DATA, "data", "add", "flowers")


def test_what_is_refused_leaves_nothing(toy: Toy, tmp_path: Path) -> None:
    lay(tmp_path / "outside", {"a.txt": ""})
    (toy.root / "link").symlink_to(tmp_path / "outside")
    workspace = toy.become(DATA)
    before = workspace.git.text("status", "--short"), (toy.root / "cdl.yaml").read_text()
    for who, arguments, error in (
        (DATA, [str(tmp_path / "outside")], "outside of the project"),
        (DATA, ["link"], "outside of the project"),
        (DATA, ["."], "no place for data"),
        (DATA, [".cdl"], "no place for data"),
        (DATA, ["model"], "git tracks it"),
        (DATA, ["nowhere"], "no such file"),
        (DATA, ["flowers", "--name", "Flowers"], "not a name"),
        (DATA, ["flowers", "--name", "points"], "there is a dataset 'points'"),
        (SCIENCE, ["flowers"], "data add is for data_engineer"),
    ):
        with pytest.raises((Refused, ConfigError, Conflict), match=error):
            toy.cdl(who, "data", "add", *arguments)
    assert (workspace.git.text("status", "--short"), (toy.root / "cdl.yaml").read_text()) == before


@pytest.mark.parametrize("name", ["a b", "x*y", "#z", "!w", "[v]", "back\\slash"])
def test_any_name_is_kept_out_of_git(toy: Toy, name: str) -> None:
    lay(toy.root / name, {"odd.txt": "1", "2.txt": "2"})
    toy.cdl(DATA, "data", "add", f"./{name}", "--name", "odd")
    assert "odd.txt" not in toy.become(DATA).git.text("status", "--short", "--untracked-files=all")


def test_files_from_outside_go_into_the_source(toy: Toy, tmp_path: Path) -> None:
    toy.cdl(DATA, "data", "add", "flowers")
    lay(tmp_path / "tulip", {"1.txt": "t", "2.txt": "u"})
    said = toy.cdl(DATA, "data", "ingest", "flowers", str(tmp_path / "tulip"))
    assert "42 items" in said and (toy.root / "flowers/tulip/2.txt").read_text() == "u"
    assert "nothing changed" in toy.cdl(DATA, "data", "ingest", "flowers", str(tmp_path / "tulip"))
    lay(tmp_path / "tulip", {"1.txt": "another", "3.txt": "v"})
    with pytest.raises(Conflict, match="tulip/1.txt"):
        toy.cdl(DATA, "data", "ingest", "flowers", str(tmp_path / "tulip"))
    assert not (toy.root / "flowers/tulip/3.txt").exists()
    with pytest.raises(Refused, match="data ingest is for data_engineer"):
        toy.cdl(SCIENCE, "data", "ingest", "flowers", str(tmp_path / "tulip"))
    with pytest.raises(ConfigError, match="0 of its sources are folders"):
        toy.cdl(DATA, "data", "ingest", "points", str(tmp_path / "tulip"))


def test_without_labels_everything_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = YAML.replace("    labels: {classes: [left, right], origin: {source: true}}\n", "")
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=yaml, roles=True)
    assert load(toy.root).data["points"].labels is None and yaml + ROLES == (toy.root / "cdl.yaml").read_text()
    toy.data(table(40))
    assert "no classes" in toy.cdl(DATA, "data", "status") and "points" in toy.cdl(DATA, "status")
    for command in (["label", "next"], ["label", "release"], ["label", "import"], ["label", "set", "0", "x"]):
        with pytest.raises(CdlError, match="points has no labels yet"):
            toy.cdl(DATA, *command)
    with pytest.raises(CdlError, match="points has no labels yet"):
        toy.cdl(DATA, "label", "export", str(tmp_path / "tasks.json"))
    with pytest.raises(NotFound, match="no released labels") as told:
        train(toy.become(SCIENCE), "side")
    assert "cdl.yaml: data.points.labels" in str(told.value.remedy)
    toy.cdl(DATA, "run")
    toy.write("cdl.yaml", YAML + ROLES)
    toy.commit(toy.become(DATA), "labels")
    toy.approve(REVIEW, "policy")
    assert len(json.loads(toy.cdl(DATA, "label", "next", "--json", "--count", "3"))["items"]) == 3
