"""Two people, two clones, a bare git remote and a bucket; a validator in a third clone; a new member in a fourth.

Everything is typed: each step is a process of the command line, or of git.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.projects import FEATURES, SIDE, YAML, table
from tests.s3 import of_server, s3_server
from tests.team import Person

TEAM = """\
store: s3://team/toy
branches: {integration: dev, production: main}
notify: ./tell.sh
roles:
  data_engineer: [data@example.org]
  data_labeler: [data@example.org, science@example.org]
  data_scientist: [science@example.org, data@example.org]
  model_validator: [review@example.org]
  software_engineer: [ops@example.org]
  devops: [ops@example.org]
triggers:
  - {when: dataset.ready, run: [evaluate, train], of: side}
"""
TELL = '#!/bin/sh\necho "$1 $4" >> ../told.txt\n'


@dataclass(frozen=True)
class Team:
    """Clone A of data@ and ops@, B of science@, C of review@."""

    data: Person
    ops: Person
    science: Person
    review: Person
    origin: Path


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A project that became a team: policy approved, everybody has a clone."""
    folder = tmp_path_factory.mktemp("team")
    with s3_server() as address:
        people = {
            name: Person(f"{name}@example.org", folder / clone, folder / f"keys-{name}", of_server(address))
            for name, clone in (("data", "a"), ("ops", "a"), ("science", "b"), ("review", "c"))
        }
        found = Team(**people, origin=folder / "origin.git")
        data = found.data
        (folder / "a").mkdir()
        data.git("init", "--quiet", "--bare", "--initial-branch=main", str(found.origin))
        for path, text in {"cdl.yaml": YAML, "model/side.py": SIDE, "model/features.py": FEATURES}.items():
            data.write(path, text)
        data.write("requirements.lock", "numpy==2.0.0\n")
        data.cdl("init")
        data.git("add", "model", "requirements.lock")
        data.git("commit", "--quiet", "-m", "model")
        data.write("cdl.yaml", YAML + TEAM)
        data.write("tell.sh", TELL)
        (folder / "a/tell.sh").chmod(0o755)
        data.commit("a team")
        data.cdl("approve", "policy")
        data.cdl("trust", "--yes")
        data.git("switch", "--quiet", "-c", "dev")
        data.git("remote", "add", "origin", str(found.origin))
        data.write("incoming/points.csv", table(120))
        data.cdl("run", "data", "--yes")
        data.cdl("approve")
        data.cdl("sync")
        for person in (found.science, found.review):
            person.run("mkdir", "-p", str(person.root), where=folder)
            person.cdl("clone", "--yes", str(found.origin), ".")
        share_key(found)
        yield found


def share_key(team: Team) -> None:
    """review@ and ops@ get the key of the dataset."""
    line = team.data.cdl("key", "backup").strip()
    for person in (team.review, team.ops):
        person.cdl("key", "restore", given=line)


def model_of(said: str) -> str:
    """The first model that a command names."""
    found = re.search(r"m-[0-9a-f]{8}", said)
    assert found, said
    return found[0]


def register(person: Person, branch: str) -> str:
    """An experiment, a search, and its best trial registered."""
    person.cdl("experiment", "create", branch)
    person.cdl("run", "model", "--yes")
    best = person.json("trial", "list", "--sort", "validation.accuracy")[0]["trial"]
    return model_of(person.cdl("model", "register", best))


def test_the_whole_cycle(team: Team, tmp_path: Path) -> None:
    data, ops, science, review = team.data, team.ops, team.science, team.review
    # both register, neither loses anything
    mine = register(science, "stems")
    assert "evaluat" in science.cdl("status")
    science.cdl("sync")
    other = register(data, "wide")
    data.cdl("sync")
    review.cdl("sync")
    assert len(review.json("trial", "list")) == 2 * 6
    assert all(model in review.cdl("run", "--yes") + review.cdl("model", "list") for model in (mine, other))
    review.cdl("report", mine)
    review.cdl("sync")
    # submitted, refused, sent back to data collection
    science.cdl("sync")
    science.cdl("model", "submit", mine)
    assert "refused" in science.cdl("approve", mine, code=3)
    science.cdl("sync")
    review.cdl("sync")
    review.cdl("reject", mine, "--to", "collection", "--because", "more of both sides")
    review.cdl("sync")
    # the data engineer sees the request and answers it, while an experiment is open
    data.git("switch", "--quiet", "dev")
    data.cdl("sync")
    request = re.search(r"r-[0-9a-f]{8}", data.cdl("status"))
    assert request, "the request does not show"
    data.write("incoming/more.csv", table(60, first=120))
    data.cdl("run", "data", "--yes", "--answers", request[0])
    data.cdl("approve")
    # both label, one releases
    science.cdl("sync")
    items = [row["item"] for row in science.json("label", "list")] if False else []
    assert items == []
    data.cdl("sync")
    science.cdl("sync")
    assert science.git("branch", "--show-current") == "exp/stems"
    assert request[0] not in science.cdl("status"), "an answered request still waits"
    # the other candidate is evaluated again on the new test, submitted, approved: promoted
    data.git("switch", "--quiet", "exp/wide")
    data.cdl("model", "submit", other)
    data.cdl("sync")
    review.cdl("sync")
    review.cdl("run", "--yes")
    assert "promoted" in review.cdl("approve", other) or "v1" in review.cdl("log")
    review.cdl("sync")
    # deployed
    ops.git("switch", "--quiet", "dev")
    ops.cdl("sync")
    ops.cdl("run", "deployment", "--yes")
    ops.cdl("sync")
    review.cdl("sync")
    review.cdl("run", "--yes")
    review.cdl("approve")
    review.cdl("sync")
    ops.cdl("sync")
    ops.cdl("run", "deployment", "--yes")
    try:
        ops.cdl("deploy", "apply", "production")
        first = ops.json("deploy", "status")
        # new data: the trigger fires once in all
        data.git("switch", "--quiet", "dev")
        data.write("incoming/third.csv", table(60, first=180))
        data.cdl("run", "data", "--yes", "--no-triggers")
        data.cdl("approve", "--no-triggers")
        data.cdl("sync")
        for person in (science, review, data, ops):
            person.cdl("sync")
            person.cdl("run", "--yes")
            person.cdl("sync")
        assert len([e for e in data.json("events") if e["kind"] == "trigger.claimed"]) == 1
        retrained = next(
            b for b in science.git("branch", "-a", "--format=%(refname:short)").split() if "cdl/retrain-" in b
        )
        science.cdl("sync")
        science.git("switch", "--quiet", retrained.removeprefix("origin/"))
        again = model_of(retrained.replace("retrain-", "m-"))
        review.cdl("sync")
        review.cdl("run", "--yes")
        review.cdl("sync")
        science.cdl("sync")
        science.cdl("model", "submit", again)
        science.cdl("sync")
        review.cdl("sync")
        review.cdl("approve", again)
        review.cdl("sync")
        ops.cdl("sync")
        ops.cdl("run", "deployment", "--yes")
        ops.cdl("sync")
        review.cdl("sync")
        review.cdl("run", "--yes")
        review.cdl("approve")
        review.cdl("sync")
        ops.cdl("sync")
        ops.cdl("run", "deployment", "--yes")
        ops.cdl("deploy", "apply", "production")
        second = ops.json("deploy", "status")
        ops.cdl("deploy", "rollback", "production", "--because", "p95 doubled")
        assert ops.json("deploy", "status") != second and first
        ops.cdl("sync")
    finally:
        for stage in ("production", "staging"):
            ops.run(*map(str, (Path(__import__("sys").executable).with_name("cdl"), "deploy", "stop", stage)))
    # everybody stands on the same commits, nothing is broken, and a new member makes it again
    for person in (data, science, review):
        person.cdl("sync")
    for branch in ("dev", "main"):
        assert len({p.git("rev-parse", branch) for p in (data, science, review)}) == 1
    for person in (data, science, review):
        assert "whole" in person.cdl("ci", "check") and person.git("status", "--porcelain", "-uno") == ""
        person.cdl("store", "verify")
    new = Person("new@example.org", tmp_path / "n", tmp_path / "keys-new", data.around)
    new.root.mkdir()
    new.cdl("clone", "--yes", str(team.origin), ".")
    said = new.cdl("reproduce", "main")
    assert "differs" not in said and said.count("identical") >= 4
