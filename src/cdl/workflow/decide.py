"""One decision: who may, what they see, what stands against it, and what follows; in one move of the integration branch."""

from collections.abc import Sequence

import msgspec

from cdl.errors import Conflict, NotFound, Refused
from cdl.registry.chain import Chain
from cdl.registry.records import Decision, Request, encode, short
from cdl.workflow.policy import Policy, decisions, in_force
from cdl.workflow.standing import standing
from cdl.workflow.step import Cycle, Gate, Open, Ruling, Sight
from cdl.workflow.workspace import Workspace, same_person

DECIDE = "cdl.workflow.decide:decide"  # what does every gate's row
ATTEMPTS = 5  # somebody else moved the branch between looking and deciding


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as recorded, with the request that a rejection opened."""

    id: str
    decision: Decision
    request: str | None
    commit: str


def waiting(workspace: Workspace, cycle: Cycle, *, mine: bool = False) -> list[Open]:
    """Decisions that wait for somebody; with `mine`, those that the person may take."""
    found = [o for gate in cycle.gates.values() for o in gate.waiting(workspace)]
    if not mine:
        return found
    policy = in_force(workspace)
    gates = cycle.gates
    return [
        o for o in found if not _forbidden(workspace, policy, gates[o.gate], o.authors, o.role or gates[o.gate].role)
    ]


def meant(workspace: Workspace, cycle: Cycle, what: str | None) -> Open:
    """The open decision that WHAT names: an id or its prefix, a gate, or nothing when one alone can be taken by the person."""
    every = waiting(workspace, cycle)
    if what is None:
        mine = [o for o in waiting(workspace, cycle, mine=True) if not cycle.gates[o.gate].named]
        found = [o for o in mine if not o.blocked] or mine
    else:
        found = [o for o in every if o.subject.startswith(what) or o.gate == what]
    if len(found) == 1:
        return found[0]
    listing = "; ".join(f"{short(o.subject)} ({o.gate}, {o.role or cycle.gates[o.gate].role})" for o in found or every)
    listing = listing or "nothing"
    if found:
        raise Conflict(f"{len(found)} decisions are meant", remedy=f"say which: {listing}")
    named = f"'{what}' waits for no decision" if what else "no decision waits for you"
    raise NotFound(named, remedy=f"waiting: {listing}")


def decide(
    workspace: Workspace,
    cycle: Cycle,
    gate_name: str,
    subject: str,
    verdict: str,
    *,
    because: str | None = None,
    despite: str | None = None,
    to: str | None = None,
    cause: str | None = None,
) -> Decided:
    """Records a verdict. Refused (and journaled as such) for a wrong role, the author, a stale review, a failed requirement."""
    gate = cycle.gates[gate_name]
    for attempt in range(ATTEMPTS):
        try:
            return _attempt(workspace, cycle, gate, subject, verdict, because, despite, to, cause)
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _attempt(
    workspace: Workspace,
    cycle: Cycle,
    gate: Gate,
    subject: str,
    verdict: str,
    because: str | None,
    despite: str | None,
    to: str | None,
    cause: str | None,
) -> Decided:
    policy = in_force(workspace)
    sight = gate.look(workspace, subject)
    role = sight.role or gate.role
    forbidden = _forbidden(workspace, policy, gate, sight.authors, role)
    if forbidden:
        raise _refused(workspace, gate, subject, forbidden[0], forbidden[1])
    earlier = decisions(workspace, gate.name, None if gate.single else subject)
    stands = standing((i, d) for i, d in earlier if d.subject == subject)
    if stands == verdict and not gate.single:
        raise _refused(
            workspace, gate, subject, "decided", f"{short(subject)}: already {stands} at the {gate.name} gate"
        )
    if verdict in ("answer", "decline") and not because:
        raise Refused(f"{verdict}: a request is closed with what was done, or why not", remedy="--because TEXT")
    if verdict in ("approve", "submit"):
        _check(workspace, gate, subject, sight, despite)
    request = _request(workspace, cycle, gate, subject, verdict, because, to, sight, cause)
    request_id = encode(request)[0] if request else None
    decision = Decision(
        gate=gate.name,  # type: ignore[arg-type]
        subject=subject,
        verdict=verdict,  # type: ignore[arg-type]
        made=workspace.made(role, cause=cause),
        because=because,
        policy=policy.id,
        seen=dict(sight.seen),
        after=sorted(i for i, _ in earlier),
        requirements=[dict(r) for r in sight.requirements],
        despite=despite,
        request=request_id,
        document=None if sight.document is None else dict(sight.document),
    )
    return _land(workspace, gate, subject, decision, request, sight)


def _land(
    workspace: Workspace, gate: Gate, subject: str, decision: Decision, request: Request | None, sight: Sight
) -> Decided:
    chain = Chain(workspace.registry, workspace.registry.integration)
    command = decision.verdict
    line = f"{short(subject)} at the {gate.name} gate"
    records = (decision, request) if request else (decision,)
    ids = chain.commit(*records, command=command, line=line)
    if decision.verdict == "approve":
        gate.effect(
            workspace, chain, subject, Ruling(decision=ids[0], sight=sight, role=gate.role, cause=decision.made.cause)
        )
    commit = chain.land()
    if decision.verdict == "approve" and gate.after:
        gate.after(workspace, subject)
    return Decided(id=ids[0], decision=decision, request=ids[1] if request else None, commit=commit)


def _forbidden(
    workspace: Workspace, policy: Policy, gate: Gate, authors: Sequence[str], role: str
) -> tuple[str, str] | None:
    """Why this person may not decide here: an enum for the journal and a sentence for the person."""
    me = workspace.person.email
    if policy.solo:
        return None
    roles = policy.roles_of(me)
    author = any(same_person(me, a) for a in authors)
    if role not in roles:
        holders = ", ".join(policy.holders(role)) or "nobody"
        mine = ", ".join(sorted(roles)) or "no role"
        also = " and the author" if author and not gate.own else ""
        return "role", f"the {gate.name} gate is held by {role} ({holders}); you are {mine}{also}"
    if not gate.own and author:
        return "author", f"the {gate.name} gate is not decided by the author ({me})"
    return None


def _check(workspace: Workspace, gate: Gate, subject: str, sight: Sight, despite: str | None) -> None:
    if sight.missing:
        raise _refused(workspace, gate, subject, "missing", sight.missing)
    if sight.stale:
        raise _refused(workspace, gate, subject, "stale", f"review STALE: {sight.stale}")
    failed = [r for r in sight.requirements if r["held"] is False]
    if failed and not despite:
        texts = "; ".join(f"{r['require']}: {r['value']}" for r in failed)
        raise _refused(
            workspace, gate, subject, "requirement", f"not held: {texts}; --despite TEXT approves all the same"
        )


def _refused(workspace: Workspace, gate: Gate, subject: str, because: str, sentence: str) -> Refused:
    workspace.journal.append(
        "decision.refused", who=workspace.person.email, gate=gate.name, subject=subject, because=because
    )
    return Refused(sentence, remedy="cdl status")


def _request(
    workspace: Workspace,
    cycle: Cycle,
    gate: Gate,
    subject: str,
    verdict: str,
    because: str | None,
    to: str | None,
    sight: Sight,
    cause: str | None,
) -> Request | None:
    if verdict != "reject":
        return None
    if not because:
        raise Refused("a rejection says why", remedy="--because TEXT")
    target = to or gate.back_to[0]
    if target not in gate.back_to:
        raise Refused(
            f"the {gate.name} gate does not send back to '{target}'", remedy="--to " + " | ".join(gate.back_to)
        )
    evidence = [str(sight.seen["evaluation"])] if sight.seen.get("evaluation") else []
    role = in_force(workspace).asked(cycle.step(target).roles)
    return Request(
        to={"step": target, "role": role},
        subject=subject,
        made=workspace.made(gate.role, cause=cause),
        because=because,
        evidence=evidence,
    )
