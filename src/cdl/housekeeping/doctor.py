"""`cdl doctor`: looks at everything that a clone consists of, runs nothing of the project, and says what to type.

Each part is looked at for itself: one that cannot be read is a finding, and the next is looked at all the same.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.housekeeping import of_git, of_journal, of_place, of_shared, of_store
from cdl.housekeeping.finding import Finding, Look
from cdl.workflow.step import Cycle
from cdl.workflow.workspace import Workspace

REMEDY = "mend what is named, then: cdl doctor"
CHECKS: tuple[tuple[str, Callable[[Look], Iterator[Finding]]], ...] = (
    ("store", of_store.check),
    ("journal", of_journal.check),
    ("shared store", of_shared.check),
    ("services", of_place.services),
    ("environment", of_place.environment),
    ("trust", of_place.trust),
    ("leftovers", of_place.left),
)


def examine(
    git: Git,
    folder: Path,
    opened: Callable[[], Workspace],
    cycle: Cycle,
    *,
    known: str | None,
    full: bool = False,
    mend: bool = False,
) -> list[Finding]:
    """Every finding, in the order of the parts. `folder` is `.cdl`, `known` the integration branch as far as it is known."""
    found: list[Finding] = []
    workspace: Workspace | None = None
    try:
        workspace = opened()
    except CdlError as error:
        found.append(_unreadable("project", error))
    targets = [known or "main"]
    if workspace is not None:
        registry = workspace.registry
        targets = [registry.integration, *([registry.production] if registry.production else [])]
    found += _looked("git", lambda: of_git.check(git, folder, list(dict.fromkeys(targets)), cycle, mend=mend))
    if workspace is not None:
        look = Look(workspace=workspace, full=full, mend=mend)
        for area, check in CHECKS:
            found += _looked(area, lambda check=check: check(look))  # type: ignore[misc]
    return list(dict.fromkeys(found))


def _looked(area: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)
    except (CdlError, OSError, ValueError, KeyError, sqlite3.Error) as error:
        found.append(_unreadable(area, error))
    return found


def _unreadable(area: str, error: Exception) -> Finding:
    if isinstance(error, CdlError):
        return Finding(area=area, where=error.where or area, what=error.message, remedy=error.remedy or REMEDY)
    what = f"cannot be looked at: {type(error).__name__}: {error}"
    return Finding(area=area, where=area, what=what, remedy=REMEDY)
