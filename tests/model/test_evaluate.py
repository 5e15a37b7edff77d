import json
from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.errors import Corrupt, JobFailed, NotFound, Refused, Unavailable
from cdl.keys import Keyring
from cdl.model import review
from cdl.model.evaluate import compare, evaluate
from cdl.model.register import register
from cdl.model.results import counted, evaluated, read_result
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.registry.records import ModelHead
from cdl.store.store import Store
from cdl.workflow.decide import decide
from cdl.workflow.policy import decisions
from tests.projects import DATA, REVIEW, SCIENCE, SIDE, YAML, Toy, make_toy, table

TESTS = """
def test_right(cases):
    assert cases.predict([b'{"x": 4.0, "y": 0.0}']) == ["right"]

def test_never(cases):
    print(cases.items[0])
    raise AssertionError(cases.items[0])

def macro(truth, predicted, probabilities):
    return (truth == predicted).mean()
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(120))
    return made


def registered(toy: Toy, branch: str, who: str = SCIENCE, **options: object) -> str:
    workspace = toy.become(who)
    workspace.git.run("switch", "--quiet", "-C", branch, "main")
    return register(workspace, train(workspace, "side", **options))  # type: ignore[arg-type]


def test_an_evaluation_is_signed_counted_and_found_again(toy: Toy) -> None:
    model = registered(toy, "exp/first")
    workspace = toy.become(DATA)
    assert evaluated(workspace, model) is None
    made = evaluate(workspace, model)
    assert made.number == 1 and made.limit == 20 and made.measures()["test.accuracy"] > 0.8
    assert made.result["equal_items"] == {"before_cleaning": 0, "after_cleaning": 0}
    assert sum(map(sum, made.result["confusion"])) == made.result["items"]
    assert evaluate(workspace, model).object == made.object
    assert len(workspace.journal.events("model.evaluated")) == 1
    forged = json.loads(workspace.store.get(made.object))
    forged["measures"]["test.accuracy"]["value"] = 1.0
    with pytest.raises(Corrupt, match="signature"):
        read_result(workspace, workspace.store.put(json.dumps(forged).encode()))


def test_without_the_key_there_is_no_evaluation(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = registered(toy, "exp/first")
    science = Toy(toy.root, monkeypatch, keyring=tmp_path / "another").become(SCIENCE)
    with pytest.raises(Unavailable, match="points"):
        evaluate(science, model)


def test_metrics_and_tests_of_the_target_branch_judge(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = YAML.replace(
        "    epochs: 4\n", '    epochs: 4\n    tests: tests/side.py\n    metrics: ["tests.side:macro"]\n'
    )
    other = make_toy(
        tmp_path / "judged", monkeypatch, tmp_path / "judged-keys", yaml=yaml, files={"tests/side.py": TESTS}
    )
    other.data(table(120))
    model = registered(other, "exp/a", DATA)
    made = evaluate(other.become(DATA), model)
    assert made.result["tests"] == {"test_right": "pass", "test_never": "fail"}
    assert made.measures()["test.macro"] == pytest.approx(made.measures()["test.accuracy"], abs=1e-4)


def test_a_limit_on_evaluations_of_one_test(toy: Toy) -> None:
    (toy.root / "cdl.yaml").write_text((toy.root / "cdl.yaml").read_text() + "evaluation: {evaluations: 1}\n")
    toy.commit(toy.become(DATA), "one evaluation")
    toy.approve(REVIEW, "policy")
    first, second = registered(toy, "exp/a"), registered(toy, "exp/b", seed=5)
    evaluate(toy.become(DATA), first)
    with pytest.raises(Refused, match="1 evaluations of this test version; 1 are allowed"):
        evaluate(toy.become(DATA), second)


def submit(toy: Toy, model: str) -> None:
    workspace = toy.become(SCIENCE)
    offer(workspace, model)
    decide(workspace, CYCLE, "submission", model, "submit")


def test_submission_review_and_promotion_by_merge(toy: Toy) -> None:
    model = registered(toy, "exp/first")
    toy.become(SCIENCE).git.run("switch", "--quiet", "exp/first")
    with pytest.raises(Refused, match="not evaluated yet"):
        submit(toy, model)
    evaluate(toy.become(DATA), model)
    submit(toy, model)
    with pytest.raises(Refused, match="held by model_validator"):
        toy.approve(SCIENCE, model)
    refused = toy.become(SCIENCE).journal.events("decision.refused")
    assert [e.fields["because"] for e in refused] == ["missing", "role"]
    before = toy.become(REVIEW).registry.tip()
    toy.approve(REVIEW, model)
    workspace = toy.become(REVIEW)
    tip = workspace.registry.tip() or ""
    head = workspace.registry.head(ModelHead, "side", at=tip)
    assert head is not None and head.promoted == model
    log = workspace.git.text("log", "--first-parent", "--format=%s", f"{before}..{tip}").splitlines()
    assert [line.partition(":")[0] for line in log] == ["promote", "approve"]
    parents = workspace.git.text("log", "-1", "--format=%P", tip).split()
    assert len(parents) == 2 and workspace.git.read(tip, f"registry/models/side/{model}.yaml")
    decision = decisions(workspace, "model", model)[0][1]
    assert decision.seen["source"] == parents[1] and decision.seen["evaluation"]
    assert [r["held"] for r in decision.requirements] == [True]
    assert [e.fields["model"] for e in workspace.journal.events("model.promoted")] == [model]
    assert workspace.git.read(
        tip, f"registry/decisions/{decision.made.when[:4]}/{decisions(workspace, 'model', model)[0][0]}.yaml"
    )


def test_the_second_model_is_compared_with_the_first(toy: Toy) -> None:
    first = registered(toy, "exp/first")
    evaluate(toy.become(DATA), first)
    submit(toy, first)
    toy.approve(REVIEW, first)
    second = registered(toy, "exp/second", seed=3, sets={"rate": 1.0})
    evaluate(toy.become(DATA), second)
    submit(toy, second)
    with pytest.raises(Refused, match="not compared with"):
        toy.approve(REVIEW, second)
    workspace = toy.become(DATA)
    one, two = evaluate(workspace, first), evaluate(workspace, second)
    made = compare(workspace, one, two)
    assert made["difference"] == pytest.approx(
        two.measures()["test.accuracy"] - one.measures()["test.accuracy"], abs=2e-4
    )
    assert review.look(toy.become(REVIEW), second).stale is None


def test_only_the_source_that_trained_a_model_can_be_submitted(toy: Toy) -> None:
    workspace = toy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "-C", "exp/first", "main")
    toy.write("model/side.py", SIDE.replace("np.zeros(x.shape[1]", "np.ones(x.shape[1]"))
    model = register(workspace, train(workspace, "side"))
    with pytest.raises(Refused, match="model/side.py") as caught:
        offer(workspace, model)
    assert caught.value.remedy == "git commit them, then the command again"
    toy.commit(workspace, "ones")
    toy.write("notes.md", "does not matter")
    toy.commit(workspace, "notes")
    assert offer(workspace, model) == workspace.git.head()


def test_a_merge_that_changes_the_model_is_refused(toy: Toy) -> None:
    model = registered(toy, "exp/first")
    evaluate(toy.become(DATA), model)
    submit(toy, model)
    workspace = toy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "main")
    toy.write("model/features.py", (toy.root / "model/features.py").read_text() + "\n# later\n")
    toy.commit(workspace, "features changed on main")
    before = workspace.registry.tip()
    with pytest.raises(Refused, match="the merge holds not the source"):
        toy.approve(REVIEW, model)
    assert toy.become(REVIEW).registry.tip() == before


def test_keys_and_models_that_are_not_there_are_named(toy: Toy) -> None:
    assert Keyring().find("toy", "points") is not None
    with pytest.raises(NotFound, match="no record"):
        evaluate(toy.become(DATA), "m-00000000")


def test_a_candidate_that_never_answers_ends_its_evaluation(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write(
        "model/side.py", SIDE.replace("def predict(weights, inputs):", "def predict(weights, inputs):\n    asleep()")
    )
    with (toy.root / "model/side.py").open("a") as file:
        file.write(
            "\n\ndef asleep():\n    import sys, time\n    'cdl.model.predictor' in sys.modules and time.sleep(3600)\n"
        )
    toy.commit(toy.become(SCIENCE), "sleeps where it is judged")
    model = toy.model()
    monkeypatch.setattr("cdl.model.predictor.SECONDS", 3.0)
    with pytest.raises(JobFailed, match="no end after 3 s"):
        evaluate(toy.become(DATA), model)


def test_test_code_that_never_ends_ends_its_evaluation(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write("checks/test_side.py", "import time\n\ndef test_for_ever(cases):\n    time.sleep(3600)\n")
    tested = (
        (toy.root / "cdl.yaml")
        .read_text()
        .replace("    epochs: 4\n", "    epochs: 4\n    tests: checks/test_side.py\n")
    )
    toy.write("cdl.yaml", tested)
    toy.commit(toy.become(DATA), "a test that hangs")
    toy.approve(REVIEW, "policy")
    model = toy.model()
    monkeypatch.setattr("cdl.model.evaluate.SECONDS", 3.0)
    with pytest.raises(JobFailed, match="no end after 3 s"):
        evaluate(toy.become(DATA), model)


@pytest.mark.parametrize("claimed", ["counted/", "evaluations/"])
def test_an_evaluation_that_was_killed_while_it_was_kept_is_counted_once(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, claimed: str
) -> None:
    model = registered(toy, "exp/first")
    claim = Store.claim

    def killed(store: Store, name: str, payload: bytes) -> bool:
        claim(store, name, payload)
        if name.startswith(claimed):
            raise KeyboardInterrupt
        return True

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "claim", killed)
        evaluate(toy.become(DATA), model)
    made = evaluate(toy.become(DATA), model)
    assert made.number == 1 and len(counted(toy.become(DATA), made.result["test"])) == 1
    told = toy.become(DATA).journal.events("model.evaluated")
    assert [e.fields["result"] for e in told] == [made.object], "its event was told before it could be found"
