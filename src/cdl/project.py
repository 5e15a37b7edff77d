"""A project: opens everything below it, for the command line and for Python.

project = cdl.open(".")
project.data["articles"].take([3, 5])          training items of the current version
project.workspace.registry.all(Model)          every registered model, from any branch
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cdl.config.load import load
from cdl.data.dataset import Items, training
from cdl.data.ready import released
from cdl.errors import NotFound
from cdl.git.commit import repair
from cdl.git.repository import Git
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.keys import Keyring
from cdl.registry.records import DatasetHead
from cdl.registry.registry import Registry
from cdl.store.store import Store
from cdl.workflow.workspace import Workspace


@dataclass(frozen=True)
class Data:
    """A dataset of a project, as training sees it: masked, and never a test item."""

    workspace: Workspace
    name: str

    def items(self) -> Items:
        """The training set of the version that this branch's released labels name; without labels the last version's."""
        try:
            dataset, labels = released(self.workspace, self.name)
        except NotFound:
            head = self.workspace.registry.head(DatasetHead, self.name)
            if head is None:
                raise
            return training(self.workspace, head.version, None)
        return training(self.workspace, dataset, labels)

    def take(self, places: Iterable[int]) -> Items:
        """Training items by place, in the order of their ids."""
        return self.items().take(places)


@dataclass(frozen=True)
class Project:
    """A project for Python: its datasets by name, and the workspace for everything else."""

    workspace: Workspace

    @property
    def data(self) -> dict[str, Data]:
        """The datasets by name."""
        return {name: Data(self.workspace, name) for name in self.workspace.config.data}


def open_project(start: str | Path = ".") -> Project:
    """The project at or above a folder: `cdl.open(".")`."""
    return Project(open_workspace(Path(start)))


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
