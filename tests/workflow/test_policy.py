"""What decides is what was approved: whatever cdl.yaml says on a branch, the parts of the policy in force are used."""

import subprocess
import sys
from pathlib import Path

import pytest

from cdl.cycle import CYCLE, TRIGGERS
from cdl.data import versions
from cdl.data.dataset import current_items
from cdl.data.ready import announce
from cdl.deployment.reproduce import reproduce
from cdl.errors import ConfigError, NotFound, Refused
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.source import model_record
from cdl.model.train import train
from cdl.registry.records import DatasetHead, Decision
from cdl.workflow.decide import decide, meant, waiting
from cdl.workflow.notify import notify
from cdl.workflow.policy import in_force, not_in_force
from cdl.workflow.start import create_key
from cdl.workflow.trigger import fire
from cdl.workflow.trigger import waiting as due
from tests.projects import DATA, OPS, REVIEW, ROLES, SCIENCE, YAML, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
MASKED = YAML.replace("    require:", "    mask: [y]\n    require:")
TRIGGERED = "triggers:\n  - {when: dataset.ready, run: evaluate, of: side}\n"
NOTE = "import pathlib, sys\nwith pathlib.Path('{place}').open('a') as file:\n    print(*sys.argv[1:], file=file)\n"


def project(tmp_path: Path, patch: pytest.MonkeyPatch, yaml: str = YAML) -> Toy:
    toy = make_toy(tmp_path / "toy", patch, tmp_path / "keyring", roles=True, yaml=yaml)
    toy.data(table(80))
    return toy


def rewrite(toy: Toy, who: str, old: str, new: str, *, branch: str | None = None) -> None:
    """Changes cdl.yaml as somebody, on a branch."""
    workspace = toy.become(who)
    if branch:
        workspace.git.run("switch", "--quiet", "-C", branch)
    text = (toy.root / "cdl.yaml").read_text()
    assert old in text
    toy.write("cdl.yaml", text.replace(old, new))
    toy.commit(toy.become(who), f"{new.strip() or 'nothing'} for {old.strip()}")


def test_a_mask_taken_off_on_a_branch_hides_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch, MASKED)
    rewrite(toy, SCIENCE, "    mask: [y]\n", "", branch="exp/curious")
    workspace = toy.become(SCIENCE)
    contents = current_items(workspace, "points")[1].contents
    assert contents and not any(b'"y"' in c for c in contents) and b'"x"' in contents[0]
    assert not_in_force(workspace) == ["data.points.mask"]
    said = subprocess.run([CDL, "status"], cwd=toy.root, capture_output=True, text=True, check=True)
    assert "not used: data.points.mask of cdl.yaml here: commit it on main, then cdl approve policy" in said.stdout


def test_a_model_from_before_a_mask_is_made_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    header, *rows = table(80).splitlines()
    toy.data("\n".join([f"{header},note", *(f"{row},n{i}" for i, row in enumerate(rows))]) + "\n")
    model = toy.promote()
    rewrite(toy, DATA, "    require:", "    mask: [note]\n    require:")
    toy.approve(REVIEW, "policy")
    later = train(toy.become(SCIENCE), "side")
    assert later.data["mask"] == ["note"] and "mask" not in model_record(toy.become(SCIENCE), model).data
    assert not any(b"note" in c for c in current_items(toy.become(SCIENCE), "points")[1].contents)
    found = reproduce(toy.become(DATA), model)
    assert {f.what: f.identical for f in found}["weights"] is True and all(f.identical for f in found)
    again = register(toy.become(SCIENCE), later)
    assert all(f.identical for f in reproduce(toy.become(DATA), again))


def test_a_misspelt_mask_and_a_source_without_items_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(
        tmp_path / "toy",
        monkeypatch,
        tmp_path / "keyring",
        yaml=YAML.replace("    require:", "    mask: [yy]\n    require:"),
    )
    toy.write("incoming/points.csv", "id,x,y,side\n")
    with pytest.raises(ConfigError, match="the sources hold no item"):
        versions.make(toy.become(DATA), "points")
    toy.write("incoming/points.csv", table(20))
    with pytest.raises(ConfigError, match="no item has a field 'yy'") as caught:
        versions.make(toy.become(DATA), "points")
    assert caught.value.remedy == "there are: x, y" and toy.become(DATA).registry.head(DatasetHead, "points") is None


def test_what_a_new_dataset_requires_counts_before_a_policy_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml="cdl: 1\nproject: toy\n")
    toy.write("cdl.yaml", YAML.replace("items >= 10", "items >= 100"))
    create_key(toy.become(DATA), "points")
    toy.write("incoming/points.csv", table(20))
    versions.make(toy.become(DATA), "points")
    with pytest.raises(Refused, match="items >= 100: 20"):
        toy.approve(DATA, "data")


def test_triggers_count_once_they_are_approved_and_not_for_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = project(tmp_path, monkeypatch)
    toy.promote()
    toy.data(table(120))
    announce(toy.become(DATA))
    rewrite(toy, DATA, "deploy:\n", f"{TRIGGERED}deploy:\n")
    assert toy.become(DATA).config.triggers == [] and due(toy.become(DATA), TRIGGERS) == []
    toy.approve(REVIEW, "policy")
    assert len(toy.become(DATA).config.triggers) == 1
    assert due(toy.become(DATA), TRIGGERS) == []  # ready before anybody agreed to the trigger
    toy.data(table(160))
    announce(toy.become(DATA))
    assert [w.line for w in due(toy.become(DATA), TRIGGERS)] == ["dataset.ready > evaluate of side"]
    rewrite(toy, DATA, TRIGGERED, "")
    assert len(due(toy.become(DATA), TRIGGERS)) == 1  # taken out, and that not approved yet


def test_a_promotion_may_start_the_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = "triggers:\n  - {when: model.promoted, run: deployment, of: side}\n"
    toy = project(tmp_path, monkeypatch, YAML + trigger)
    model = toy.promote()
    lines = fire(toy.become(REVIEW), TRIGGERS)
    assert lines == [f"model_revision done: toy: revise {model[:10]}"]
    workspace = toy.become(REVIEW)
    assert [e.fields["model"] for e in workspace.journal.events("model.revised")] == [model]
    assert [o.gate for o in waiting(workspace, CYCLE)] == ["revision"] and fire(workspace, TRIGGERS) == []


def test_a_branch_cannot_name_the_branch_that_judges_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    agreed = in_force(toy.become(REVIEW)).id
    rewrite(toy, SCIENCE, "project: toy\n", "project: toy\nbranches: {integration: exp/mine}\n", branch="exp/mine")
    for who in (SCIENCE, REVIEW):
        workspace = toy.become(who)
        assert workspace.registry.integration == "main" and in_force(workspace).id == agreed
        assert not_in_force(workspace) == ["branches"]
    assert [o.gate for o in waiting(toy.become(REVIEW), CYCLE)] == []


def test_an_approved_change_of_branches_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    rewrite(toy, DATA, "project: toy\n", "project: toy\nbranches: {integration: dev, production: main}\n")
    toy.approve(REVIEW, "policy")
    assert toy.become(DATA).registry.integration == "main"  # the new branch is not there yet
    toy.become(DATA).git.run("branch", "dev")
    for _ in range(2):
        workspace = toy.become(DATA)
        assert workspace.registry.integration == "dev" and workspace.config.branches.production == "main"
    toy.become(DATA).git.run("switch", "--quiet", "dev")
    toy.data(table(100))
    tips = toy.become(DATA).git.refs("refs/heads/")
    assert tips["refs/heads/dev"] != tips["refs/heads/main"]


def test_metrics_and_tests_are_those_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = YAML.replace("    epochs: 4\n", "    epochs: 4\n    tests: tests/side.py\n")
    cases = "def test_never(cases):\n    assert False\n"
    toy = make_toy(
        tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True, yaml=yaml, files={"tests/side.py": cases}
    )
    toy.data(table(80))
    rewrite(toy, SCIENCE, "    tests: tests/side.py\n", "")  # on the integration branch, and not approved
    model = toy.model()
    assert evaluate(toy.become(DATA), model).result["tests"] == {"test_never": "fail"}
    toy.become(SCIENCE).git.run("switch", "--quiet", "main")
    toy.write("tests/side.py", cases.replace("False", "True"))
    toy.commit(toy.become(SCIENCE), "easier")
    second = toy.model("exp/second", seed=3)
    with pytest.raises(Refused, match="tests:side changed and is not approved"):
        evaluate(toy.become(DATA), second)


def test_two_policies_approved_side_by_side_leave_the_one_before_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = project(tmp_path, monkeypatch)
    before = in_force(toy.become(REVIEW)).id
    base = toy.become(REVIEW).registry.tip() or ""
    found = []
    for bound in ("0.70", "0.80"):
        toy.become(REVIEW).git.run("switch", "--quiet", "-C", "main", base)
        rewrite(toy, DATA, ">= 0.60", f">= {bound}")
        toy.approve(REVIEW, "policy")
        found.append(toy.become(REVIEW).git.head())
        assert in_force(toy.become(REVIEW)).requirements()[0].value == float(bound)
    workspace = toy.become(REVIEW)
    workspace.git.run("merge", "--quiet", "--strategy-option=ours", "--no-edit", found[0])
    workspace = toy.become(REVIEW)
    assert in_force(workspace).id == before
    opened = meant(workspace, CYCLE, "policy")
    decide(workspace, CYCLE, "policy", opened.subject, "approve")
    assert in_force(toy.become(REVIEW)).requirements()[0].value == 0.80


def test_approve_and_reject_of_a_policy_side_by_side_reopen_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    before = in_force(toy.become(REVIEW)).id
    rewrite(toy, DATA, ">= 0.60", ">= 0.70")
    base = toy.become(REVIEW).registry.tip() or ""
    subject = meant(toy.become(REVIEW), CYCLE, "policy").subject
    decide(toy.become(REVIEW), CYCLE, "policy", subject, "approve")
    approved = toy.become(REVIEW).git.head()
    toy.become(REVIEW).git.run("switch", "--quiet", "-C", "main", base)
    decide(toy.become(REVIEW), CYCLE, "policy", subject, "reject", because="not yet")
    toy.become(REVIEW).git.run("merge", "--quiet", "--no-edit", approved)
    assert in_force(toy.become(REVIEW)).id == before
    assert [o.subject for o in waiting(toy.become(REVIEW), CYCLE) if o.gate == "policy"] == [subject]


def test_each_waiting_decision_is_told_once_by_the_approved_program_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, evil = tmp_path / "told.txt", tmp_path / "evil.txt"
    notes = {"tell.py": NOTE.format(place=told), "evil.py": NOTE.format(place=evil)}
    yaml = YAML + f'notify: "{sys.executable} tell.py"\n'
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True, yaml=yaml, files=notes)
    notify(toy.become(DATA), CYCLE)
    assert not told.exists()
    toy.write("incoming/points.csv", table(80))
    run = [str(CDL), "data", "run", "--json"]
    toy.become(DATA)
    said = subprocess.run(run, cwd=toy.root, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("{")
    subprocess.run([str(CDL), "run", "--yes"], cwd=toy.root, capture_output=True, check=True)
    lines = told.read_text().splitlines()
    assert len(lines) == 1 and lines[0].startswith("data d-") and lines[0].endswith(f"points: a new version {DATA}")
    rewrite(toy, SCIENCE, "tell.py", "evil.py", branch="exp/evil")
    toy.write("incoming/points.csv", table(90))
    toy.become(DATA)
    subprocess.run(run, cwd=toy.root, capture_output=True, check=True)
    assert len(told.read_text().splitlines()) == 2 and not evil.exists()


@pytest.mark.parametrize(("program", "named"), [("./nowhere.sh", "nowhere.sh"), ("say 'it", "No closing quotation")])
def test_a_program_that_fails_is_named_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, named: str
) -> None:
    toy = project(tmp_path, monkeypatch, YAML + f'notify: "{program}"\n')
    toy.write("incoming/points.csv", table(90))
    toy.become(DATA)
    said = subprocess.run([str(CDL), "data", "run"], cwd=toy.root, capture_output=True, text=True, check=True)
    assert "notify: " in said.stderr and named in said.stderr


def test_two_work_trees_of_a_clone_share_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    first = toy.become(SCIENCE)
    first.git.run("worktree", "add", "--quiet", "-b", "exp/there", str(tmp_path / "there"))
    there = Toy(tmp_path / "there", monkeypatch)
    model = there.model("exp/there")
    assert there.become(SCIENCE).folder == first.folder and not (tmp_path / "there/.cdl").exists()
    assert evaluate(toy.become(DATA), model).number == 1
    assert [e.fields["model"] for e in there.become(SCIENCE).journal.events("model.evaluated")] == [model]


def test_a_dataset_that_no_policy_knows_stands_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    section = YAML[YAML.index("  points:") : YAML.index("model:")].replace("points:", "others:").replace("0.3", "0.5")
    toy.write("cdl.yaml", YAML.replace("model:\n", section + "model:\n", 1) + ROLES)
    workspace = toy.become(DATA)
    assert workspace.config.data["others"].split.test == 0.5 and workspace.config.data["points"].split.test == 0.3
    assert not_in_force(workspace) == []


def test_without_any_policy_nothing_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = project(tmp_path, monkeypatch)
    workspace = toy.become(OPS)
    assert workspace.registry.all(Decision, at=workspace.registry.tip())
    workspace.registry.integration = "nowhere"
    with pytest.raises(NotFound, match="no approved policy"):
        in_force(workspace)


def test_a_clone_of_another_branch_is_told_how_to_get_the_integration_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = project(tmp_path, monkeypatch)
    toy.become(SCIENCE).git.run("branch", "exp/one")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", "--branch", "exp/one", str(toy.root), str(other)], check=True)
    said = subprocess.run([str(CDL), "status"], cwd=other, capture_output=True, text=True)
    assert said.returncode != 0 and "git branch main origin/main" in said.stderr
    subprocess.run(["git", "branch", "main", "origin/main"], cwd=other, check=True, capture_output=True)
    assert subprocess.run([str(CDL), "status"], cwd=other, capture_output=True).returncode == 0
