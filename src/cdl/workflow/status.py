"""Where everything stands, and who must decide what. Reads only; runs nothing of the project."""

import msgspec

from cdl.registry.names import all_things
from cdl.registry.records import Request, pointed, short
from cdl.workflow.decide import waiting
from cdl.workflow.policy import Policy, in_force
from cdl.workflow.request import open_requests
from cdl.workflow.step import Cycle, Open
from cdl.workflow.workspace import Workspace


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a project as one person sees it."""

    project: str
    person: str
    roles: tuple[str, ...]
    branch: str | None
    integration: str
    policy: str
    solo: bool
    heads: dict[str, str]
    waiting: tuple[Open, ...]
    holders: dict[str, str]
    requests: tuple[tuple[str, Request], ...]


def status(workspace: Workspace, cycle: Cycle) -> Status:
    """The state of a project. NotFound without a first policy."""
    workspace.registry.observe()
    policy = in_force(workspace)
    opened = tuple(waiting(workspace, cycle))
    return Status(
        project=workspace.config.project,
        person=workspace.person.email,
        roles=tuple(sorted(policy.roles_of(workspace.person.email))),
        branch=workspace.git.branch(),
        integration=workspace.registry.integration,
        policy=policy.id,
        solo=policy.solo,
        heads=_heads(workspace),
        waiting=opened,
        holders={o.subject: _holders(policy, o.role or cycle.gates[o.gate].role, workspace) for o in opened},
        requests=tuple(open_requests(workspace)),
    )


def _heads(workspace: Workspace) -> dict[str, str]:
    """What each head of the integration branch points to."""
    tip = workspace.registry.tip()
    heads = workspace.registry.every_head(tip) if tip else {}
    by_thing = {thing: heads[thing.path] for thing in all_things(workspace.registry) if thing.path in heads}
    return {f"{thing.kind} {thing.name}": short(pointed(head)) for thing, head in by_thing.items()}


def _holders(policy: Policy, role: str, workspace: Workspace) -> str:
    return ", ".join(policy.holders(role)) or (workspace.person.email if policy.solo else f"nobody holds {role}")
