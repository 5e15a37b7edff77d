"""What a step found once is found again: on another branch, in another clone, after a run that was killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdl.data import versions
from cdl.data.history.reproduce import reproduce_data
from cdl.data.pipeline.outcomes import KEEP_SECONDS, Shelf, claims, identity_of
from cdl.errors import JobFailed
from cdl.housekeeping.erase import erase, plan
from cdl.housekeeping.gc import collect
from cdl.housekeeping.roots import OUTCOME_SECONDS, OUTCOME_TREES, outcome_claims
from cdl.registry.records import Dataset
from cdl.sharing.parcel import WORK
from cdl.store.table import Box, read_root
from cdl.store.tree import Tree, open_tree
from cdl.workflow.workspace import Workspace
from tests.data.test_incremental import CODE, Worked, declare, fill, toy, worked
from tests.projects import DATA, Toy, table
from tests.sharing.conftest import Team, team

__all__ = ["team", "toy", "worked"]
FIRST = {f"a/{n}.txt": f"t {n:03d}".encode() for n in range(30)}
MORE = {f"b/{n}.txt": f"m {n:03d}".encode() for n in range(12)} | {"b/no.txt": b"no more", "b/long.txt": b"longer " * 3}
SLOW = """
import time

def upper(content):
    time.sleep(0.05)
    return content.upper(), {"length": len(content)}

def short(content, fields):
    return content[:6], fields
"""
WHOLE = """
def upper(items):
    return [content + str(len(items)).encode() for content, _ in items]

def short(content):
    return content
"""
OTHER = """
def upper(content):
    return b"from " + content

def short(content):
    return b"short of " + content

def fails(content):
    raise ValueError
"""
KILLED = """
from cdl.cli.main import cli
from cdl.data.pipeline import outcomes

outcomes.KEEP_SECONDS = 0.2
cli(["data", "run"])
"""


def on_branch(toy: Toy, name: str, files: dict[str, bytes]) -> str:
    """A version of some files on a new branch from main."""
    toy.become(DATA).git.run("switch", "--quiet", "-C", name, "main")
    fill(toy, files)
    return versions.make(toy.become(DATA), "points")


def begun(toy: Toy, code: str = CODE, how: str = "", source: str = "{path: incoming}") -> None:
    """The first version on main, with its code."""
    declare(toy, source=source)
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace('steps:upper"', f'steps:upper"{how}'))
    toy.write("data/steps.py", code)
    fill(toy, FIRST)
    toy.commit(toy.become(DATA), "steps")
    versions.make(toy.become(DATA), "points")


def trees(workspace: Workspace) -> dict[str, list[str]]:
    """The outcome trees that are claimed, by set."""
    found: dict[str, list[str]] = {"train": [], "test": []}
    for _, kept in claims(workspace.store):
        found[kept.set].append(kept.tree)
    return found


def test_two_branches_work_the_same_new_items_once(toy: Toy, worked: Worked) -> None:
    begun(toy)
    worked.clear()
    first = on_branch(toy, "one", FIRST | MORE)
    assert len(worked) == 14 + 13  # one of them is rejected by the first step
    worked.clear()
    assert on_branch(toy, "two", FIRST | MORE) == first and worked == []
    record = toy.become(DATA).registry.record(Dataset, first)
    assert sum(record.rejected["reasons"].values()) == 2
    renamed = {name.replace("b/", "c/"): data for name, data in MORE.items()}
    renamed |= {"c/new.txt": b"new"}
    on_branch(toy, "three", FIRST | renamed)  # under other names some of them are in the other set
    told = trees(toy.become(DATA))
    assert told["train"] and told["test"] and ("upper", b"new") in worked and len(worked) < 2 * 14


def test_a_set_that_is_worked_as_a_whole_is_found_as_a_whole(toy: Toy, worked: Worked) -> None:
    begun(toy, WHOLE, ", per: all")
    twice = {**FIRST, "b/same.txt": b"t 001"}
    first = on_branch(toy, "one", twice)
    worked.clear()
    assert on_branch(toy, "two", twice) == first and worked == []
    on_branch(toy, "three", {**twice, "b/another.txt": b"another"})
    assert 1 <= len([content for step, content in worked if step == "upper"]) <= 32


def test_changed_code_works_again_and_a_reproduction_asks_nobody(toy: Toy, worked: Worked) -> None:
    begun(toy)
    before = len(trees(toy.become(DATA))["train"])
    version = on_branch(toy, "one", FIRST | MORE)
    worked.clear()
    claimed = toy.become(DATA).store.claims(WORK)
    told = {same.what: same.identical for same in reproduce_data(toy.become(DATA), version)}
    assert all(told.values()) and len(told) == 3
    assert len(worked) == 44 + 43 and toy.become(DATA).store.claims(WORK) == claimed and before < len(claimed)
    worked.clear()
    toy.become(DATA).git.run("switch", "--quiet", "-C", "two", "main")
    toy.write("data/steps.py", CODE.replace("content.upper()", "content.lower()"))
    toy.commit(toy.become(DATA), "lower")
    fill(toy, FIRST | MORE)
    versions.make(toy.become(DATA), "points")
    assert len(worked) == 44 + 43  # the closure of the other step is the same file


def test_two_clones_that_share_a_store_work_new_items_once(team: Team, tmp_path: Path, worked: Worked) -> None:
    yaml = (team.a.root / "cdl.yaml").read_text()
    steps = 'split: {test: 0.3}\n    steps:\n    - scale: {run: "data.scale:scale"}\n'
    team.a.become(DATA).git.run("switch", "--quiet", "-C", "data/one", "main")
    team.a.write("cdl.yaml", yaml.replace("split: {test: 0.3}\n", steps))
    team.a.write("data/scale.py", "def scale(content):\n    return content + b' '\n")
    team.a.commit(team.a.become(DATA), "a step")
    team.a.become(DATA).git.run("push", "--quiet", "origin", "data/one")
    team.a.write("incoming/points.csv", table(140))
    before = team.a.become(DATA).git.resolve("HEAD")
    first = versions.make(team.a.become(DATA), "points")
    assert len(worked) == 140
    team.a.cdl(DATA, "sync")
    shutil.copytree(tmp_path / "keys-a", tmp_path / "keys-c")
    c = team.another(tmp_path / "c", DATA)
    c.become(DATA).git.run("switch", "--quiet", "-C", "data/two", str(before))
    c.write("incoming/points.csv", table(141))
    worked.clear()
    assert versions.make(c.become(DATA), "points") != first
    assert len(worked) == 1


def test_a_killed_run_goes_on_where_it_was(toy: Toy, worked: Worked) -> None:
    begun(toy, SLOW, source="{path: incoming, set: train}")
    files = FIRST | {f"b/{n}.txt": f"slow {n}".encode() for n in range(150)}
    fill(toy, files)
    store = toy.become(DATA).store
    before = {*store.claims(WORK)}
    run = subprocess.Popen([sys.executable, "-c", KILLED], cwd=toy.root, start_new_session=True)
    end = time.monotonic() + 60
    while not {*store.claims(WORK)} - before and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    worked.clear()
    made = versions.make(toy.become(DATA), "points")
    slow = [content for step, content in worked if step == "upper"]
    assert 0 < len(slow) < 150  # in the middle of the first step
    worked.clear()
    toy.become(DATA).git.run("switch", "--quiet", "-C", "again", "main~1")
    assert versions.make(toy.become(DATA), "points") == made and worked == []  # both parts of it are found


def test_what_a_failing_run_found_is_kept(toy: Toy, worked: Worked) -> None:
    assert KEEP_SECONDS >= 10  # nothing is kept in between here
    begun(toy)
    toy.write("data/steps.py", CODE.replace("    if", "    1 / (content != b'bad')\n    if", 1))
    toy.commit(toy.become(DATA), "fails")
    fill(toy, FIRST | {"b/bad.txt": b"bad"})
    with pytest.raises(JobFailed):
        versions.make(toy.become(DATA), "points")
    worked.clear()
    fill(toy, FIRST)
    versions.make(toy.become(DATA), "points")
    assert len([step for step, _ in worked if step == "upper"]) < 30


def test_what_is_kept_and_broken_is_worked_again(toy: Toy, worked: Worked) -> None:
    begun(toy)
    first = on_branch(toy, "one", FIRST | MORE)
    store = toy.become(DATA).store
    for claim, kept in claims(store):
        page = read_root(store.view(kept.tree), where=claim)["pages"][0][1]
        path = store._path(page)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    worked.clear()
    assert on_branch(toy, "two", FIRST | MORE) == first and len(worked) == 14 + 13


def test_an_erased_item_is_gone_from_what_is_kept(toy: Toy) -> None:
    begun(toy)
    version = on_branch(toy, "one", FIRST | MORE)
    workspace = toy.become(DATA)
    tree = workspace.store.tree(workspace.registry.record(Dataset, version).train)
    item, data = next(
        (tree.names[p], bytes(tree.view(p))) for p in range(len(tree)) if bytes(tree.view(p)).startswith(b"M ")
    )
    rows = {name: open_tree(workspace.store, name).names for name in trees(workspace)["train"]}
    made = plan(workspace, "points", item)
    lost = {name: names for name, names in made.open.items() if name in rows}
    assert len(lost) == 2 and all(len(names) == 1 for names in lost.values())  # one for each step
    erase(workspace, made)
    workspace = toy.become(DATA)
    assert workspace.store.claims(WORK) == []
    assert not [n for n in workspace.store.names() if data in bytes(workspace.store.view(n))]
    left = workspace.store.tree(workspace.registry.record(Dataset, version).train).contents()
    assert item not in left and len(left) == len(tree) - 1


def test_what_only_another_run_made_of_an_erased_item_goes_too(toy: Toy) -> None:
    """A run that failed later on had worked the item with other code."""
    begun(toy)
    more = '    - short: {run: "data.steps:short"}\n    - fails: {run: "data.steps:fails"}\n'
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace('    - short: {run: "data.steps:short"}\n', more))
    toy.write("data/steps.py", OTHER)
    toy.commit(toy.become(DATA), "other")
    with pytest.raises(JobFailed):
        versions.make(toy.become(DATA), "points")
    workspace = toy.become(DATA)
    record = workspace.registry.all(Dataset)[-1][1]
    tree = workspace.store.tree(record.steps[0].train)
    item, data = tree.names[3], bytes(tree.view(3))
    made = [b"from " + data, b"short of from " + data]
    held = {n for n in workspace.store.names() for what in made if what in bytes(workspace.store.view(n))}
    assert len(held) >= 2
    erase(workspace, plan(workspace, "points", item))
    store = toy.become(DATA).store
    assert not [n for n in store.names() if made[0] in bytes(store.view(n))]
    assert all(store.erased(n) for n in held)  # so they go wherever else they are


def test_the_logs_of_the_last_run_are_listed_and_read(toy: Toy) -> None:
    begun(toy, CODE + "\nprint('opened')\n")
    listed = toy.cdl(DATA, "data", "logs").splitlines()
    assert {line.split()[0] for line in listed[1:]} == {"upper", "short"}
    assert toy.cdl(DATA, "data", "logs", listed[1].split()[-1]).strip() == "opened"
    toy.write("data/steps.py", "def upper(content):\n    raise KeyError(content)\n\nshort = upper\n")
    with pytest.raises(JobFailed):
        versions.make(toy.become(DATA), "points")
    [failed] = json.loads(toy.cdl(DATA, "data", "logs", "--json"))
    assert (failed["step"], failed["failed"]) == ("upper", "KeyError")
    assert "KeyError: b't 0" in toy.cdl(DATA, "data", "logs", failed["log"])


def test_gc_keeps_what_was_used_last_and_removes_the_rest(
    toy: Toy, worked: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(toy)
    on_branch(toy, "one", FIRST | MORE)
    workspace = toy.become(DATA)
    kept = trees(workspace)
    collect(workspace.clone, remove=True, older_than=0)
    assert trees(workspace) == kept and workspace.store.has(kept["train"][0])
    worked.clear()
    on_branch(toy, "two", FIRST | MORE)
    assert worked == []
    old = workspace.store.now() - OUTCOME_SECONDS - 60
    for name in kept["train"]:
        os.utime(workspace.store._path(name), (old, old))
    assert sorted(tree for _, tree, stays in outcome_claims(workspace.clone) if not stays) == sorted(kept["train"])
    collect(workspace.clone, remove=True, older_than=0)
    assert trees(toy.become(DATA)) == {"train": [], "test": kept["test"]}
    assert not any(workspace.store.has(name) for name in kept["train"])
    monkeypatch.setattr("cdl.housekeeping.roots.OUTCOME_TREES", 0)
    assert OUTCOME_TREES > 10
    collect(workspace.clone, remove=True, older_than=0)
    assert toy.become(DATA).store.claims(WORK) == []


def test_outcomes_of_another_step_under_its_name_are_not_taken(toy: Toy) -> None:
    """Whoever can write claims but has no key can only point to what key holders sealed."""
    begun(toy)
    workspace = toy.become(DATA)
    record = workspace.registry.all(Dataset)[-1][1]
    boxes: dict[str, Box] = {"train": workspace.store, "test": workspace.vault("points", by="test")}
    upper = record.steps[1]
    identity = identity_of(str(upper.code), str(upper.environment))
    for side, box in boxes.items():
        given = open_tree(box, getattr(record.steps[0], side))
        pieces = [(name,) for name in given.names]

        def found(identity: str, box: Box = box, side: str = side, given: Tree = given) -> tuple[Shelf, int]:
            shelf = Shelf(store=workspace.store, box=box, dataset="points", side=side, identity=identity)
            names = {name: shelf.names(given, [name])[0] for name in given.names}
            return shelf, len(shelf.find(names, [(name,) for name in given.names]))

        assert found(identity)[1] == len(pieces)
        other, _ = found("0" * 32)
        other.claim(next(kept.tree for _, kept in claims(workspace.store, identity) if kept.set == side))
        assert found("0" * 32)[1] == 0
