"""The gates that belong to no pipeline: the policy's, and the one where a request is answered or declined."""

from cdl.errors import ConfigError, NotFound
from cdl.registry.records import Request
from cdl.workflow.changes import changes
from cdl.workflow.members import approved, of_policy, written
from cdl.workflow.policy import authors, in_force, policy_at, unapproved, verdict_on
from cdl.workflow.request import open_requests
from cdl.workflow.step import Gate, Open, Sight
from cdl.workflow.workspace import Workspace
from cdl.workflow.wrapping import after_policy


def waiting_policy(workspace: Workspace) -> list[Open]:
    """The policy of the integration branch where it is not the one in force and was not rejected."""
    changed = unapproved(workspace)
    if changed is None or verdict_on(workspace, "policy", changed.id) == "reject":
        return []
    said = [*changes(in_force(workspace), changed), *([m] if (m := members_changed(workspace)) else [])]
    title = "changed policy: " + "; ".join(said)
    return [Open(gate="policy", subject=changed.id, title=title, authors=authors(workspace))]


def members_changed(workspace: Workspace) -> str:
    """What a waiting policy changes of the members, in a few words; nothing where it does not."""
    before = approved(workspace).members
    try:
        now = written(workspace).members
    except ConfigError as error:
        return f"{error.where}: {error.message}"
    said = [f"+{email} {key[:15]}" for email, key in now.items() if before.get(email) != key]
    said += [f"-{email}" for email in before if email not in now]
    return f"members {' '.join(said)}" if said else ""


def look_at_policy(workspace: Workspace, subject: str) -> Sight:
    """The policy as it stands on the integration branch. NotFound when it is another one by now."""
    tip = workspace.registry.tip()
    if tip is None:
        raise NotFound("the integration branch has no commit", remedy="cdl init")
    policy = policy_at(workspace, tip)
    if policy.id != subject:
        raise NotFound(f"policy {subject[:8]} does not stand on the integration branch", remedy="cdl status")
    of_policy(workspace, policy)  # a list of members that cannot be read is never approved
    return Sight(seen={"source": tip}, authors=authors(workspace), document=policy.document)


def waiting_requests(workspace: Workspace) -> list[Open]:
    """Requests that nothing answers yet."""
    policy = in_force(workspace)
    return [
        Open(
            gate="request",
            subject=identity,
            title=f"at {request.to['step']}: {request.because}",
            role=policy.answers(request),
        )
        for identity, request in open_requests(workspace)
    ]


def look_at_request(workspace: Workspace, subject: str) -> Sight:
    """A request that is open. NotFound when something answered it."""
    if subject not in {identity for identity, _ in open_requests(workspace)}:
        raise NotFound(f"{subject} is no open request", remedy="cdl request")
    request = workspace.registry.record(Request, subject)
    return Sight(seen={"step": request.to["step"]}, role=in_force(workspace).answers(request))


POLICY = Gate(
    name="policy",
    role="model_validator",
    own=False,
    back_to=("define_requirements",),
    waiting=waiting_policy,
    look=look_at_policy,
    after=after_policy,
    single=True,
)
REQUEST = Gate(
    name="request",
    role="data_engineer",  # where a request names no role; each does
    own=True,
    back_to=(),
    waiting=waiting_requests,
    look=look_at_request,
    named=True,
)
