"""Steps that work the items of a group together: again whenever one of them changed, came or went."""

import pytest

from cdl.data import versions
from cdl.data.history.reproduce import reproduce_data
from cdl.errors import ConfigError
from cdl.housekeeping.erase import erase, plan
from cdl.registry.records import Dataset
from cdl.workflow.workspace import Workspace
from tests.data.test_incremental import Worked, declare, drafted, fill, toy, without_looking_back, worked
from tests.projects import DATA, Toy

__all__ = ["toy", "worked"]
CODE = """
from cdl.data.reject import Reject

def upper(content):
    patient, text = content.decode().split(" ", 1)
    return text.encode(), {"patient": patient}

def short(items):
    patients = {fields["patient"] for _, fields in items}
    assert len(patients) == 1
    if len(items) > 6:
        return [Reject("too many of one")] * len(items)
    return [content + b" of %d" % len(items) for content, _ in items]
"""
SOURCE = "{path: incoming, set: train}"
FILES = {f"a/{n}.txt": b"p%d scan %02d" % (n % 8, n) for n in range(24)}


def begun(toy: Toy, how: str = ", per: group, group: patient", source: str = SOURCE) -> str:
    declare(toy, source=source)
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace('steps:short"', f'steps:short"{how}'))
    toy.write("data/steps.py", CODE)
    fill(toy, FILES)
    toy.commit(toy.become(DATA), "steps")
    return versions.make(toy.become(DATA), "points")


def contents(workspace: Workspace, version: str) -> set[bytes]:
    """The training items of a version."""
    return {*workspace.store.tree(workspace.registry.record(Dataset, version).train).contents().values()}


def grouped(worked: Worked) -> list[bytes]:
    """What the second step worked, in order."""
    return [content for step, content in worked if step == "short"]


def test_a_group_is_worked_again_when_an_item_changed_came_or_went(toy: Toy, worked: Worked) -> None:
    first = begun(toy)
    assert contents(toy.become(DATA), first) == {b"scan %02d of 3" % n for n in range(24)}
    assert len(grouped(worked)) == 24
    at = [int(content[5:7]) % 8 for content in grouped(worked)]
    assert all(at[n] == at[n + 1] == at[n + 2] for n in range(0, 24, 3))  # one group after the other
    files = FILES | {"a/1.txt": b"p1 other", "b/new.txt": b"p2 new"}
    del files["a/3.txt"]
    files["a/4.txt"] = b"p5 moved"  # from one group to another
    fill(toy, files)
    worked.clear()
    made = versions.make(toy.become(DATA), "points")
    assert len(grouped(worked)) == 3 + 4 + 2 + 2 + 4
    found = contents(toy.become(DATA), made)
    assert {b"other of 3", b"new of 4", b"scan 11 of 2", b"scan 12 of 2", b"moved of 4", b"scan 00 of 3"} <= found
    assert len(found) == 24
    worked.clear()
    assert without_looking_back(toy) == drafted(toy.become(DATA)) and worked == []
    told = {same.what: same.identical for same in reproduce_data(toy.become(DATA), made)}
    assert told["data, train"] and told["data, test"] and len(grouped(worked)) == 24


def test_a_group_is_never_of_both_sets_and_is_found_on_another_branch(toy: Toy, worked: Worked) -> None:
    first = begun(toy, source="{path: incoming}")
    items = toy.become(DATA).registry.record(Dataset, first).items
    assert items["train"] and items["test"]
    groups = {content[-1:] for content in contents(toy.become(DATA), first)}
    assert groups - {b"3"}  # some members are in the other set
    more = FILES | {"b/new.txt": b"p2 new"}
    fill(toy, more)
    toy.become(DATA).git.run("switch", "--quiet", "-C", "one")
    second = versions.make(toy.become(DATA), "points")
    toy.become(DATA).git.run("switch", "--quiet", "-C", "two", "main")
    worked.clear()
    assert versions.make(toy.become(DATA), "points") == second and worked == []


def test_a_group_that_is_rejected_or_fails(toy: Toy, worked: Worked) -> None:
    begun(toy, ", per: group, group: patient, on_error: aside")
    fill(toy, FILES | {f"b/{n}.txt": b"p1 more %d" % n for n in range(5)})
    made = toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), "points"))
    assert made.rejected["reasons"] == {"too many of one": 8} and made.items["train"] == 21
    few = {name: data for name, data in FILES.items() if name != "a/2.txt"} | {"b/0.txt": b"p1 more 0"}
    fill(toy, few)
    again = toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), "points"))
    assert again.rejected["reasons"] == {} and again.items["train"] == 24
    fill(toy, FILES | {f"b/{n}.txt": b"p1 more %d" % n for n in range(5)})
    toy.write("data/steps.py", CODE.replace("assert len(patients) == 1", "assert patients != {'p2'}"))
    toy.commit(toy.become(DATA), "fails")
    made = toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), "points"))
    assert made.rejected["reasons"] == {"too many of one": 8, "failed: AssertionError": 3}
    worked.clear()
    versions.make(toy.become(DATA), "points")
    assert len(grouped(worked)) == 3  # again, and only they


def test_what_an_erased_item_was_worked_with_is_worked_again(toy: Toy) -> None:
    version = begun(toy)
    workspace = toy.become(DATA)
    tree = workspace.store.tree(workspace.registry.record(Dataset, version).train)
    item = next(tree.names[p] for p in range(len(tree)) if bytes(tree.view(p)) == b"scan 09 of 3")
    erase(workspace, plan(workspace, "points", item))
    (toy.root / "incoming" / "a" / "9.txt").unlink()
    found = contents(toy.become(DATA), versions.make(toy.become(DATA), "points"))
    assert {b"scan 01 of 2", b"scan 17 of 2", b"scan 00 of 3"} <= found and len(found) == 23


def test_a_column_of_a_table_makes_groups_and_a_missing_one_is_named(toy: Toy) -> None:
    declare(toy, source=SOURCE, items="{rows: {format: csv, id: id}}")
    yaml = (toy.root / "cdl.yaml").read_text().replace('    - upper: {run: "data.steps:upper"}\n', "")
    toy.write("cdl.yaml", yaml.replace('steps:short"', 'steps:short", per: group, group: patient'))
    toy.write("data/steps.py", "def short(items):\n    return [b'%d' % len(items) + content for content, _ in items]\n")
    fill(toy, {"t.csv": b"id,patient,n\n1,a,1\n2,b,2\n3,a,3\n"})
    found = contents(toy.become(DATA), versions.make(toy.become(DATA), "points"))
    assert sorted(content[:1] for content in found) == [b"1", b"2", b"2"]
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace("group: patient", "group: doctor"))
    with pytest.raises(ConfigError, match="an item has no field 'doctor'") as raised:
        versions.make(toy.become(DATA), "points")
    assert raised.value.where == "cdl.yaml: data.points.steps: short.group"
