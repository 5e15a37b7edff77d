"""Names of pages, where they are written, and the line at their end that says of what and when."""

from datetime import UTC, datetime

import cdl
from cdl.registry.records import short
from cdl.workflow.workspace import Workspace

REPORTS = "reports"  # a folder of the project, ignored by git
OVERVIEW = "index"
PREFIX = "exp/"


def dataset_name(name: str, dataset_id: str) -> str:
    """The page of a dataset's version."""
    return f"{name}-{short(dataset_id)}"


def model_name(model_id: str) -> str:
    """The page of a model."""
    return short(model_id)


def experiment_name(branch: str) -> str:
    """The page of an experiment."""
    return f"experiment-{branch.removeprefix(PREFIX)}"


def stage_name(stage: str) -> str:
    """The page of a stage."""
    return f"stage-{stage}"


def made_line(workspace: Workspace) -> str:
    """Of what state a page was written, when, and by what."""
    head = workspace.git.resolve("HEAD")
    branch = workspace.git.branch() or "a detached HEAD"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    at = f" at commit {head[:12]}" if head else ""
    return f"{workspace.config.project}, {branch}{at}; written {now} UTC by cdl {cdl.__version__}."
