"""Stages: what each should run and what it does. The head says what should; a pull or a revert touches no service."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cdl.deployment import control
from cdl.deployment.port import HOST
from cdl.registry.records import DeploymentHead, short
from cdl.workflow.workspace import Workspace

LOCK = ".lock"  # in a service's folder


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage should run and what it does: package ids, or None. `here`: somebody deployed it from this clone."""

    stage: str
    declared: str | None
    running: str | None
    port: int | None
    workers: int
    here: bool = True

    @property
    def url(self) -> str | None:
        """Where it answers."""
        return None if self.port is None else f"http://{HOST}:{self.port}"

    @property
    def line(self) -> str:
        """For the person: what runs, what should, and the command that makes them one."""
        if self.running is None:
            if self.declared is None:
                return f"{self.stage}: nothing was deployed"
            if not self.here:
                return f"{self.stage}: declared {short(self.declared)}; no service of it in this clone"
            return f"{self.stage}: declared {short(self.declared)}, nothing runs: cdl deploy apply {self.stage}"
        text = f"{short(self.running)} at {self.url} ({self.workers} {'worker' if self.workers == 1 else 'workers'})"
        if self.running == self.declared:
            return f"{self.stage} runs {text}"
        declared, remedy = (short(self.declared), "apply") if self.declared else ("nothing", "stop")
        return f"{self.stage}: declared {declared}, running {text}: cdl deploy {remedy} {self.stage}"


@contextmanager
def alone(workspace: Workspace, stage: str, *, wait: bool = True) -> Iterator[bool]:
    """Holds off other commands that change a stage's service; without `wait` it says whether none was at it.

    The lock ends with its process, however that ends.
    """
    place = folder(workspace, stage)
    place.mkdir(parents=True, exist_ok=True)
    with open(place / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def status(workspace: Workspace, stage: str) -> Stage:
    """What a stage should run and what it does, after finishing what was killed between. What is under way is left alone."""
    if control.running(folder(workspace, stage)) is not None:
        with alone(workspace, stage, wait=False) as free:
            if free:
                finish(workspace, stage)
    return look(workspace, stage)


def look(workspace: Workspace, stage: str) -> Stage:
    """What a stage should run and what it does; nothing is changed."""
    head, found = declared(workspace, stage), control.running(folder(workspace, stage))
    return Stage(
        stage=stage,
        declared=head.package if head else None,
        running=Path(found["package"]).name if found else None,
        port=found["port"] if found else None,
        workers=len(found["workers"]) if found else 0,
        here=folder(workspace, stage).is_dir(),
    )


def finish(workspace: Workspace, stage: str) -> None:
    """Switches to workers that were prepared and committed, abandons those that were not. The caller is `alone`."""
    place = folder(workspace, stage)
    found = control.running(place)
    if found is None or found["next"] is None:
        return
    head = declared(workspace, stage)
    committed = head is not None and Path(found["next"]).name == head.package
    control.ask(place, op="switch" if committed else "abandon")


def declared(workspace: Workspace, stage: str) -> DeploymentHead | None:
    """The head of a stage on its branch."""
    tip = workspace.git.resolve(f"refs/heads/{workspace.registry.branch_of(stage)}")
    return workspace.registry.head(DeploymentHead, stage, at=tip) if tip else None


def folder(workspace: Workspace, stage: str) -> Path:
    """Where a stage's service lives."""
    return workspace.folder / "services" / stage
