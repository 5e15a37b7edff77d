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
from tests.team import CDL, Person

TEAM = """\
store: s3://team/toy
branches: {integration: dev, production: main}
notify: ./tell.sh
roles:
  data_engineer: [data@example.org]
  data_labeler: [data@example.org, label@example.org]
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
    """Clone A of data@ and ops@, B of science@, C of review@ and label@."""

    data: Person
    ops: Person
    science: Person
    review: Person
    label: Person
    origin: Path


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A project that became a team: policy approved, everybody has a clone."""
    folder = tmp_path_factory.mktemp("team")
    with s3_server() as address:
        people = {
            name: Person(f"{name}@example.org", folder / clone, folder / f"keys-{name}", of_server(address))
            for name, clone in (("data", "a"), ("ops", "a"), ("science", "b"), ("review", "c"), ("label", "c"))
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
        for person in (found.review, found.ops, found.label):
            key = person.at(data.root).run(str(CDL), "key", "public").stdout.strip()
            data.cdl("member", "add", person.email, key)
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
        yield found


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
    mine, other = both_register(team)
    request = send_back(team, mine)
    answer(team, request)
    promote(team, other, "exp/wide")
    try:
        deploy(team)
        again = retrain_once(team)
        promote_again(team, again)
        roll_back(team)
    finally:
        for stage in ("production", "staging"):
            team.ops.run(str(CDL), "deploy", "stop", stage)
    a_runner_evaluates(team, tmp_path)
    all_alike(team)
    a_new_member(team, tmp_path)


def both_register(team: Team) -> tuple[str, str]:
    """Each a model of a search of their own; the validator sees both with their trials, and evaluates both."""
    mine = register(team.science, "stems")
    waits = team.science.cdl("status")
    assert "evaluation waits for" in waits and team.review.email in waits
    sync(team.science)
    other = register(team.data, "wide")
    sync(team.data, team.review)
    assert len(team.review.json("trial", "list")) == 2 * 6
    team.review.cdl("run", "--yes")
    listed = team.review.cdl("model", "list")
    assert mine in listed and other in listed
    team.review.cdl("report", mine)
    sync(team.review)
    return mine, other


def send_back(team: Team, model: str) -> str:
    """Submitted, refused to its author, rejected to data collection; the request that the data engineer sees."""
    sync(team.science)
    team.science.cdl("model", "submit", model)
    assert "refused" in team.science.cdl("approve", model, code=3)
    sync(team.science, team.review)
    team.review.cdl("reject", model, "--to", "collection", "--because", "more of both sides")
    sync(team.review)
    team.data.git("switch", "--quiet", "dev")
    sync(team.data)
    found = re.search(r"request (r-[0-9a-f]{8}) at collection for data_engineer", team.data.cdl("status"))
    assert found, "the request does not show"
    return found[1]


def answer(team: Team, request: str) -> None:
    """New data arrive on the integration branch while an experiment is open elsewhere; two people label what came without."""
    rows = table(60, first=120).splitlines()
    bare = [line.rpartition(",")[0] + "," for line in rows[-6:]]
    team.data.write("incoming/more.csv", "\n".join([*rows[:-6], *bare]) + "\n")
    team.data.cdl("run", "data", "--yes", "--answers", request)
    team.data.cdl("approve")
    team.data.cdl("label", "import")
    sync(team.data, team.label)
    items = [row["item"] for row in team.label.json("label", "next")["items"]]
    assert len(items) == 6
    for person, some in ((team.data, items[:3]), (team.label, items[3:])):
        for item in some:
            person.cdl("label", "set", item, "left")
    sync(team.label, team.data)
    assert "100.00%" in team.data.cdl("label", "release")
    sync(team.data, team.science)
    assert team.science.git("branch", "--show-current") == "exp/stems"
    assert request not in team.science.cdl("status"), "an answered request still waits"


def promote(team: Team, model: str, branch: str) -> None:
    """The other candidate: asked for, evaluated on the new test, submitted, approved."""
    team.data.git("switch", "--quiet", branch)
    assert "not evaluated yet" in team.data.cdl("model", "submit", model, code=3)
    sync(team.data, team.review)
    team.review.cdl("run", "--yes")
    sync(team.review, team.data)
    team.data.cdl("model", "submit", model)
    sync(team.data, team.review)
    team.review.cdl("approve", model)
    sync(team.review)


def deploy(team: Team) -> None:
    """Packaged, revised, approved, in production."""
    team.ops.git("switch", "--quiet", "dev")
    sync(team.ops)
    team.ops.cdl("run", "deployment", "--yes")
    sync(team.ops, team.review)
    team.review.cdl("run", "--yes")
    if "revision" in team.review.cdl("status"):
        team.review.cdl("approve")
    sync(team.review, team.ops)
    team.ops.cdl("run", "deployment", "--yes")
    team.ops.cdl("deploy", "apply", "production")
    sync(team.ops)


def retrain_once(team: Team) -> str:
    """New labels wait for a trigger in every clone; it starts once in all. The model that it made."""
    team.data.git("switch", "--quiet", "dev")
    team.data.write("incoming/third.csv", table(60, first=180))
    team.data.cdl("run", "data", "--yes", "--no-triggers")
    team.data.cdl("approve", "--no-triggers")
    team.data.cdl("label", "import")
    team.data.cdl("label", "release", "--no-triggers")
    sync(team.data)
    for person in (team.science, team.review, team.data, team.ops):
        sync(person)
        person.cdl("run", "--yes")
        sync(person)
    assert len([e for e in team.data.json("events") if e["kind"] == "trigger.claimed"]) == 1
    found = re.search(r"cdl/retrain-([0-9a-f]{8})", team.data.git("branch", "--list", "cdl/*"))
    assert found
    return f"m-{found[1]}"


def promote_again(team: Team, model: str) -> None:
    """The retrained model is submitted in another clone, and goes the way to production."""
    sync(team.science)
    team.science.git("switch", "--quiet", model.replace("m-", "cdl/retrain-"))
    team.science.cdl("model", "submit", model)
    sync(team.science, team.review)
    team.review.cdl("run", "--yes")
    team.review.cdl("approve", model)
    sync(team.review)
    deploy(team)


def roll_back(team: Team) -> None:
    """The package before runs again, and everybody hears of it."""
    before = [s["running"] for s in team.ops.json("deploy", "status")]
    team.ops.cdl("deploy", "rollback", "production", "--because", "p95 doubled")
    assert [s["running"] for s in team.ops.json("deploy", "status")] != before
    sync(team.ops, team.science)
    assert "rollback: production" in team.science.cdl("log", "stage:production")


def a_runner_evaluates(team: Team, folder: Path) -> None:
    """Continuous integration, in a shallow detached checkout with the key in its environment, evaluates what waits."""
    science = team.science
    science.git("switch", "--quiet", "exp/stems")
    science.git("merge", "--quiet", "--no-edit", "dev")
    best = science.json("trial", "list", "--sort", "validation.accuracy")[-1]["trial"]
    model = model_of(science.cdl("model", "register", best))
    sync(science)
    key = team.data.cdl("key", "backup").strip().splitlines()[-1]
    runner = Person("ci@example.org", folder / "ci", folder / "keys-ci", {**team.data.around, "CDL_KEY": key})
    url = f"file://{team.origin}"
    runner.run("git", "clone", "--quiet", "--depth=1", "--branch=exp/stems", url, str(runner.root), where=folder)
    runner.git("fetch", "--quiet", "--depth=1", "origin", "dev:refs/remotes/origin/dev")
    runner.git("checkout", "--quiet", "--detach")
    runner.cdl("trust", "--yes")
    runner.cdl("sync")
    runner.cdl("ci", "check", "--shallow")
    assert model in runner.cdl("ci", "evaluate", "--target", "origin/dev")
    runner.cdl("sync")
    sync(science)
    assert "evaluation waits" not in science.cdl("status")


def all_alike(team: Team) -> None:
    """Everybody stands on the same commits, and nothing is broken."""
    people = (team.data, team.science, team.review)
    sync(*people, *people)
    for branch in ("dev", "main"):
        assert len({p.git("rev-parse", branch) for p in people}) == 1
    for person in people:
        assert "whole" in person.cdl("ci", "check") and person.git("status", "--porcelain", "-uno") == ""
        person.cdl("store", "verify")
    told = [{e["id"] for e in p.json("events")} for p in people]
    assert told[0] == told[1] == told[2]


def a_new_member(team: Team, folder: Path) -> None:
    """A fresh clone makes everything again that needs no key."""
    new = Person("new@example.org", folder / "n", folder / "keys-new", team.data.around)
    new.root.mkdir()
    new.cdl("clone", "--yes", str(team.origin), ".")
    said = new.cdl("reproduce", "main")
    assert "differs" not in said and said.count("identical") >= 4


def sync(*people: Person) -> None:
    """Each in turn."""
    for person in people:
        person.cdl("sync")
