"""What sealing cannot hide: a source that anyone can fetch, and files that git tracks. Named by status and by collection."""

import os
from pathlib import Path

from cdl.data.sources.fetch import called
from cdl.git.changes import LITERAL
from cdl.workflow.workspace import Workspace


def exposed(workspace: Workspace, name: str) -> list[str]:
    """Why the test set of a dataset is not secret, a reason for each source or label file; empty where it is."""
    data = workspace.config.data[name]
    found = [f"anyone can fetch {s.url}" for s in data.sources() if s.url]
    found += [f"{called(s)} stays in place, in the open (copy: false)" for s in data.sources() if not s.copy]
    inside = [p for p in data.paths() if Path(os.path.normpath(workspace.root / p)).is_relative_to(workspace.root)]
    return found + [f"git tracks {p}" for p in inside if workspace.git.run("ls-files", "-z", "--", p, env=LITERAL)]
