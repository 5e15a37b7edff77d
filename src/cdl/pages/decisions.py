"""What a page says of decisions: what waits for whom, each requirement, what was decided, what was asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cdl.config.requirement import in_unit, parse_requirement
from cdl.cycle import CYCLE
from cdl.errors import ConfigError
from cdl.model.current import DECIDED
from cdl.registry.records import Decision, Request, short
from cdl.report.page import Cell, Code, Estimate, Mark, Page, Section, bad, good, soft, warn
from cdl.workflow.decide import waiting
from cdl.workflow.policy import decisions, in_force
from cdl.workflow.request import open_requests
from cdl.workflow.step import Open, Sight
from cdl.workflow.workspace import Workspace

ORDER = {"NOT held": 0, "failed": 1, "no value yet": 2, "held": 3, "passed": 4}  # of the rows; what is open comes last
JUDGED_AT = {"test.": "at the model gate", "revision.": "at the revision gate", "live.": "by monitoring"}


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An open decision, what its gate sees now, and who may take it."""

    open: Open
    sight: Sight
    holders: str

    @property
    def blocked(self) -> str | None:
        """Why it cannot be taken yet."""
        return self.sight.stale or self.sight.missing


def open_decisions(workspace: Workspace, subject: str) -> list[Waiting]:
    """The decisions on something that wait for somebody."""
    policy = in_force(workspace)
    found = []
    for opened in waiting(workspace, CYCLE):
        if opened.subject == subject:
            sight = CYCLE.gates[opened.gate].look(workspace, subject)
            role = sight.role or opened.role or CYCLE.gates[opened.gate].role
            who = ", ".join(policy.holders(role)) or ("you" if policy.solo else "nobody yet")
            found.append(Waiting(open=opened, sight=sight, holders=f"{who} ({role.replace('_', ' ')})"))
    return found


def made_on(workspace: Workspace, subject: str) -> list[tuple[str, Decision]]:
    """The decisions on something, in the order in which they were taken."""
    gates = [*CYCLE.gates]
    found = [(i, d) for gate in gates for i, d in decisions(workspace, gate, subject)]
    return sorted(found, key=lambda pair: (pair[1].made.when, gates.index(pair[1].gate)))


def say_waiting(page: Page, wait: Sequence[Waiting]) -> None:
    """Before everything else: what waits, for whom, what stands against it, and what to type."""
    for w in wait:
        gate, subject = w.open.gate, short(w.open.subject)
        if w.blocked:
            page.notice(f"Waits at the {gate} gate, and cannot be approved yet: {w.blocked}.", "warn")
            continue
        failed = [r["require"] for r in w.sight.requirements if r["held"] is False]
        against = f" Not held: {', '.join(failed)}." if failed else ""
        approve = f"cdl approve {subject}" + (" --despite TEXT" if failed else "")
        page.notice(
            f"Waits at the {gate} gate for {w.holders}.{against}",
            "bad" if failed else "warn",
            [approve, f"cdl reject {subject} --to STEP --because TEXT"],
        )


def requirements(
    page: Page,
    judged: Sequence[Mapping[str, Any]],
    *,
    intervals: Mapping[str, Estimate] | None = None,
    title: str = "Requirements",
    when: str = "",
) -> Section:
    """Each requirement and test with its value: what failed first. An interval that reaches beyond the limit is said."""
    section = page.section(title)
    if not judged:
        return section
    rows = [_requirement(r, intervals or {}) for r in judged]
    rows.sort(key=lambda row: ORDER.get(row[0].text, 9))
    failed = sum(row[0].tone == "bad" for row in rows)
    held = sum(row[0].text in ("held", "passed") for row in rows)
    head = f"{failed} failed" if failed else "none failed"
    rest = len(rows) - failed - held
    section.text(f"{held} of {len(rows)} held, {head}" + (f", {rest} later" if rest else "") + when + ".")
    section.table(["result", "requirement", "value", ""], rows)
    return section


def history(workspace: Workspace, page: Page, subject: str, made: Sequence[tuple[str, Decision]]) -> None:
    """What was decided about something, and what was asked for."""
    section = page.section("Decisions and requests")
    rows: list[list[Cell]] = []
    for identity, d in made:
        verdict: Cell = DECIDED.get(d.verdict, d.verdict)
        if d.verdict in ("approve", "reject"):
            verdict = good("approved") if d.verdict == "approve" else bad("rejected")
        why = d.because or ""
        if d.despite:
            why = f"{why} despite: {d.despite}".strip()
        rows.append([Code(short(identity)), d.gate, verdict, d.made.who, when(d.made.when), why or None])
    section.table(["decision", "gate", "verdict", "who", "when (UTC)", "because"], rows)
    registry, still = workspace.registry, {i for i, _ in open_requests(workspace)}
    asked = [(i, r) for i, r in registry.all(Request) if r.subject == subject]
    answered = getattr(registry.get(subject).record, "answers", None)
    if answered:
        asked.append((answered, registry.record(Request, answered)))
    section.table(
        ["request", "asks for", "of", "because", "by", ""],
        (
            [
                Code(short(i)),
                r.to["step"].replace("_", " "),
                r.to["role"].replace("_", " "),
                r.because,
                r.made.who,
                good("answered by this") if i == answered else warn("open") if i in still else soft("answered"),
            ]
            for i, r in sorted(asked, key=lambda pair: pair[1].made.when)
        ),
    )


def when(moment: str) -> str:
    """A time as people read it."""
    return moment.replace("T", " ").removesuffix("Z")[:16]


def _requirement(judged: Mapping[str, Any], intervals: Mapping[str, Estimate]) -> tuple[Mark, Cell, Cell, Cell]:
    text, value, held = judged["require"], judged["value"], judged["held"]
    if value in ("pass", "fail"):
        return good("passed") if held else bad("failed"), Code(text), None, "test case"
    try:
        measure = parse_requirement(text).measure
    except ConfigError:
        return good("held") if held is True else bad("NOT held"), Code(text), value, None
    if held == "later":
        at = next((at for begin, at in JUDGED_AT.items() if measure.startswith(begin)), "later")
        return soft("later"), Code(text), None, f"judged {at}"
    if value is None:
        return warn("no value yet"), Code(text), None, None
    result = good("held") if held is True else bad("NOT held")
    return result, Code(text), in_unit(text, value), _reach(text, value, held is True, intervals.get(measure))


def _reach(text: str, value: float, held: bool, interval: Estimate | None) -> Cell:
    """Whether the interval of a value says another thing than the value."""
    if interval is None or interval.value != value:  # no interval, or that of another evaluation
        return None
    asked = parse_requirement(text)
    if all(asked.holds(end) == held for end in (interval.low, interval.high)):
        return "also at both ends of its 95 % interval" if held else "at no end of its 95 % interval"
    end = next(end for end in (interval.low, interval.high) if asked.holds(end) != held)
    return warn(f"its 95 % interval reaches {in_unit(text, end)}")


def requirement_counts(judged: Sequence[Mapping[str, Any]]) -> Cell:
    """Requirements in a few words."""
    failed = [r["require"] for r in judged if r["held"] is False and r["value"] is not None]
    open_ = sum(r["held"] == "later" or r["value"] is None for r in judged)
    text = f"{len(judged) - len(failed) - open_} of {len(judged)} held" + (f", {open_} judged later" if open_ else "")
    return bad(f"{text}; NOT held: {', '.join(failed)}") if failed else text
