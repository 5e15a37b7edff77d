"""Steps and gates: the rows that a cycle is made of. What they do is handed in; this file knows no pipeline."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal

import msgspec

from cdl.errors import NotFound
from cdl.registry.chain import Chain
from cdl.workflow.workspace import Workspace

Starts = Literal["itself", "named", "person"]
"""itself: any `cdl run` does it; named: only when its pipeline is named, triggered or `auto`; person: by its own command."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a step could do now."""

    step: str
    subject: str
    line: str
    cost: str = ""
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)


def nothing(workspace: Workspace) -> list[Work]:
    """A step that a person starts by its own command has nothing waiting of itself."""
    return []


def cannot_begin(workspace: Workspace, work: Work) -> None:
    """A step that nothing waits of cannot be begun by the runner."""
    raise NotFound(f"step {work.step} is not begun by `cdl run`", remedy="cdl --help")


def late(call: str) -> Callable[..., Any]:
    """The function 'module:function', imported now: a table may name what is slow to import."""
    module, _, name = call.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the cycle. `function` names what does it, 'module:function', whoever calls it; `run` calls it.

    `pending` says what a `cdl run` could do now, and `begin` does one piece of that.
    """

    name: str
    pipeline: str
    roles: tuple[str, ...]
    does: str
    reads: str
    writes: str
    command: str
    function: str
    pending: Callable[[Workspace], list[Work]] = nothing
    begin: Callable[[Workspace, Work], Any] = cannot_begin
    starts: Starts = "person"
    gate: str | None = None
    back_to: tuple[str, ...] = ()
    optional: bool = False

    def run(self, *arguments: Any, **named: Any) -> Any:
        """Does the step."""
        return late(self.function)(*arguments, **named)


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that waits for somebody: for its gate's role, unless it says another.

    `blocked` says what has to be done before it can be approved.
    """

    gate: str
    subject: str
    title: str
    authors: tuple[str, ...] = ()
    role: str | None = None
    blocked: str | None = None

    @property
    def line(self) -> str:
        """For the person."""
        return f"{self.title}: {self.blocked}" if self.blocked else self.title


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate sees of a subject: what was seen, each requirement, and what stands against an approval.

    `role` decides instead of the gate's.
    """

    seen: Mapping[str, Any]
    role: str | None = None
    authors: tuple[str, ...] = ()
    requirements: tuple[Mapping[str, Any], ...] = ()
    stale: str | None = None
    missing: str | None = None
    document: Mapping[str, Any] | None = None


Effect = Callable[[Workspace, Chain, str, "Ruling"], None]


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate's effect is told: the decision's id, its sight, and who decided in which role."""

    decision: str
    sight: Sight
    role: str
    cause: str | None = None


def no_effect(workspace: Workspace, chain: Chain, subject: str, ruling: Ruling) -> None:
    """A gate whose approval is the decision alone."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A point where a person decides. `own` gates are decided by the one whose work it is, the others never.

    At a `single` gate a decision answers all earlier ones, whatever their subject: one policy is in force. What waits at a
    `named` gate is only meant when it is named.
    """

    name: str
    role: str
    own: bool
    back_to: tuple[str, ...]
    waiting: Callable[[Workspace], list[Open]]
    look: Callable[[Workspace, str], Sight]
    effect: Effect = no_effect
    after: Callable[[Workspace, str], None] | None = None
    single: bool = False
    named: bool = False


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """The whole table: steps in the paper's order, and the gates by name. `keeping` comes before them in every run."""

    steps: tuple[Step, ...]
    gates: Mapping[str, Gate]
    keeping: tuple[Step, ...] = ()

    def step(self, name: str) -> Step:
        """A step by name; NotFound lists what there is."""
        for step in self.steps:
            if step.name == name:
                return step
        raise NotFound(f"no step '{name}'", remedy="steps: " + ", ".join(s.name for s in self.steps))
