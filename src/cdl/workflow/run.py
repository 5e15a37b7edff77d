"""The runner: does what can be done up to the next decision, one piece of work after another."""

from collections.abc import Callable, Iterator

import msgspec

from cdl.errors import CdlError
from cdl.workflow.policy import in_force
from cdl.workflow.step import Cycle, Step, Work
from cdl.workflow.workspace import Workspace

LIMIT = 200  # pieces of work in one run; more means that a step does not do its work
PIPELINES = ("data", "model", "deployment")


class Planned(msgspec.Struct, frozen=True):
    """A piece of work with its step."""

    step: Step
    work: Work


def plan(workspace: Workspace, cycle: Cycle, pipeline: str | None) -> list[Planned]:
    """What could be done now, in the cycle's order. Training and the like only when their pipeline is named."""
    return list(_possible(workspace, cycle, pipeline))


def _possible(workspace: Workspace, cycle: Cycle, pipeline: str | None) -> Iterator[Planned]:
    """The same one by one: a later step is not asked before an earlier one's work is taken."""
    roles = in_force(workspace).roles_of(workspace.person.email)
    every = (*cycle.keeping, *cycle.steps)
    mine = [step for step in every if set(step.roles) & roles or "automatic" in step.roles]
    begun = [step for step in mine if step in cycle.keeping or may_start(step, pipeline)]
    yield from (Planned(s, work) for s in begun for work in s.pending(workspace))


def for_others(workspace: Workspace, cycle: Cycle, pipeline: str | None) -> list[Planned]:
    """What waits for people in other roles, as far as it can be seen from here."""
    roles = in_force(workspace).roles_of(workspace.person.email)
    theirs = [step for step in cycle.steps if not set(step.roles) & roles and "automatic" not in step.roles]
    return [Planned(s, work) for s in theirs if may_start(s, pipeline) for work in s.pending(workspace)]


def may_start(step: Step, pipeline: str | None) -> bool:
    """Whether a run of `pipeline` (None: all that runs by itself) may start a step."""
    if pipeline is not None and step.pipeline != pipeline:
        return False
    return step.starts == "itself" or (step.starts == "named" and pipeline is not None)


def run(
    workspace: Workspace, cycle: Cycle, pipeline: str | None, *, done: Callable[[Planned], None] = lambda p: None
) -> list[Planned]:
    """Works until nothing is left but decisions; returns what was done. Raises when a step leaves its work undone."""
    finished: list[Planned] = []
    while first := next(_possible(workspace, cycle, pipeline), None):
        if any(f.step.name == first.step.name and f.work == first.work for f in finished) or len(finished) > LIMIT:
            raise CdlError(
                f"step {first.step.name} ran for {first.work.subject} and its work is still open",
                remedy=f"run it by itself: {first.step.command}",
            )
        first.step.begin(workspace, first.work)
        finished.append(first)
        done(first)
    return finished
