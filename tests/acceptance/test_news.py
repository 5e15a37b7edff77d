"""The example news on a handful of articles; the whole of it, played by scripts/play_news.py, is long."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdl.data import versions
from cdl.data.dataset import dataset_record
from cdl.data.labels import current
from cdl.data.pipeline import ledger
from cdl.data.pipeline.work import rejections
from cdl.deployment.package import contents
from cdl.model.register import register
from cdl.model.source import model_record
from cdl.model.train import train
from cdl.project import init, open_workspace
from cdl.registry.records import LabelsHead, Model, Package
from cdl.workflow.workspace import Workspace
from tests.articles import CHECKOUT, CLASSES, ZIP, every, needs_articles, packed
from tests.projects import DATA, OPS, SCIENCE, Toy

EXAMPLE = CHECKOUT / "examples/news"
ODD = ("bbc/README.TXT", "bbc/politics/397.txt", "bbc/sport/199.txt")  # no article, a short one, one not UTF-8
FEW = 12  # articles of each class, beside copies
FEW_YAML = {
    "items >= 2000": "items >= 50",
    "width: 128": "width: 32",
    "epochs: 18\n    search": "epochs: 3\n    search",
}
ANSWERS = """
import json, sys
from pathlib import Path
folder, items = Path(sys.argv[1]), json.load(sys.stdin)
{body}
json.dump(found.tolist(), sys.stdout)
"""
SERVED = """
from cdl.deployment.serve.package import open_package
served = open_package(folder)
found = served.forward(served.transform([i.encode("latin-1") for i in items]))
"""
TRAINING = """
import torch
from safetensors.torch import load_file
from model.features import Counts
from model.network import network
from data.clean import article
made = json.loads((folder / "package.json").read_text())
counts = Counts.from_state(json.loads((folder / "state/state.json").read_text()))
model = network(made["hyperparameters"])
model.load_state_dict(load_file(sys.argv[2]))
model.eval()
with torch.inference_mode():
    found = model(torch.tensor(counts([article(i.encode("latin-1")) for i in items]))).double().softmax(1)
"""


def copies(files: Mapping[str, bytes]) -> list[list[str]]:
    """Articles whose folded bodies are equal, in groups: computed here, not with the example's code."""
    groups: dict[str, list[str]] = {}
    for name, data in files.items():
        if name.endswith(".txt"):
            body = data.decode("utf-8", "replace").partition("\n")[2]
            kept = "".join(c if c.isalnum() else " " for c in body.casefold())
            groups.setdefault(" ".join(kept.split()), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def answers(body: str, where: Path, items: list[bytes], *arguments: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities of item contents, from a process of its own."""
    around = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(where)}
    command = [sys.executable, "-c", ANSWERS.replace("{body}", body), *arguments]
    given = json.dumps([i.decode("latin-1") for i in items])
    done = subprocess.run(command, cwd=where, env=around, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.asarray(json.loads(done.stdout))


def no_body_on_both_sides(workspace: Workspace, groups: list[list[str]]) -> int:
    """How many groups of equal bodies there are in a version, each on one side."""
    _, dataset = current(workspace, "articles")
    vault = workspace.vault("articles", by="test")
    origins = ledger.read(vault, dataset.split.ledger).origins
    side = {e.name: "train" for e in workspace.store.tree(dataset.steps[0].train).entries}
    side |= dict.fromkeys(vault.tree(dataset.steps[0].test).names, "test")
    of_name = {origin.name: side[i] for i, origin in origins.items() if i in side}
    there = [names for group in groups if len(names := [n for n in group if n in of_name]) > 1]
    for names in there:
        assert len({of_name[n] for n in names}) == 1, names
    assert {of_name[n] for names in there for n in names} == {"train", "test"}
    return len(there)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """The example with few articles, their copies and the odd ones, approved and ready."""
    folder = tmp_path_factory.mktemp("news")
    files = every()
    groups = copies(files)[::6]
    names = {n for c in CLASSES for n in [m for m in sorted(files) if m.startswith(f"bbc/{c}/")][:FEW]}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
            patch.setenv(name, "/dev/null")
        patch.setenv("CDL_KEYRING", str(folder / "keyring"))
        patch.delenv("CDL_KEY", raising=False)
        toy = Toy(folder / "news", patch)
        toy.sign(DATA)
        init(toy.root, example="news")
        pack = packed(files, {*names, *ODD, *(n for group in groups for n in group)})
        (toy.root / "incoming").mkdir()
        (toy.root / "incoming" / ZIP.name).write_bytes(pack)
        text = (toy.root / "cdl.yaml").read_text()
        declared = next(line.split()[1] for line in text.splitlines() if "sha256:" in line)
        for old, new in {**FEW_YAML, declared: hashlib.sha256(pack).hexdigest()}.items():
            assert old in text, old
            text = text.replace(old, new)
        toy.write("cdl.yaml", text)
        toy.commit(toy.become(DATA), "few articles")
        toy.cdl(DATA, "approve", "policy")
        toy.cdl(DATA, "run", "data", "--yes")
        toy.cdl(DATA, "approve")
        yield toy


@needs_articles
def test_articles_are_cleaned_validated_and_kept_together(few: Toy) -> None:
    workspace = few.become(DATA)
    identity, dataset = current(workspace, "articles")
    assert dataset.rejected["reasons"] == {"not *.txt": 1, "shorter than 100 words": 1}
    vault = workspace.vault("articles", by="test")
    origins = ledger.read(vault, dataset.split.ledger).origins
    assert sorted(origins[i].name for i in rejections(vault, dataset)) == list(ODD[:2])
    assert no_body_on_both_sides(workspace, copies(every())) > 10
    sealed = vault.tree(dataset.test)
    cleaned = sealed.contents() | workspace.store.tree(dataset.train).contents()
    of_name = {origins[i].name: data.decode() for i, data in cleaned.items()}
    assert "\ufffd" in of_name["bbc/sport/199.txt"] and sum("\ufffd" in text for text in of_name.values()) == 1
    assert few.cdl(DATA, "data", "rejected").count("shorter than 100 words") == 1
    head = workspace.registry.head(LabelsHead, "articles")
    assert head is not None and dataset_record(workspace, identity).items == dataset.items


@needs_articles
def test_cleaning_as_a_program_gives_the_same_articles(few: Toy, tmp_path: Path) -> None:
    toy = few.copy(tmp_path / "news")
    _, before = current(toy.become(DATA), "articles")
    text = (toy.root / "cdl.yaml").read_text()
    toy.write(
        "cdl.yaml",
        text.replace('clean: {run: "data.clean:article"}', f"clean: {{run: [{sys.executable}, data/clean.py]}}"),
    )
    after = dataset_record(toy.become(DATA), versions.make(toy.become(DATA), "articles"))
    assert after.steps[1].code != before.steps[1].code
    for side in ("train", "test"):
        assert [getattr(s, side) for s in after.steps] == [getattr(s, side) for s in before.steps]
    assert after.rejected["reasons"] == before.rejected["reasons"]


@needs_articles
def test_a_service_answers_what_the_training_code_does(few: Toy, tmp_path: Path) -> None:
    toy = few.copy(tmp_path / "news")
    toy.become(SCIENCE).git.run("switch", "--quiet", "-c", "exp/few")
    workspace = toy.become(SCIENCE)
    model = register(workspace, train(workspace, "news"))
    record = model_record(workspace, model)
    assert record.schema == {"input": "text", "output": {"category": "text", "probabilities": list(CLASSES)}}
    folder = tmp_path / "package"
    for path, data in contents(workspace, "news", model, record).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    assert json.loads((folder / "package.json").read_text())["schema"]["input"] == "text"
    (tmp_path / "weights").write_bytes(workspace.store.get(record.weights))
    files = every()
    asked = [files[n] for n in (*ODD, *sorted(files)[5:600:10])] + [b"\xff", "Über caf\u00e9".encode("utf-16")]
    served = answers(SERVED, tmp_path, asked, str(folder))
    trained = answers(TRAINING, toy.root, asked, str(folder), str(tmp_path / "weights"))
    assert served.shape == (len(asked), 5) and np.ptp(served, axis=0).min() > 0.01  # they are not all alike
    assert np.abs(served - trained).max() < 1e-6


def test_the_example_says_where_the_articles_are_and_what_may_be_done_with_them() -> None:
    text = (EXAMPLE / "README.md").read_text()
    assert "non-commercial" in text and "http://mlg.ucd.ie/datasets/bbc.html" in text and "Greene" in text
    commands = [line for line in text.splitlines() if line.startswith("    ")]
    assert 12 <= len(commands) <= 24
    assert not list(EXAMPLE.rglob("*.zip"))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the whole use case was played in."""
    folder = tmp_path_factory.mktemp("played")
    done = subprocess.run(
        [CHECKOUT / "scripts/demo", "news", "--zip", str(ZIP), "--keep", str(folder)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "all of it happened" in done.stdout and "DIFFERENT" not in done.stdout
    return folder


@pytest.fixture
def whole(played: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The played project, as somebody who holds the key opens it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("CDL_KEYRING", str(played / "keyring"))
    toy = Toy(played / "news", monkeypatch)
    toy.sign(OPS)
    return toy


@pytest.mark.long
@needs_articles
def test_every_article_is_there_and_no_body_is_on_both_sides(whole: Toy) -> None:
    workspace = open_workspace(whole.root)
    _, dataset = current(workspace, "articles")
    assert sum(dataset.items.values()) == 2224 and dataset.split.set_aside["count"] == 0
    assert dataset.rejected["reasons"] == {"not *.txt": 1, "shorter than 100 words": 1}
    assert 0.17 < dataset.items["test"] / 2224 < 0.23
    assert no_body_on_both_sides(workspace, copies(every())) >= 130


@pytest.mark.long
@needs_articles
def test_the_small_service_answers_like_the_training_code(whole: Toy, tmp_path: Path) -> None:
    started = json.loads(whole.cdl(OPS, "deploy", "apply", "production", "--json"))
    workspace = open_workspace(whole.root)
    try:
        asked = list(every().values())[::11]
        served = np.asarray([posted(started["port"], text) for text in asked])
    finally:
        whole.cdl(OPS, "deploy", "stop", "production")
    [original] = [record for _, record in workspace.registry.all(Model) if record.origin is None]
    [(_, package)] = workspace.registry.all(Package)
    workspace.store.checkout(package.tree, tmp_path / "package")
    (tmp_path / "weights").write_bytes(workspace.store.get(original.weights))
    small = answers(SERVED, tmp_path, asked, str(tmp_path / "package"))
    assert np.abs(served - small).max() < 1e-6
    trained = answers(TRAINING, whole.root, asked, str(tmp_path / "package"), str(tmp_path / "weights"))
    assert np.mean(served.argmax(axis=1) == trained.argmax(axis=1)) >= 0.99
    assert np.abs(served - trained).mean() < 0.02  # what eight bits cost


def posted(port: int, text: bytes) -> list[float]:
    """What a service answers to a text, over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/predict", text, {"Content-Type": "text/plain"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, found
    return [found["probabilities"][name] for name in CLASSES]
