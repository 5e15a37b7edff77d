"""`cdl reproduce` in a second clone that has the refs, the store and the key: everything identical, hash by hash."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdl.data import labels
from cdl.data.history.reproduce import reproduce_labels
from cdl.registry.records import DatasetHead, Labels, LabelsHead, Model, Package, short
from cdl.store.store import Store
from tests.projects import DATA, OPS, SCIENCE, SIDE, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
EVERYTHING = ["data, split", "data, train", "data, test", "labels", "transformation", "weights", "package"]


def run(root: Path, *arguments: str, around: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    env = os.environ | dict(around or {})
    done = subprocess.run([str(CDL), *arguments], cwd=root, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def again(root: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """What `cdl reproduce` says of each thing; it succeeds."""
    code, said, hint = run(root, "reproduce", *arguments, "--json")
    assert code == 0, hint
    return {found["what"]: found for found in json.loads(said)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A project with a promoted model and its package; each test works in a clone of it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(folder / "toy", patch, folder / "keyring", roles=True)
        toy.data(table(120))
        toy.promote()
        toy.package()
        toy.become(OPS)
        yield toy


def test_a_second_clone_makes_everything_again(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    assert not (other.root / "incoming").exists() and not (other.root / ".cdl/trials").exists()
    before = other.become(OPS).git.text("for-each-ref")
    code, said, _ = run(other.root, "reproduce", short(package(other)))
    lines = said.splitlines()
    assert code == 0 and [line[:14].rstrip() for line in lines] == EVERYTHING
    assert all("  identical" in line for line in lines), said
    assert "identical: from its own rows, 120 of them were recorded in another clone" in lines[3]
    workspace = other.become(OPS)
    assert workspace.git.text("for-each-ref") == before and workspace.git.run("status", "--porcelain") == b""
    assert {e.fields["job"] for e in workspace.journal.events("job.finished")} & trained(workspace.store)


def package(toy: Toy) -> str:
    [(identity, _)] = toy.become(OPS).registry.all(Package)
    return identity


def trained(store: Store) -> set[str]:
    """The jobs that trained, of all that ever ran."""
    kept = {name.partition("/")[2]: json.loads(store.claimed(name) or b"{}") for name in store.claims("jobs")}
    return {job for job, content in kept.items() if "weights" in content["outputs"]}


def test_neither_cache_nor_checkpoint_is_asked_and_what_differs_is_named(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    shutil.copytree(made.root / ".cdl/trials", other.root / ".cdl/trials")
    wrong = plant(other.become(OPS).store)
    for note in (other.root / ".cdl/trials").glob("*/epoch-*.json"):
        note.write_text(json.dumps({**json.loads(note.read_text()), "checkpoint": wrong}))
    found = again(other.root, package(other))
    assert list(found) == EVERYTHING and all(f["identical"] for f in found.values())
    assert found["weights"]["why"] == f"an equal job had left other checkpoint ({wrong[:12]}), " + ", ".join(
        f"{name} ({wrong[:12]})" for name in ("format", "metrics", "points", "weights")
    )
    assert found["transformation"]["why"].startswith(f"an equal job had left other state ({wrong[:12]})")


def plant(store: Store) -> str:
    """Makes every job's claim name a wrong object, which is returned."""
    wrong = store.put(b"planted")
    claims = {name: json.loads(store.claimed(name) or b"{}") for name in store.claims("jobs")}
    shutil.rmtree(store.root / "claims/jobs")
    for name, content in claims.items():
        store.claim(name, json.dumps({"outputs": dict.fromkeys(content["outputs"], wrong), "log": None}).encode())
    return wrong


def test_without_the_key_it_says_what_it_cannot_make(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    code, said, _ = run(other.root, "reproduce", package(other), around={"CDL_KEYRING": str(tmp_path / "none")})
    lines = {line[:14].rstrip(): line for line in said.splitlines()}
    assert code == 0 and list(lines) == ["data, train", "data, test", "labels", "transformation", "weights", "package"]
    assert "  identical: from its items as they were ingested" in lines["data, train"]
    assert lines["data, test"].endswith("not made again: you hold no key of points (holders: data@example.org)")
    assert lines["labels"].endswith("not made again: you hold no key of points (holders: data@example.org)")
    assert all(lines[what].endswith("  identical") for what in ("transformation", "weights", "package"))


def test_without_the_refs_the_remedy_is_to_fetch_them(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    git = other.become(OPS).git
    for ref in git.refs("refs/cdl/data/"):
        git.run("update-ref", "-d", ref)
    code, _, said = run(other.root, "reproduce")
    assert code == 6 and "git fetch origin 'refs/cdl/*:refs/cdl/*'" in said and "Traceback" not in said


def test_a_trial_of_a_dirty_tree_is_reproduced(made: Toy, tmp_path: Path) -> None:
    first = made.clone(tmp_path / "first")
    first.write("model/side.py", SIDE.replace("np.zeros(x.shape[1]", "np.ones(x.shape[1]"))
    model = first.model("exp/dirty")
    assert first.become(SCIENCE).git.text("status", "--porcelain") == " M model/side.py"
    other = first.clone(tmp_path / "second")
    assert "np.ones" not in (other.root / "model/side.py").read_text()
    found = again(other.root, model)
    assert all(f["identical"] for f in found.values())
    weights = {other.become(SCIENCE).registry.get(m).record.weights for m, _ in models(other)}  # type: ignore[union-attr]
    assert len(weights) == 2, "the dirty tree trains another model"


def models(toy: Toy) -> list[tuple[str, Model]]:
    return toy.become(SCIENCE).registry.all(Model)


def test_what_is_not_identical_ends_with_an_exit_code(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    by_clock = SIDE.replace("import numpy as np", "import time\n\nimport numpy as np", 1)
    zero, other_each_time = "np.zeros(1, dtype", "np.full(1, time.time_ns() % 999_983 / 999_983, dtype"
    assert zero in by_clock
    other.write("model/side.py", by_clock.replace(zero, other_each_time))
    model = other.model("exp/clock")
    code, said, hint = run(other.root, "reproduce", model)
    assert code == 5 and "1 of 6 are different" in hint
    assert [line for line in said.splitlines() if "DIFFERENT" in line] == [
        line for line in said.splitlines() if line.startswith("weights") and "an equal job had left other" in line
    ]


def test_data_and_labels_alone_and_what_cannot_be_made_again(made: Toy, tmp_path: Path) -> None:
    other = made.clone(tmp_path / "other")
    registry = other.become(DATA).registry
    dataset, released = registry.head(DatasetHead, "points"), registry.head(LabelsHead, "points")
    assert dataset is not None and released is not None
    assert list(again(other.root, dataset.version)) == EVERYTHING[:3]
    assert list(again(other.root, released.version)) == ["labels"]
    fitted = registry.all(Package)[0][1].transformation
    assert fitted is not None
    code, _, said = run(other.root, "reproduce", fitted)
    assert code == 6 and "a transformation is not made again" in said


def test_labels_are_made_again_from_the_journal_that_recorded_them(made: Toy, tmp_path: Path) -> None:
    toy = made.copy(tmp_path / "toy")
    workspace = toy.become(DATA)
    released = workspace.registry.head(LabelsHead, "points")
    assert released is not None
    item = labels.rows(workspace, "points", "train")[0].item
    labels.record(workspace, "points", {item: "left"})  # recorded after the release, so no part of it
    found = reproduce_labels(workspace, released.version)
    assert found.identical and found.why is None
    record = workspace.registry.get(released.version).record
    assert isinstance(record, Labels)
    rows = {side: labels.rows(workspace, "points", side) for side in ("train", "test")}
    fewer = {**rows, "train": rows["train"][1:]}
    forged, _ = labels.snapshot(workspace, record.dataset, fewer, resolve_by=record.resolve, values=record.values)
    identity = workspace.registry.commit(forged, command="test", line="a row is missing").ids[0]
    found = reproduce_labels(toy.become(DATA), identity)
    assert found.identical and found.why == "from its own rows, 1 others had been recorded here and are not in it"
    crooked = msgspec.structs.replace(record, coverage={**record.coverage, "train": 0.5})
    identity = workspace.registry.commit(crooked, command="test", line="another coverage").ids[0]
    assert reproduce_labels(toy.become(DATA), identity).identical is False


FEW = {
    "- test.accuracy >= 0.95": "- test.accuracy >= 0.05",
    "- test.worst_recall >= 0.8": "- test.worst_recall >= 0",
    "- revision.difference >= -0.02": "- revision.difference >= -1",
    "items >= 1000": "items >= 100",
    "epochs: 27\n": "epochs: 2\n",
    "width: 24,": "width: 4,",
}


@pytest.mark.long
def test_the_example_with_torch_int8_and_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "keyring"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    root = tmp_path / "digits"

    def done(*arguments: str, where: Path = root) -> str:
        code, said, hint = run(where, *arguments)
        assert code == 0, f"{arguments}: {said}{hint}"
        return said

    done("init", "digits", "--example", "digits", where=tmp_path)
    text = (root / "cdl.yaml").read_text()
    for old, new in FEW.items():
        assert old in text
        text = text.replace(old, new)
    (root / "cdl.yaml").write_text(text)
    subprocess.run(["git", "commit", "--quiet", "--all", "--message", "few"], cwd=root, check=True)
    done("approve", "policy")
    subprocess.run([sys.executable, "make_data.py", "--part", "later"], cwd=root, check=True, capture_output=True)
    done("run", "data", "--yes")
    done("approve", "data", "--no-triggers")
    done("experiment", "create", "few")
    done("model", "register", json.loads(done("train", "--json"))[0]["id"])
    done("model", "submit")
    done("approve", "model", "--despite", "few images for a test")
    done("run", "deployment", "--yes")
    done("approve", "revision", "--despite", "few images for a test")
    done("run", "deployment", "--yes")
    subprocess.run(["git", "switch", "--quiet", "main"], cwd=root, check=True)
    second = Toy(root, monkeypatch).clone(tmp_path / "second")
    [(packaged, _)] = second.become("a@example.org").registry.all(Package)
    wrong = plant(second.become("a@example.org").store)
    found = again(second.root, packaged)
    assert list(found) == [*EVERYTHING[:6], "weights, int8", "package"]
    assert all(f["identical"] for f in found.values()), found
    for what in ("transformation", "weights", "weights, int8"):
        assert found[what]["why"].startswith("an equal job had left other") and wrong[:12] in found[what]["why"]
