"""The snapshot of code that a dataset version or a trial is made with."""

from cdl.git.snapshot import Snapshot, snapshot
from cdl.workflow.workspace import Workspace


def source_snapshot(workspace: Workspace) -> Snapshot:
    """The work tree without declared sources and label files, which never enter a code snapshot."""
    return snapshot(workspace.git, exclude=declared_paths(workspace))


def declared_paths(workspace: Workspace) -> list[str]:
    """The sources and label files of every dataset."""
    return [path.rstrip("/") for data in workspace.config.data.values() for path in data.paths()]


def tell_left_out(workspace: Workspace, taken: Snapshot) -> None:
    """Names the files that a snapshot does not hold: large ones, those that look like secrets, repositories inside this one."""
    declared = declared_paths(workspace)
    for path in taken.left_out:
        if not any(path == d or path.startswith(d + "/") for d in declared):
            workspace.tell(f"not kept with the code: {path} (large, a secret by its name, or a repository of its own)")
