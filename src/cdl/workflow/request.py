"""Requests: work sent back to an earlier step. Open until a record answers, or a decision answers or declines."""

from cdl.registry.records import Dataset, Decision, Model, Request
from cdl.workflow.workspace import Workspace


def open_requests(workspace: Workspace) -> list[tuple[str, Request]]:
    """Requests on the integration branch that nothing answers yet."""
    registry, tip = workspace.registry, workspace.registry.tip()
    if tip is None:
        return []
    found = registry.all(Request, at=tip)
    if not found:
        return []
    answered = {r.answers for _, r in registry.all(Dataset, at=tip)} | {
        r.answers for _, r in registry.all(Model, at=tip)
    }
    answered |= {d.subject for _, d in registry.all(Decision, at=tip) if d.gate == "request"}
    return sorted((i, r) for i, r in found if i not in answered)


def request_id(workspace: Workspace, what: str) -> str:
    """The whole id of the request that WHAT names. NotFound, also where it names another record."""
    workspace.registry.record(Request, what)
    return workspace.registry.get(what).id


def open_request(
    workspace: Workspace,
    *,
    step: str,
    role: str,
    because: str,
    subject: str | None,
    evidence: list[str],
    command: str,
    made_as: str | None = None,
    cause: str | None = None,
) -> str:
    """Writes a request to the integration branch; returns its id."""
    record = Request(
        to={"step": step, "role": role},
        subject=subject,
        made=workspace.made(made_as, cause=cause),
        because=because,
        evidence=evidence,
    )
    registry = workspace.registry
    made = registry.commit(record, command=command, line=f"request at {step}", branch=registry.integration)
    return made.ids[0]
