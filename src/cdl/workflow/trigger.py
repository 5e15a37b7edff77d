"""Triggers: an event that became true on the integration branch starts work, once.

Triggers are those of the policy in force, and an event that is older than the first approval of a trigger starts nothing.
A claim is one create-only name, `triggers/<trigger>/<event>/<n>`; who takes it runs. Its result is written under
`triggers/<trigger>/<event>/done`; a claim without a result whose holder is gone is taken over under the next number. Clones
that share a store claim there: one of them runs (sharing/claims.py).
Work carries its event as the cause, so no trigger fires on its own consequence, nor deeper than DEPTH.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import msgspec
from msgspec.structs import replace

from cdl.config.schema import TriggerConfig
from cdl.errors import CdlError, Unavailable
from cdl.journal.events import Event
from cdl.sharing import claims
from cdl.workflow.policy import decisions
from cdl.workflow.workspace import Workspace

DEPTH = 8  # causes in a row
Outcome = tuple[Sequence[str], Sequence[str]]  # ids of what was made, lines for the person


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of trigger needs: its events that may fire in this clone, whether this person can run it, and the work."""

    candidates: Callable[[Workspace, TriggerConfig], list[Event]]
    able: Callable[[Workspace, TriggerConfig], str | None]
    run: Callable[[Workspace, TriggerConfig, Event], Outcome]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger with the event that it has not run for; `unable` says why this person cannot."""

    trigger: TriggerConfig
    event: Event
    unable: str | None

    @property
    def claim(self) -> str:
        """The name under which it is claimed."""
        return f"triggers/{self.trigger.name.replace(' ', '/')}/{self.event.id}"

    @property
    def line(self) -> str:
        """The trigger in a few words."""
        return f"{self.trigger.when} > {', '.join(self.trigger.actions)} of {self.trigger.of}"


def waiting(workspace: Workspace, kinds: Mapping[str, Kind]) -> list[Waiting]:
    """Triggers that an event made due here and nobody finished. Events that wait for one trigger join: the last counts."""
    found = []
    for trigger in workspace.config.triggers:
        kind, since = kinds[trigger.when], approved_at(workspace, trigger)
        for event in reversed([e for e in kind.candidates(workspace, trigger) if e.count > since]):
            due = Waiting(trigger=trigger, event=event, unable=None)
            if workspace.store.claimed(f"{due.claim}/done") is not None:
                break
            if _may_fire(workspace, due):
                found.append(replace(due, unable=kind.able(workspace, trigger)))
                break
    return found


def approved_at(workspace: Workspace, trigger: TriggerConfig) -> int:
    """The count of the event that told of the first approved policy with this trigger; 0 where this clone knows of none."""
    told = {e.fields["decision"]: e.count for e in workspace.journal.events("decision.made")}
    counts = []
    for identity, decision in decisions(workspace, "policy"):
        listed = (decision.document or {}).get("parts", {}).get("triggers", [])
        names = {msgspec.convert(t, TriggerConfig).name for t in listed}
        if decision.verdict == "approve" and trigger.name in names and identity in told:
            counts.append(told[identity])
    return min(counts, default=0)


def fire(workspace: Workspace, kinds: Mapping[str, Kind], *, strict: bool = False) -> list[str]:
    """Runs what waits and this person can run, in the foreground; lines of what was done.

    An error ends the trigger with what it says, and the next command tries again; with `strict` it is raised.
    """
    lines: list[str] = []
    for due in waiting(workspace, kinds):
        if due.unable is not None:
            lines.append(f"trigger {due.line} waits: {due.unable}")
            continue
        try:
            claimed = claim(workspace, due)
        except Unavailable as error:
            lines.append(f"trigger {due.line} waits: {error.message}")
            continue
        if claimed is None:
            continue
        workspace.tell(f"trigger {due.line}")
        try:
            with claims.leased(workspace.shared.remote, claimed, workspace.tell):
                records, said = kinds[due.trigger.when].run(workspace, due.trigger, due.event)
        except CdlError as error:
            lines.append(f"trigger {due.line} failed: {error.message}; the next `cdl run` tries again")
            _say_everywhere(workspace, f"{claimed}-failed", error.message.encode())
            if strict:
                raise
            continue
        _say_everywhere(workspace, f"{due.claim}/done", json.dumps({"records": list(records)}).encode())
        workspace.journal.append(
            "trigger.finished", who=workspace.person.email, cause=due.event.id, records=[r[:200] for r in records]
        )
        lines += said
    return lines


def claim(workspace: Workspace, due: Waiting) -> str | None:
    """Takes a waiting trigger; the claim's name, or None when somebody else runs it, in this clone or another.

    Unavailable when the shared store cannot be asked.
    """
    workspace.trusted.require_code()
    claims.look(workspace.store, workspace.shared.remote, due.claim)
    number = _attempts(workspace, due)
    if running(workspace, due) or workspace.store.claimed(f"{due.claim}/done") is not None:
        return None
    attempt = f"{due.claim}/{number}"
    holder = json.dumps(claims.holder(workspace.person.email)).encode()
    if not claims.take(workspace.store, workspace.shared.remote, attempt, holder):
        return None  # somebody else was faster
    about = {"trigger": due.trigger.when, "event": due.event.id}
    workspace.journal.append("trigger.claimed", who=workspace.person.email, cause=due.event.id, **about)
    return attempt


def running(workspace: Workspace, due: Waiting) -> bool:
    """Whether another process is at it: the last claim has no result, and its process is there."""
    attempt = f"{due.claim}/{_attempts(workspace, due) - 1}"
    failed = workspace.store.claimed(f"{attempt}-failed") is not None
    held = workspace.store.claimed(attempt)
    return not failed and held is not None and claims.alive(held, workspace.shared.remote, attempt)


def _say_everywhere(workspace: Workspace, name: str, payload: bytes) -> None:
    """How a claim ended. Where the shared store cannot be reached now, the next sync brings it there."""
    workspace.store.claim(name, payload)
    try:
        claims.take(workspace.store, workspace.shared.remote, name, payload)
    except Unavailable as error:
        workspace.tell(f"others will know after the next sync: {error.message}")


def causes(workspace: Workspace, event: Event) -> list[Event]:
    """The chain of causes of an event, nearest first; at most DEPTH."""
    found: list[Event] = []
    while event.cause and len(found) <= DEPTH:
        event = workspace.journal.event(event.cause)
        found.append(event)
    return found


def _attempts(workspace: Workspace, due: Waiting) -> int:
    """How often it was claimed."""
    return next(n for n in count() if workspace.store.claimed(f"{due.claim}/{n}") is None)


def _may_fire(workspace: Workspace, due: Waiting) -> bool:
    chain = causes(workspace, due.event)
    return not any(e.kind == due.trigger.when for e in chain) and len(chain) < DEPTH
