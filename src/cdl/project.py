"""A project: opens everything below it, for the command line and for Python.

workspace = open_workspace(Path("."))
workspace.registry.all(Model)          every registered model, from any branch
"""

from collections.abc import Callable
from pathlib import Path

from cdl.config.load import load
from cdl.errors import NotFound
from cdl.git.commit import repair
from cdl.git.repository import Git
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.keys import Keyring
from cdl.registry.registry import Registry
from cdl.store.store import Store
from cdl.workflow.workspace import Workspace


def silent(line: str) -> None:
    """Progress that nobody watches."""


def find_root(start: Path) -> Path:
    """The folder with cdl.yaml at or above `start`. NotFound outside a project."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "cdl.yaml").is_file():
            return folder
    raise NotFound("no cdl.yaml here or above", where=str(start), remedy="cdl init")


def open_workspace(start: Path, *, tell: Callable[[str], None] = silent) -> Workspace:
    """Opens the project at or above a folder. Nothing of the project's code is run."""
    root = find_root(start)
    config = load(root)
    git = Git(root)
    repair(git)
    folder = root / ".cdl"
    journal = Journal(folder)
    store = Store(folder / "store")
    person = git.person()
    return Workspace(
        root=root,
        config=config,
        git=git,
        store=store,
        journal=journal,
        registry=Registry(git, journal, folder, integration=config.branches.integration),
        jobs=Jobs(store, journal, git, who=person.email),
        keyring=Keyring(),
        person=person,
        tell=tell,
    )
