"""Decisions written by hand: continuous integration names each that nobody could have made."""

from pathlib import Path

import msgspec
import pytest

from cdl.cycle import CYCLE
from cdl.registry.records import Decision, encode
from cdl.workflow.check import check_decisions
from cdl.workflow.decide import decide
from cdl.workflow.policy import decisions, name_policy
from cdl.workflow.request import open_request
from tests.projects import DATA, SCIENCE, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(120))
    made.promote()
    made.package()
    return made


def forged(toy: Toy, gate: str, **changes: object) -> list[str]:
    """What is found of a decision like the last one at a gate, but for some fields, in the commit where somebody put it."""
    workspace = toy.become(DATA)
    before = {f.where for f in check_decisions(workspace.git, CYCLE, "main")}
    real = decisions(workspace, gate)[-1][1]
    fake: Decision = msgspec.structs.replace(real, because="forged", **changes)
    toy.write(encode(fake)[1], encode(fake)[2].decode())
    toy.commit(toy.become(DATA), "a decision by hand")
    found = check_decisions(workspace.git, CYCLE, "main")
    return [f.what for f in found if f.where not in before]


def test_a_project_in_order_has_no_findings(toy: Toy) -> None:
    assert check_decisions(toy.become(DATA).git, CYCLE, "main") == []


def test_a_decision_of_somebody_without_the_role_is_named(toy: Toy) -> None:
    made = msgspec.structs.replace(decisions(toy.become(DATA), "model")[-1][1].made, who=DATA)
    assert forged(toy, "model", made=made) == [f"{DATA} is no model_validator in the policy that it names"]


def test_a_decision_on_a_model_of_one_s_own_is_named(toy: Toy) -> None:
    made = msgspec.structs.replace(decisions(toy.become(DATA), "model")[-1][1].made, who=SCIENCE)
    assert f"{SCIENCE} decided on a model of his own" in forged(toy, "model", made=made)


def test_a_policy_that_nobody_approved_is_named(toy: Toy) -> None:
    assert forged(toy, "model", policy="0" * 32) == ["policy 00000000 was never approved"]
    assert set(forged(toy, "model", policy=None)) == {"a first policy beside another one", "it names no policy"}


def test_a_policy_by_hand_is_named(toy: Toy) -> None:
    last = decisions(toy.become(DATA), "policy")[-1][1]
    free = {**(last.document or {}), "parts": {**(last.document or {})["parts"], "roles": {}}}
    assert "it holds another policy than it names" in forged(toy, "policy", document=free)
    made = msgspec.structs.replace(last.made, who=SCIENCE)
    policy = next(d.policy for _, d in decisions(toy.become(DATA), "data"))
    found = forged(toy, "policy", made=made, policy=policy, verdict="reject")
    assert f"{SCIENCE} is no model_validator in the policy that it names" in found


def test_a_request_may_be_answered_by_the_role_that_it_asks_and_no_other(toy: Toy) -> None:
    scientist = toy.become(SCIENCE)
    asked = open_request(
        scientist, step="training", role="data_scientist", because="odd", subject=None, evidence=[], command="request"
    )
    decide(scientist, CYCLE, "request", asked, "answer", because="done")
    assert check_decisions(scientist.git, CYCLE, scientist.registry.integration) == []
    made = msgspec.structs.replace(decisions(scientist, "request")[-1][1].made, who=DATA)
    assert forged(toy, "request", made=made) == [f"{DATA} is no data_scientist in the policy that it names"]


def test_a_policy_that_approves_itself_is_named(toy: Toy) -> None:
    last = decisions(toy.become(DATA), "policy")[-1][1]
    parts = {**(last.document or {})["parts"], "roles": {"model_validator": [SCIENCE]}}
    mine = {**(last.document or {}), "parts": parts}
    own = name_policy(mine).id
    made = msgspec.structs.replace(last.made, who=SCIENCE)
    found = forged(toy, "policy", document=mine, subject=own, policy=own, made=made)
    assert found == [f"policy {own[:8]} was never approved"]
