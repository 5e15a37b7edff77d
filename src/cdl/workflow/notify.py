"""Notices: the program that the policy in force names under `notify` is called once with each decision that waits.

    ./tell.sh GATE SUBJECT TITLE HOLDERS        an argument list without a shell, in the project's root, its output beside ours

A decision that was told in this clone is not told again, unless its gate was reopened since.
"""

import shlex
import subprocess

from cdl.workflow.decide import waiting
from cdl.workflow.policy import decisions, in_force
from cdl.workflow.step import Cycle
from cdl.workflow.workspace import Workspace

SECONDS = 30  # for the program to end


def notify(workspace: Workspace, cycle: Cycle) -> None:
    """Tells of each decision that waits and was not told yet. A program that fails is named, and nothing else happens."""
    program = workspace.config.notify
    if program is None or program != workspace.trusted.notify:
        return  # none, or one that this clone did not confirm: `cdl status` names it
    policy = in_force(workspace)
    for opened in waiting(workspace, cycle):
        number = len(decisions(workspace, opened.gate, opened.subject))
        if not workspace.store.claim(f"notified/{opened.gate}/{opened.subject}/{number}", b""):
            continue
        holders = ",".join(policy.holders(opened.role or cycle.gates[opened.gate].role))
        try:
            argv = [*shlex.split(program), opened.gate, opened.subject, opened.title, holders]
            subprocess.run(argv, cwd=workspace.root, stdin=subprocess.DEVNULL, stdout=2, timeout=SECONDS, check=True)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            workspace.tell(f"notify: {error}")
