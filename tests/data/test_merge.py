"""Two people make versions on two branches; git stops at the head, and one command joins them."""

import json
from pathlib import Path

import pytest

from cdl.data.history.reproduce import reproduce_data
from cdl.errors import Conflict, NotFound, Refused, Unavailable
from cdl.git.repository import Git
from cdl.registry.records import Dataset, DatasetHead, Joined
from tests.projects import DATA, FILES, SCIENCE, Toy, make_toy, table, write_files

STEP = "steps: [{same: {run: [cat]}}]\n    require:"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A version of 30 files on main, which `theirs` branches from."""
    yaml = FILES.replace("require:", STEP).replace(", origin: {csv: {path: sides.csv, item: item, label: side}}", "")
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=yaml, roles=True)
    write_files(made, 30)
    made.cdl(DATA, "data", "run")
    git(made).run("branch", "theirs")
    return made


def git(toy: Toy) -> Git:
    return toy.become(DATA).git


def head(toy: Toy, at: str = "HEAD") -> str:
    found = toy.become(DATA).registry.head(DatasetHead, "points", at=at)
    assert found is not None
    return found.version


def files(toy: Toy) -> dict[str, str]:
    folder = toy.root / "incoming"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def edit(toy: Toy, branch: str, changes: dict[str, str | None]) -> dict[str, str]:
    """A version on a branch, from its own sources with some changes; those sources."""
    git(toy).run("switch", "--quiet", branch)
    toy.cdl(DATA, "data", "checkout", "--force", "--of", "points")
    for name, text in changes.items():
        if text is None:
            (toy.root / "incoming" / name).unlink()
        else:
            toy.write(f"incoming/{name}", text)
    toy.cdl(DATA, "data", "run", "points")
    return files(toy)


def both(toy: Toy, ours: dict[str, str | None], theirs: dict[str, str | None]) -> None:
    """A version on each branch, and a git merge that stops."""
    edit(toy, "theirs", theirs)
    edit(toy, "main", ours)
    done = git(toy).call("merge", "--no-edit", "theirs")
    assert done.returncode == 1 and b"registry/datasets/points.yaml" in done.stdout


OURS: dict[str, str | None] = {"new/ours.json": '{"x": 1}', "0/003.json": None, "1/004.json": '{"x": "ours"}'}
THEIRS: dict[str, str | None] = {"new/theirs.json": '{"x": 2}', "2/005.json": None, "0/006.json": '{"x": "theirs"}'}


def test_a_merge_joins_what_both_did(toy: Toy) -> None:
    start = files(toy)
    both(toy, OURS, THEIRS)
    mine, other = head(toy), head(toy, "theirs")
    assert files(toy).keys() == (start.keys() | {"new/ours.json"}) - {"0/003.json"}
    said = toy.cdl(DATA, "data", "merge")
    assert "3 items as in theirs" in said and "2 files written" in said and "1 files removed" in said
    wanted = {k: v for k, v in {**start, **OURS, **THEIRS}.items() if v is not None}
    assert files(toy) == wanted
    tree = git(toy)
    assert tree.text("rev-parse", "HEAD") == tree.text("rev-parse", "main") and (tree.git_dir / "MERGE_HEAD").exists()
    assert not tree.text("ls-files", "--unmerged") and not tree.text("diff", "--name-only")
    tree.run("commit", "--quiet", "--no-edit")
    workspace = toy.become(DATA)
    record = workspace.registry.record(Dataset, head(toy))
    assert record.parent == mine and isinstance(record.joined, Joined) and record.joined.theirs == other
    assert sum(record.items.values()) == len(wanted)
    assert "nothing changed" in toy.cdl(DATA, "data", "run")
    assert "0 faults" in toy.cdl(DATA, "data", "verify") and "as in the version" in toy.cdl(DATA, "data", "status")
    assert [each.identical for each in reproduce_data(toy.become(DATA), head(toy))] == [True]
    toy.cdl(DATA, "ci", "check")
    assert [f for f in json.loads(toy.cdl(DATA, "doctor", "--json"))["findings"] if f["area"] in ("git", "store")] == []
    log = json.loads(toy.cdl(DATA, "data", "log", "--json"))
    assert len(log) == 3
    again = {"later-too.json": "theirs", "0/006.json": "once more"}
    both(toy, {"later.json": "ours"}, {**again})  # what both come from is the version that was joined
    toy.cdl(DATA, "data", "merge")
    git(toy).run("commit", "--quiet", "--no-edit")
    assert files(toy) == {**wanted, "later.json": "ours", **again}
    assert "nothing changed" in toy.cdl(DATA, "data", "run")


def test_clashes_are_told_by_item_and_nothing_is_written_of_any_dataset(toy: Toy) -> None:
    toy.write("more/0.txt", "0")
    toy.cdl(DATA, "data", "add", "more")
    toy.commit(toy.become(DATA), "more")
    git(toy).run("branch", "--force", "theirs")
    for branch in ("theirs", "main"):
        git(toy).run("switch", "--quiet", branch)
        toy.cdl(DATA, "data", "checkout", "--of", "more", "--force")
        toy.write(f"more/{branch}.txt", branch)
        toy.cdl(DATA, "data", "run", "more")
    edit(toy, "theirs", {"0/003.json": "theirs", "1/004.json": "t", "b.json": "2"})
    edit(toy, "main", {"0/003.json": "ours", "1/004.json": None, "a.json": "1"})
    git(toy).call("merge", "--no-edit", "theirs")
    before = files(toy), git(toy).text("status", "--porcelain")
    with pytest.raises(Conflict, match="2 items or files were changed on both sides"):
        toy.cdl(DATA, "data", "merge")
    assert (files(toy), git(toy).text("status", "--porcelain")) == before
    assert not (toy.root / "more/theirs.txt").exists()


def test_what_the_person_changed_since_is_not_lost(toy: Toy) -> None:
    both(toy, OURS, THEIRS)
    toy.write("incoming/0/006.json", "not in any version")
    toy.write("incoming/1/007.json", "nor this, which theirs did not touch")
    with pytest.raises(
        Conflict, match="changed in the source since the last version, and by theirs: incoming/0/006.json"
    ):
        toy.cdl(DATA, "data", "merge")
    assert "new/theirs.json" not in files(toy)
    toy.write("incoming/0/006.json", '{"x": "theirs"}')  # as it is to be
    toy.cdl(DATA, "data", "merge")
    assert files(toy)["1/007.json"].startswith("nor this") and "new/theirs.json" in files(toy)
    git(toy).run("commit", "--quiet", "--no-edit")
    assert "1 changed: incoming/1/007.json" in toy.cdl(DATA, "data", "status")


def test_steps_of_other_code_run_after_the_merge(toy: Toy) -> None:
    edit(toy, "theirs", THEIRS)
    git(toy).run("switch", "--quiet", "main")
    toy.cdl(DATA, "data", "checkout", "--force")
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace("[cat]", "[cat, '-']"))
    toy.commit(toy.become(DATA), "another step")
    toy.write("incoming/new/ours.json", '{"x": 1}')
    toy.cdl(DATA, "data", "run")
    git(toy).call("merge", "--no-edit", "theirs")
    said = toy.cdl(DATA, "data", "merge")
    assert "not joined, left to the next run: same" in said and "then cdl data run" in said
    git(toy).run("commit", "--quiet", "--no-edit")
    assert json.loads(toy.cdl(DATA, "data", "show", "--json"))["skipped"] == ["same"]
    toy.cdl(DATA, "data", "run")
    found = json.loads(toy.cdl(DATA, "data", "show", "--json"))
    assert found["skipped"] == [] and sum(found["items"].values()) == 31


def test_a_work_tree_without_the_sources_is_told_how_to_get_them(toy: Toy) -> None:
    both(toy, OURS, THEIRS)
    wanted = files(toy)
    (toy.root / "incoming").rename(toy.root / "elsewhere")
    said = toy.cdl(DATA, "data", "merge")
    assert "cdl data checkout brings it" in said and not (toy.root / "incoming").exists()
    git(toy).run("commit", "--quiet", "--no-edit")
    toy.cdl(DATA, "data", "checkout")
    assert files(toy).keys() == (wanted.keys() | {"new/theirs.json"}) - {"2/005.json"}


def test_only_in_a_merge_and_only_for_who_may(toy: Toy) -> None:
    with pytest.raises(Conflict, match="no merge is under way"):
        toy.cdl(DATA, "data", "merge")
    both(toy, OURS, THEIRS)
    with pytest.raises(Refused, match="data merge is for data_engineer"):
        toy.cdl(SCIENCE, "data", "merge")
    (toy.root.parent / "keyring").rename(toy.root.parent / "aside")
    with pytest.raises(Unavailable):
        toy.cdl(DATA, "data", "merge")
    (toy.root.parent / "aside").rename(toy.root.parent / "keyring")
    toy.cdl(DATA, "data", "merge")
    once = git(toy).text("ls-files", "--stage", "registry/datasets/points.yaml")
    with pytest.raises(NotFound, match="no head of a dataset is in conflict"):
        toy.cdl(DATA, "data", "merge")
    toy.cdl(DATA, "data", "merge", "points")
    assert git(toy).text("ls-files", "--stage", "registry/datasets/points.yaml") == once


def test_a_branch_that_is_ahead_is_taken_as_it_is(toy: Toy) -> None:
    start = files(toy)
    later = edit(toy, "theirs", THEIRS)
    git(toy).run("switch", "--quiet", "main")
    toy.cdl(DATA, "data", "checkout", "--force")
    assert files(toy) == start
    git(toy).run("merge", "--quiet", "--no-ff", "--no-commit", "theirs")  # git itself takes their head
    toy.cdl(DATA, "data", "merge", "points")
    git(toy).run("commit", "--quiet", "--no-edit")
    assert head(toy) == head(toy, "theirs") and files(toy) == later
    assert "nothing changed" in toy.cdl(DATA, "data", "run")


def test_a_table_that_both_changed_clashes_as_a_file_and_two_tables_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.write("incoming/points.csv", table(40))
    toy.cdl(DATA, "data", "run")
    git(toy).run("branch", "theirs")

    def rows(branch: str, name: str, first: int) -> None:
        git(toy).run("switch", "--quiet", branch)
        toy.cdl(DATA, "data", "checkout", "--force")
        toy.write(f"incoming/{name}.csv", table(10, first=first) if name != "points" else table(first))
        for command in (["data", "run"], ["label", "import"], ["label", "release"]):
            toy.cdl(DATA, *command)

    rows("theirs", "theirs", 40)
    rows("main", "ours", 50)
    git(toy).call("merge", "--no-edit", "theirs")
    said = toy.cdl(DATA, "data", "merge")
    assert "10 items as in theirs" in said and "git checkout --ours -- registry/labels/points.yaml" in said
    git(toy).run("checkout", "--ours", "--", "registry/labels/points.yaml")
    git(toy).run("add", "registry/labels/points.yaml")
    git(toy).run("commit", "--quiet", "--no-edit")
    assert "60 items" in toy.cdl(DATA, "data", "run") and "nothing changed" in toy.cdl(DATA, "data", "run")
    assert "train 100.00%, test 100.00%" in toy.cdl(DATA, "label", "release")
    git(toy).run("branch", "--force", "theirs")
    rows("theirs", "points", 38)
    rows("main", "points", 39)
    git(toy).call("merge", "--no-edit", "theirs")
    with pytest.raises(Conflict, match="1 items or files"):
        toy.cdl(DATA, "data", "merge")
