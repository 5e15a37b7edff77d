"""The model review: what makes it stale and what does not, who may not decide, and decisions that did not see each other."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdl.cycle import CYCLE, announce
from cdl.data import labels, versions
from cdl.errors import Refused
from cdl.model import review
from cdl.model.current import promoted
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.results import counted, evaluated
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.registry.records import Dataset, DatasetHead, Decision, DeploymentHead, LabelsHead, ModelHead, Package
from cdl.workflow.decide import decide, meant, waiting
from cdl.workflow.policy import decisions, in_force, unapproved, verdict_on
from cdl.workflow.request import open_request
from cdl.workflow.run import run
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, REVIEW, ROLES, SCIENCE, YAML, Toy, make_toy, table

TWO_SOURCES = YAML.replace(
    "source: {path: incoming}", "source: [{path: incoming/points.csv}, {path: incoming/more.csv, set: train}]"
)
CASES = "def test_nothing(cases):\n    assert len(cases.items) > 0\n"
BOTH = ROLES.replace(f"data_scientist: [{SCIENCE}]", f"data_scientist: [{SCIENCE}, {REVIEW}]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A project with a promoted model and another one that is submitted and reviewed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(
            folder / "toy",
            patch,
            folder / "keyring",
            roles=True,
            yaml=TWO_SOURCES,
            files={"tests/cases.py": CASES},
        )
        toy.write("incoming/more.csv", table(10, first=1000))
        toy.data(table(120))
        toy.promote()
        submitted(toy, "exp/second", seed=3, sets={"rate": 1.0})
        yield toy


@pytest.fixture
def toy(made: Toy, tmp_path: Path) -> Toy:
    """A copy of it."""
    return made.copy(tmp_path / "toy")


def submitted(toy: Toy, branch: str, **options: Any) -> str:
    """A model offered, evaluated and compared; the integration branch is checked out afterwards."""
    model = toy.model(branch, **options)
    toy.submit(model)
    toy.become(DATA).git.run("switch", "--quiet", "main")
    run(toy.become(DATA), CYCLE, "model")
    return model


def second(toy: Toy) -> str:
    """The submitted model that waits."""
    return meant(toy.become(REVIEW), CYCLE, "model").subject


def stale(toy: Toy) -> str | None:
    return review.look(toy.become(REVIEW), second(toy)).stale


def told(toy: Toy) -> list[tuple[str, str, str]]:
    """What the journal was told of stale reviews: the model, why, and the kind of event that led to it; told twice, kept once."""
    announce(toy.become(SCIENCE))
    workspace = toy.become(DATA)
    announce(workspace)
    kinds = {e.id: e.kind for e in workspace.journal.events()}
    found = workspace.journal.events("review.stale")
    return [(e.fields["model"], e.fields["because"], kinds[str(e.cause)]) for e in found]


def heads(workspace: Workspace) -> tuple[str, str]:
    data, released = workspace.registry.head(DatasetHead, "points"), workspace.registry.head(LabelsHead, "points")
    assert data is not None and released is not None
    return data.version, released.version


def item_of(workspace: Workspace, side: str) -> str:
    _, dataset = labels.current(workspace, "points")
    return sorted(i for i, s in labels.sides(workspace, dataset).items() if s == side)[0]


def relabel(toy: Toy, side: str) -> None:
    """Another label for one item of a side, released."""
    workspace = toy.become(DATA)
    item = item_of(workspace, side)
    before = next(r.value for r in labels.rows(workspace, "points", side) if r.item == item)
    labels.record(workspace, "points", {item: "left" if before == "right" else "right"})
    labels.release(workspace, "points")


def test_a_request_an_unrelated_commit_and_training_items_do_not_make_it_stale(toy: Toy) -> None:
    workspace, model = toy.become(DATA), second(toy)
    assert stale(toy) is None
    before, result = heads(workspace), evaluated(workspace, model)
    assert result is not None
    open_request(
        workspace, step="collection", role="data_engineer", because="x", subject=None, evidence=[], command="x"
    )
    toy.write("README.md", "about this project\n")
    toy.commit(workspace, "readme")
    assert stale(toy) is None
    toy.write("incoming/more.csv", table(30, first=1000))
    versions.make(toy.become(DATA), "points")
    toy.approve(DATA, "data")
    relabel(toy, "train")
    workspace = toy.become(DATA)
    assert all(now != then for now, then in zip(heads(workspace), before, strict=True))
    one, two = (workspace.registry.get(i).record for i in (before[0], heads(workspace)[0]))
    assert isinstance(one, Dataset) and isinstance(two, Dataset)
    assert two.items["train"] == one.items["train"] + 20 and two.test == one.test
    assert stale(toy) is None and run(workspace, CYCLE, "model") == [] and told(toy) == []
    again = evaluated(workspace, model)
    assert again is not None and again.object == result.object and again.result["labels"] == before[1]
    toy.approve(REVIEW, model)
    assert promoted(toy.become(REVIEW), "side") == model


def test_another_label_of_a_test_item_makes_it_stale_until_it_is_evaluated_again(toy: Toy) -> None:
    workspace, model = toy.become(DATA), second(toy)
    before = evaluated(workspace, model)
    assert before is not None
    assert told(toy) == []
    relabel(toy, "test")
    assert "not evaluated on the current test" in (stale(toy) or "")
    assert told(toy) == [(model, "labels", "labels.released")]
    with pytest.raises(Refused, match="STALE"):
        toy.approve(REVIEW, model)
    done = [p.work.subject for p in run(toy.become(DATA), CYCLE, "model")]
    assert len(done) == 3 and done.count(model) == 2, "both are evaluated again, and compared"
    after = evaluated(toy.become(DATA), model)
    assert stale(toy) is None and after is not None and after.object != before.object and len(told(toy)) == 1
    assert after.result["test"] == before.result["test"] and len(counted(workspace, after.result["test"])) == 4
    toy.approve(REVIEW, model)


def test_new_test_items_make_it_stale_until_both_are_evaluated_again(toy: Toy) -> None:
    model = second(toy)
    toy.data(table(200))
    assert "not evaluated on the current test" in (stale(toy) or "")
    assert told(toy) == [(model, "test", "labels.released")]
    assert "STALE" in (waiting(toy.become(REVIEW), CYCLE)[0].blocked or "")
    with pytest.raises(Refused, match="STALE"):
        toy.approve(REVIEW, model)
    evaluate(toy.become(DATA), model)
    assert len(told(toy)) == 1, "it waits for its comparison; no other model came to count"
    assert len(run(toy.become(DATA), CYCLE, "model")) == 2
    toy.approve(REVIEW, model)


def test_another_model_promoted_meanwhile_makes_it_stale_until_compared(toy: Toy) -> None:
    first = second(toy)
    other = submitted(toy, "exp/third", seed=5)
    assert review.look(toy.become(REVIEW), other).stale is None
    toy.approve(REVIEW, first)
    found = review.look(toy.become(REVIEW), other).stale
    assert found == f"not compared with {first[:10]}, the current model: `cdl run` does"
    assert told(toy) == [(other, "model", "model.promoted")]
    with pytest.raises(Refused, match="STALE"):
        toy.approve(REVIEW, other)
    assert [p.work.options for p in run(toy.become(DATA), CYCLE, "model")] == [{"against": first}]
    toy.approve(REVIEW, other)
    [(_, decision)] = decisions(toy.become(REVIEW), "model", other)
    assert decision.seen["promoted"] == first and len(decision.seen["comparisons"]) == 1


def test_another_model_deployed_meanwhile_makes_it_stale_until_compared(toy: Toy) -> None:
    workspace, model = toy.become(DATA), second(toy)
    chosen = promoted(workspace, "side")
    elsewhere = toy.model("exp/else", seed=7)
    workspace = toy.become(DATA)
    workspace.git.run("switch", "--quiet", "main")
    run(workspace, CYCLE, None)
    package = Package(model=elsewhere, transformation=None, tree="t", wrapper="w", environment={})
    identity = workspace.registry.commit(package, command="test", line="a package").ids[0]
    head = DeploymentHead(package=identity, manifest="m")
    workspace.registry.commit(heads=[("production", head)], command="test", line="deployed")
    assert f"not compared with {elsewhere[:10]}" in (stale(toy) or "")
    assert told(toy) == [(model, "model", "deployment.applied")]
    assert [p.work.options for p in run(toy.become(DATA), CYCLE, "model")] == [{"against": elsewhere}]
    found = review.look(toy.become(REVIEW), model)
    assert found.stale is None and len(found.seen["comparisons"]) == 2
    assert (found.seen["deployed"], found.seen["promoted"]) == (elsewhere, chosen)


def change(toy: Toy, old: str, new: str) -> None:
    """A change of cdl.yaml on the integration branch, not approved yet."""
    text = (toy.root / "cdl.yaml").read_text()
    assert old in text
    toy.write("cdl.yaml", text.replace(old, new))
    toy.commit(toy.become(DATA), "cdl.yaml")


def test_changed_requirements_are_held_against_the_same_evaluation_once_approved(toy: Toy) -> None:
    model = second(toy)
    change(toy, "test.accuracy >= 0.60", "test.accuracy >= 0.999")
    assert [r["require"] for r in review.look(toy.become(REVIEW), model).requirements] == ["test.accuracy >= 0.60"]
    toy.approve(REVIEW, "policy")
    assert stale(toy) is None
    with pytest.raises(Refused, match="not held: test.accuracy >= 0.999"):
        toy.approve(REVIEW, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    epochs: 4\n", "    epochs: 4\n    tests: tests/cases.py\n"),
        ("    labels: {classes", "    mask: [note]\n    labels: {classes"),
    ],
    ids=["tests", "mask"],
)
def test_another_way_to_judge_makes_it_stale_once_approved(toy: Toy, old: str, new: str) -> None:
    model = second(toy)
    change(toy, old, new)
    assert stale(toy) is None
    toy.approve(REVIEW, "policy")
    assert "not evaluated on the current test" in (stale(toy) or "")
    assert told(toy) == [(model, "policy", "decision.made")]
    run(toy.become(DATA), CYCLE, "model")
    toy.approve(REVIEW, model)


def test_nobody_approves_their_own_model_whatever_roles_they_hold(toy: Toy) -> None:
    change(toy, ROLES, BOTH)
    toy.approve(REVIEW, "policy")
    mine = toy.model("exp/mine", who=REVIEW, seed=9)
    toy.submit(mine, REVIEW)
    run(toy.become(DATA), CYCLE, "model")
    with pytest.raises(Refused, match="not decided by the author"):
        toy.approve(REVIEW, mine)
    assert toy.become(DATA).journal.events("decision.refused")[-1].fields["because"] == "author"


def test_a_policy_changed_in_the_model_s_own_branch_does_not_judge_it(toy: Toy) -> None:
    change(toy, "test.accuracy >= 0.60", "test.accuracy >= 0.999")
    toy.approve(REVIEW, "policy")
    workspace = toy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "-C", "exp/easy", "main")
    text = (toy.root / "cdl.yaml").read_text().replace("0.999", "0.1").replace(REVIEW, SCIENCE)
    toy.write("cdl.yaml", text)
    toy.commit(workspace, "an easier project")
    model = register(workspace, train(toy.become(SCIENCE), "side", seed=11))
    toy.submit(model)
    workspace.git.run("switch", "--quiet", "main")
    run(toy.become(DATA), CYCLE, "model")
    with pytest.raises(Refused, match="held by model_validator"):
        toy.approve(SCIENCE, model)
    with pytest.raises(Refused, match="not held: test.accuracy >= 0.999"):
        toy.approve(REVIEW, model)
    toy.approve(REVIEW, model, despite="to see what follows")
    after = toy.become(REVIEW)
    assert promoted(after, "side") == model and unapproved(after) is not None
    assert in_force(after).requirements()[0].value == 0.999 and in_force(after).roles_of(SCIENCE) == {"data_scientist"}
    with pytest.raises(Refused, match="held by model_validator"):
        toy.approve(SCIENCE, "policy")


def test_an_approval_and_a_rejection_in_two_clones_reopen_the_gate(toy: Toy, tmp_path: Path) -> None:
    model = second(toy)
    other = toy.clone(tmp_path / "other")
    toy.approve(REVIEW, model)
    there = other.become(REVIEW)
    decide(there, CYCLE, "model", model, "reject", because="too slow", to="training")
    assert verdict_on(there, "model", model) == "reject" and verdict_on(toy.become(REVIEW), "model", model) == "approve"
    subprocess.run(["git", "fetch", "--quiet", str(other.root), "main"], cwd=toy.root, check=True)
    subprocess.run(["git", "merge", "--quiet", "--no-edit", "FETCH_HEAD"], cwd=toy.root, check=True)
    merged = toy.become(REVIEW)
    assert verdict_on(merged, "model", model) is None
    assert [o.gate for o in waiting(merged, CYCLE) if o.subject == model] == ["model"], "and nothing is sent on"
    both = sorted(i for i, d in merged.registry.all(Decision, at="main") if d.gate == "model" and d.subject == model)
    toy.approve(REVIEW, model)
    settled = toy.become(REVIEW)
    assert verdict_on(settled, "model", model) == "approve"
    last = next(d for i, d in decisions(settled, "model", model) if i not in both)
    assert last.after == both
    head = settled.registry.head(ModelHead, "side")
    assert head is not None and head.promoted == model and head.before not in (None, model)
    assert [o.gate for o in waiting(settled, CYCLE) if o.subject == model] == ["revision"]


def test_a_model_evaluated_before_it_is_submitted_is_compared_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.data(table(120))
    toy.promote()
    second = toy.model("exp/second", seed=3)
    run(toy.become(DATA), CYCLE, None)
    workspace = toy.become(SCIENCE)
    offer(workspace, second)
    decide(workspace, CYCLE, "submission", second, "submit")
    (opened,) = [o for o in waiting(toy.become(REVIEW), CYCLE) if o.gate == "model"]
    assert opened.blocked is None, "another run of somebody with the key was needed"
