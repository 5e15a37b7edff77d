import multiprocessing
import os
from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.errors import Conflict, NotFound, Refused
from cdl.project import open_workspace
from cdl.registry.records import Decision, Request
from cdl.workflow.check import check_decisions
from cdl.workflow.decide import decide, meant, waiting
from cdl.workflow.policy import in_force, unapproved
from cdl.workflow.request import open_request, open_requests
from cdl.workflow.status import status
from cdl.workflow.step import Cycle, Gate, Open, Sight
from cdl.workflow.workspace import Workspace

from .conftest import TEAM, Person

SUBJECT = "m-00000000000000000000000000000000"


def change_policy(workspace: Workspace, old: str = "0.80", new: str = "0.85") -> None:
    (workspace.root / "cdl.yaml").write_text(TEAM.replace(old, new))
    workspace.git.run("commit", "--quiet", "--all", "--message", "stricter")


def cycle_with(sight: Sight) -> Cycle:
    """The cycle with one more gate that sees what the test says."""

    def opened(workspace: Workspace) -> list[Open]:
        return [Open(gate="model", subject=SUBJECT, title="a model", authors=sight.authors)]

    gate = Gate(
        name="model",
        role="model_validator",
        own=False,
        back_to=("define_requirements",),
        waiting=opened,
        look=lambda w, s: sight,
    )
    return Cycle(steps=CYCLE.steps, gates={**CYCLE.gates, "model": gate})


def refusals(workspace: Workspace) -> list[str]:
    return [e.fields["because"] for e in workspace.journal.events("decision.refused")]


def test_init_puts_the_first_policy_in_force_in_one_commit(as_person: Person) -> None:
    workspace = as_person("data@example.org")
    assert in_force(workspace).solo and unapproved(workspace) is None
    assert workspace.git.text("rev-list", "--count", "HEAD") == "1"
    assert workspace.git.run("status", "--porcelain") == b""
    kinds = [e.kind for e in workspace.journal.events()]
    assert kinds == ["decision.made", "project.initialized"]


def test_a_changed_policy_is_named_and_not_used_until_approved(team: Person) -> None:
    workspace = team("data@example.org")
    change_policy(workspace)
    found = status(workspace, CYCLE)
    assert [o.gate for o in found.waiting] == ["policy"]
    assert in_force(workspace).requirements()[0].value == 0.8
    validator = team("review@example.org")
    decide(validator, CYCLE, "policy", meant(validator, CYCLE, None).subject, "approve")
    assert in_force(validator).requirements()[0].value == 0.85 and not waiting(validator, CYCLE)


def test_the_wrong_role_gets_no_further_and_it_is_recorded(team: Person) -> None:
    workspace = team("data@example.org")
    change_policy(workspace)
    head = workspace.git.head()
    with pytest.raises(Refused, match="held by model_validator"):
        decide(workspace, CYCLE, "policy", meant(workspace, CYCLE, "policy").subject, "approve")
    assert workspace.git.head() == head and refusals(workspace) == ["role"]
    with pytest.raises(NotFound, match="no decision waits for you"):
        meant(workspace, CYCLE, None)


def test_the_author_does_not_approve_their_own(team: Person) -> None:
    workspace = team("review@example.org")
    change_policy(workspace)
    with pytest.raises(Refused, match="not decided by the author"):
        decide(workspace, CYCLE, "policy", meant(workspace, CYCLE, "policy").subject, "approve")
    assert refusals(workspace) == ["author"]
    other = team("other@example.org")
    decide(other, CYCLE, "policy", meant(other, CYCLE, None).subject, "approve")
    assert unapproved(other) is None


def test_a_policy_changed_on_a_branch_does_not_judge_itself(team: Person) -> None:
    workspace = team("data@example.org")
    workspace.git.run("switch", "--quiet", "-c", "exp/mine")
    (workspace.root / "cdl.yaml").write_text(TEAM.replace("review@example.org", "data@example.org"))
    workspace.git.run("commit", "--quiet", "--all", "--message", "make me validator")
    again = team("data@example.org")
    assert in_force(again).roles_of("data@example.org") == {"data_engineer"}
    with pytest.raises(Refused):
        decide(again, cycle_with(Sight(seen={})), "model", SUBJECT, "approve")


def test_a_decision_goes_to_the_integration_branch_from_a_detached_head(team: Person) -> None:
    workspace = team("data@example.org")
    change_policy(workspace)
    workspace.git.run("switch", "--quiet", "--detach", "HEAD~1")
    head = workspace.git.head()
    validator = team("review@example.org")
    made = decide(validator, CYCLE, "policy", meant(validator, CYCLE, None).subject, "approve")
    assert validator.git.head() == head and validator.git.resolve("main") == made.commit
    assert validator.git.run("status", "--porcelain") == b""


@pytest.mark.parametrize(
    ("sight", "because"),
    [
        (Sight(seen={}, stale="new test items"), "stale"),
        (Sight(seen={}, missing="not evaluated"), "missing"),
        (
            Sight(seen={}, requirements=({"require": "test.accuracy >= 0.8", "value": 0.5, "held": False},)),
            "requirement",
        ),
        (Sight(seen={}, authors=("review@example.org",)), "author"),
    ],
)
def test_what_stands_against_an_approval(team: Person, sight: Sight, because: str) -> None:
    workspace = team("review@example.org")
    tip = workspace.registry.tip()
    with pytest.raises(Refused):
        decide(workspace, cycle_with(sight), "model", SUBJECT, "approve")
    assert refusals(workspace) == [because] and workspace.registry.tip() == tip


def test_a_failed_requirement_may_be_approved_with_a_reason(team: Person) -> None:
    failed = {"require": "test.accuracy >= 0.8", "value": 0.5, "held": False}
    workspace = team("review@example.org")
    made = decide(
        workspace,
        cycle_with(Sight(seen={}, requirements=(failed,))),
        "model",
        SUBJECT,
        "approve",
        despite="a first version",
    )
    assert made.decision.despite == "a first version" and made.decision.requirements == [failed]


def test_a_rejection_opens_a_request_and_an_answer_closes_it(team: Person) -> None:
    cycle = cycle_with(Sight(seen={"evaluation": "5b1d"}))
    validator = team("review@example.org")
    with pytest.raises(Refused, match="says why"):
        decide(validator, cycle, "model", SUBJECT, "reject")
    made = decide(validator, cycle, "model", SUBJECT, "reject", because="too few")
    (identity, request), *none = open_requests(validator)
    assert identity == made.request and not none
    assert isinstance(request, Request) and request.evidence == ["5b1d"] and request.because == "too few"
    engineer = team("data@example.org")
    with pytest.raises(NotFound, match="no decision waits for you"):  # a bare approval never means a request
        meant(engineer, CYCLE, None)
    with pytest.raises(Refused, match="what was done"):
        decide(engineer, CYCLE, "request", identity, "answer")
    with pytest.raises(Refused, match="held by data_engineer"):
        decide(team("review@example.org"), CYCLE, "request", identity, "answer", because="done")
    engineer = team("data@example.org")
    decide(engineer, CYCLE, "request", identity, "answer", because="done")
    assert open_requests(engineer) == []
    assert [e.kind for e in engineer.journal.events("request.answered")] == ["request.answered"]
    with pytest.raises(NotFound):
        decide(engineer, CYCLE, "request", identity, "decline")


def test_a_request_is_answered_by_the_role_that_it_asks(team: Person) -> None:
    workspace = team("data@example.org")
    to = {"step": "model_validation", "role": "model_validator"}
    made = open_request(workspace, because="look again", subject=None, evidence=[], command="reopen", **to)
    assert [o.role for o in waiting(workspace, CYCLE) if o.gate == "request"] == ["model_validator"]
    with pytest.raises(Refused, match="the request gate is held by model_validator"):
        decide(workspace, CYCLE, "request", made, "answer", because="done")


def test_a_request_of_a_role_that_nobody_holds_any_more_goes_to_the_validator(team: Person) -> None:
    workspace = team("data@example.org")
    to = {"step": "training", "role": "data_scientist"}
    made = open_request(workspace, because="more seeds", subject=None, evidence=[], command="reopen", **to)
    with pytest.raises(Refused, match="the request gate is held by model_validator"):
        decide(workspace, CYCLE, "request", made, "decline", because="nobody is left")
    validator = team("review@example.org")
    assert meant(validator, CYCLE, made).subject == made
    decide(validator, CYCLE, "request", made, "decline", because="nobody is left")
    assert open_requests(validator) == []
    assert check_decisions(validator.git, CYCLE, "main") == []


def test_what_is_decided_is_not_decided_again(team: Person) -> None:
    workspace = team("review@example.org")
    cycle = cycle_with(Sight(seen={}))
    decide(workspace, cycle, "model", SUBJECT, "approve")
    with pytest.raises(Refused, match="already approve"):
        decide(workspace, cycle, "model", SUBJECT, "approve")
    second = decide(workspace, cycle, "model", SUBJECT, "reject", because="found a fault")
    assert len(second.decision.after) == 1


def race(root: str, email: str, verdict: str, queue: "multiprocessing.Queue[str]") -> None:
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"] = email
        os.environ[f"GIT_{role}_EMAIL"] = email
    workspace = open_workspace(Path(root))
    try:
        decide(workspace, cycle_with(Sight(seen={})), "model", SUBJECT, verdict, because="so")
        queue.put("done")
    except (Refused, Conflict) as error:
        queue.put(type(error).__name__)


def test_approve_and_reject_at_once_leave_an_order_that_all_see(team: Person) -> None:
    workspace = team("review@example.org")
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    people = [("review@example.org", "approve"), ("other@example.org", "reject")]
    workers = [context.Process(target=race, args=(str(workspace.root), who, verdict, queue)) for who, verdict in people]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    again = team("review@example.org")
    made = [(i, d) for i, d in again.registry.all(Decision, at=again.registry.tip()) if d.gate == "model"]
    assert sorted(queue.get() for _ in workers) == ["done", "done"]
    (first, one), (second, two) = sorted(made, key=lambda pair: len(pair[1].after))
    assert one.after == [] and two.after == [first] and second != first
    assert again.git.run("status", "--porcelain") == b""


def test_anybody_reopens_a_step(team: Person) -> None:
    workspace = team("stranger@example.org")
    made = open_request(
        workspace, step="initial_setup", role="devops", because="move", subject=None, evidence=[], command="reopen"
    )
    assert [i for i, _ in open_requests(workspace)] == [made]


def test_a_rejected_policy_waits_no_more(team: Person) -> None:
    workspace = team("data@example.org")
    change_policy(workspace)
    validator = team("review@example.org")
    decide(validator, CYCLE, "policy", meant(validator, CYCLE, None).subject, "reject", because="no")
    assert [o.gate for o in waiting(validator, CYCLE)] == ["request"]
    assert in_force(validator).requirements()[0].value == 0.8
