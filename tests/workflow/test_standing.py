from cdl.registry.records import Decision, Gate, Made, Verdict
from cdl.workflow.standing import standing

WHEN = "2026-01-01T00:00:00Z"


def decision(verdict: Verdict, after: list[str] | None = None, gate: Gate = "model") -> Decision:
    made = Made(who="a@example.org", when=WHEN)
    return Decision(
        gate=gate, subject="m-00000000", verdict=verdict, made=made, policy=None, seen={}, after=after or []
    )


def test_one_decision_stands() -> None:
    assert standing([("x-1", decision("approve"))]) == "approve"


def test_nothing_decided_is_open() -> None:
    assert standing([]) is None


def test_two_that_did_not_see_each_other_and_differ_reopen() -> None:
    assert standing([("x-1", decision("approve")), ("x-2", decision("reject"))]) is None


def test_two_that_agree_stand() -> None:
    assert standing([("x-1", decision("approve")), ("x-2", decision("approve"))]) == "approve"


def test_the_one_that_saw_the_other_is_the_last_word_in_any_order() -> None:
    both = [("x-1", decision("reject")), ("x-2", decision("approve", ["x-1"]))]
    assert standing(both) == standing(both[::-1]) == "approve"


def test_a_decision_that_saw_both_settles_a_dispute() -> None:
    found = [("x-1", decision("approve")), ("x-2", decision("reject")), ("x-3", decision("reject", ["x-1", "x-2"]))]
    assert standing(found) == "reject"
