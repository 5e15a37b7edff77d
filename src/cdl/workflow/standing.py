"""How a gate stands, from the set of its decisions alone, never from a clock.

A decision names those it saw (`after`). The ones that nobody saw are the last word; where they differ, the gate is open again.

    approve (after [])            -> approve
    approve, reject (both after []) -> open: neither saw the other
    reject, approve (after [reject]) -> approve
"""

from collections.abc import Iterable

from cdl.registry.records import Decision


def last_words(decisions: Iterable[tuple[str, Decision]]) -> list[tuple[str, Decision]]:
    """The decisions that no other one saw."""
    found = list(decisions)
    seen = {earlier for _, d in found for earlier in d.after}
    return [(i, d) for i, d in found if i not in seen]


def standing(decisions: Iterable[tuple[str, Decision]]) -> str | None:
    """The verdict that stands, or None: undecided, or reopened by decisions that did not see each other."""
    verdicts = {d.verdict for _, d in last_words(decisions)}
    return verdicts.pop() if len(verdicts) == 1 else None
