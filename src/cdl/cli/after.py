"""What follows a command that changed something: events of what it made true, triggers that these made due, then notices."""

from cdl.cli.output import say
from cdl.cycle import CYCLE, TRIGGERS, announce
from cdl.workflow.notify import notify
from cdl.workflow.trigger import fire, waiting
from cdl.workflow.workspace import Workspace


def after(workspace: Workspace, *, no_triggers: bool = False) -> None:
    """Runs the triggers that this person can run, or names them, and tells whoever must decide."""
    announce(workspace)
    if no_triggers:
        for due in waiting(workspace, TRIGGERS):
            say(f"trigger {due.line} waits: cdl run")
    else:
        for line in fire(workspace, TRIGGERS):
            say(line)
    notify(workspace, CYCLE)
