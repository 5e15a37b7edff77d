"""`cdl log`, `show`, `diff` and `lineage` as a person types them, on one project that went all the way."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.projects import DATA, OPS, SCIENCE, Toy, make_toy, table

from cdl.data.dataset import dataset_record, training
from cdl.data.ready import released
from cdl.registry.records import DeploymentHead, short

CDL = Path(sys.executable).with_name("cdl")
RAISES = "raise SystemExit('reading ran the project')\n"


class Shown:
    """The project, what is in it, and a way to type commands in it."""

    def __init__(self, toy: Toy) -> None:
        toy.data(table(120))
        self.model = toy.promote()
        self.package = toy.package()
        workspace = toy.become(OPS)
        head = DeploymentHead(package=self.package, manifest=workspace.store.put(b"{}"))
        workspace.registry.commit(heads=[("staging", head)], command="deploy apply", line="staging", branch="main")
        self.root, self.environment = toy.root, dict(os.environ)
        self.evaluated = self.run("show", "side")[1], self.json("show", "side")
        toy.data(table(140))
        workspace = toy.become(DATA)
        self.dataset, self.labels = released(workspace, "points")
        self.item = training(workspace, self.dataset, self.labels).ids[0]
        self.sealed = list(
            workspace.vault("points", by="test").tree(dataset_record(workspace, self.dataset).test).names
        )
        for path in ("model/side.py", "model/features.py"):
            toy.write(path, RAISES)
        hook = toy.root / ".git" / "hooks" / "post-index-change"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\ntouch ran\n")
        hook.chmod(0o755)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [str(CDL), *arguments], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr and "reading ran" not in done.stderr + done.stdout, done.stderr
        assert not (self.root / "ran").exists()
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str) -> Any:
        code, said, wrong = self.run(*arguments, "--json")
        assert code == 0, wrong
        return json.loads(said)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("reading")
        yield Shown(make_toy(root / "toy", patch, root / "keyring", roles=True))


def test_log_is_a_history_newest_first(shown: Shown) -> None:
    code, said, _ = shown.run("log", "side")
    rows = [re.split(r"  +", line.strip()) for line in said.splitlines()]
    assert code == 0 and rows[0] == ["id", "kind", "version", "when", "who", "what"]
    kinds = [row[1] if row[0] != "*" else row[2] for row in rows[1:]]
    assert kinds == ["decision", "promotion", "decision", "decision", "model"]
    assert rows[-1][:4] == ["*", short(shown.model), "model", "v1"] and rows[-1][5] == SCIENCE
    every = shown.json("log")
    assert isinstance(every, list) and [e["when"] for e in every] == sorted((e["when"] for e in every), reverse=True)
    assert {e["kind"] for e in every} >= {"dataset", "labels", "model", "promotion", "package", "deployment"}
    assert [e["id"] for e in every if e["current"] and e["kind"] == "deployment"] == [shown.package]


def test_show_takes_ids_names_and_versions(shown: Shown) -> None:
    code, said, hint = shown.run("show", "side")
    assert code == 0 and said.startswith(f"# {shown.model}  registry/models/side/") and hint == ""
    assert said.splitlines()[2] == "kind: model"  # not evaluated on the test that stands now
    text, whole = shown.evaluated
    assert text.splitlines()[2].startswith("# test.accuracy 0.") and "evaluation 1 of 20" in text
    assert isinstance(whole, dict) and whole["evaluation"]["measures"]["test.accuracy"]["value"] > 0.6
    code, said, hint = shown.run("show", "points")
    assert said.startswith(f"# {shown.dataset}") and "taken as the dataset" in hint
    earlier = shown.json("show", "dataset:points@~1")
    assert isinstance(earlier, dict) and earlier == shown.json("show", "points@v1")
    assert dict(shown.json("show", "labels:points"))["id"] == shown.labels
    assert dict(shown.json("show", "staging"))["model"] == shown.model


def test_what_is_not_there_or_not_clear_has_a_code_and_a_remedy(shown: Shown) -> None:
    for arguments, code, remedy in (
        (("show", "sid"), 6, "did you mean side?"),
        (("show", "side@v9"), 6, "there is: v1"),
        (("log", "pints"), 6, "did you mean points?"),
        (("diff", "side", "points"), 2, "two records of one kind"),
        (("lineage", "nobody@example.org"), 6, "cdl log"),
        (("show", "m-00000000"), 6, "cdl log"),
    ):
        found, said, hint = shown.run(*arguments)
        assert (found, said) == (code, "") and remedy in hint, arguments


def test_diff_counts_items_of_the_open_tree(shown: Shown) -> None:
    code, said, _ = shown.run("diff", "points@v1", "points")
    added = re.search(r"training items: (\d+) added, 0 removed, 0 changed", said)
    assert code == 0 and added is not None
    whole = shown.json("diff", "points@v1", "points")
    assert isinstance(whole, dict) and whole["inside"]["added"] == int(added[1])
    counts = {f["field"]: (f["first"], f["second"]) for f in whole["fields"]}["items.train"]
    assert counts[1] - counts[0] == int(added[1]) > 0
    assert shown.run("diff", "points", shown.dataset)[1] == "equal\n"


def test_lineage_from_an_item_a_labeler_and_a_model(shown: Shown) -> None:
    code, said, _ = shown.run("lineage", shown.item[:10], "--down")
    lines = said.splitlines()
    assert code == 0 and lines[0] == f"{shown.item[:8]}  item" and lines[1].startswith("  d-")
    (stage,) = [line for line in lines if "staging" in line]
    assert stage.startswith("          ") and stage.endswith("staging  stage  by package")
    assert any(line.strip().startswith(f"{short(shown.model)}  model side  by data.labels") for line in lines)
    code, said, _ = shown.run("lineage", DATA, "--down")
    assert code == 0 and said.startswith(f"{DATA}  labeler\n  l-") and short(shown.package) in said
    edges = shown.json("lineage", "staging")
    assert isinstance(edges, list) and {"source": shown.package, "field": "model", "target": shown.model} in edges


def test_a_test_item_is_as_unknown_as_one_that_never_was(shown: Shown) -> None:
    unknown = "0" * 32
    expected = [shown.run("lineage", unknown, way) for way in ("--down", "--json")]
    assert [code for code, _, _ in expected] == [6, 6]
    for item in shown.sealed[:3]:
        found = [shown.run("lineage", item, way) for way in ("--down", "--json")]
        assert [(c, said, hint.replace(item, unknown)) for c, said, hint in found] == expected
