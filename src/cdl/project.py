"""A project: opens everything below it, for the command line and for Python.

project = cdl.open(".")
project.data["articles"].take([3, 5])          training items of the current version
project.workspace.registry.all(Model)          every registered model, from any branch
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import structs
from msgspec.structs import replace

from cdl.config.load import load
from cdl.config.schema import Branches
from cdl.data.dataset import Dataset, current_items
from cdl.data.sources.outside import Outside
from cdl.errors import CdlError, Conflict, NotFound, Unavailable
from cdl.git.commit import repair
from cdl.git.repository import Git, Person
from cdl.housekeeping.upgrade import upgrade
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.keys import Keyring
from cdl.registry.registry import Registry
from cdl.sharing.branches import OWN_REFS, remote_of, upstreams
from cdl.sharing.trust import Shared, trusted
from cdl.store.store import Store
from cdl.workflow import start
from cdl.workflow.policy import governed, in_force
from cdl.workflow.workspace import Workspace

INTEGRATION = "integration"  # the file below `.cdl` that names the branch


class Datasets(Mapping[str, Dataset]):
    """The datasets of a project by name, as training sees them: masked, and never a test item. Each is opened when asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> Dataset:
        """The training set of the version that this branch's released labels name; without labels the last version's.

        KeyError for a name that cdl.yaml does not have, NotFound without a version.
        """
        if name not in self:
            raise KeyError(name)
        return current_items(self._workspace, name)[1]

    def __contains__(self, name: object) -> bool:
        return name in self._workspace.config.data

    def __iter__(self) -> Iterator[str]:
        return iter(self._workspace.config.data)

    def __len__(self) -> int:
        return len(self._workspace.config.data)


class Project(msgspec.Struct, frozen=True):
    """A project for Python: its datasets by name, and the workspace for everything else."""

    workspace: Workspace

    @property
    def data(self) -> Datasets:
        """The datasets by name."""
        return Datasets(self.workspace)


def open_project(start: str | Path = ".") -> Project:
    """The project at or above a folder: `cdl.open(".")`."""
    return Project(open_workspace(Path(start)))


def silent(line: str) -> None:
    """Progress that nobody watches."""


def clone(url: str, folder: Path | None = None, *, tell: Callable[[str], None] = silent) -> Workspace:
    """Clones a project with its own refs, and opens it on its integration branch.

    Nothing of it may run, and no store is used, before `cdl trust`. Conflict where the folder is not empty, NotFound where the
    repository holds no project.
    """
    root = folder or Path(url.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1].removesuffix(".git"))
    if root.exists() and any(root.iterdir()):
        raise Conflict("the folder is not empty", where=str(root), remedy="cdl clone URL ANOTHER-FOLDER")
    root.mkdir(parents=True, exist_ok=True)
    git = Git(root)
    try:
        Git(Path.cwd()).run("clone", "--quiet", "--no-tags", "--end-of-options", url, str(root.resolve()))
        there = upstreams(git, "origin")
        if git.resolve("HEAD") is None and there:  # the remote's HEAD names a branch that it has not
            git.run("switch", "--quiet", "main" if "main" in there else min(there))
        workspace = join(root, tell=tell)
    except CdlError:
        if not (root / ".git").exists() and folder is None:
            root.rmdir()
        raise
    if workspace.registry.tip():
        git.run("switch", "--quiet", workspace.registry.integration)  # where experiments begin and data comes in
    return open_workspace(root, tell=tell)


def joins(folder: Path) -> bool:
    """Whether a folder is a clone that git made of a project, and that nobody set up yet."""
    if not ((folder / "cdl.yaml").is_file() and (folder / ".git").exists()):
        return False
    git = Git(folder)
    decided = git.resolve("HEAD") is not None and git.files("HEAD", "registry/decisions/")
    return bool(decided and remote_of(git) and not trusted(git).code)


def join(root: Path, *, tell: Callable[[str], None] = silent) -> Workspace:
    """Sets a clone up that git made: its own refs, and the branches that decisions and stages stand on. Nothing may run yet."""
    git = Git(root)
    remote = remote_of(git) or "origin"
    if OWN_REFS not in git.text("config", "--get-all", f"remote.{remote}.fetch", check=False).split():
        git.run("config", "--add", f"remote.{remote}.fetch", OWN_REFS)
    git.run("fetch", "--quiet", "--no-tags", remote)
    named, there = load(root).branches, upstreams(git, remote)
    for branch in {named.integration, named.production or named.integration}:
        if git.resolve(f"refs/heads/{branch}") is None and branch in there:
            git.run("branch", "--quiet", "--track", branch, f"{remote}/{branch}")
    return open_workspace(root, tell=tell)


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A new project: the files written, the datasets whose secrets were drawn, and the decision on the first policy."""

    workspace: Workspace
    written: tuple[str, ...]
    keys: tuple[str, ...]
    decision: str


def find_root(start: Path) -> Path:
    """The folder with cdl.yaml at or above `start`. NotFound outside a project."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "cdl.yaml").is_file():
            return folder
    raise NotFound("no cdl.yaml here or above", where=str(start), remedy="cdl init")


def init(
    folder: Path,
    *,
    name: str | None = None,
    example: str | None = None,
    own_key: bool = False,
    tell: Callable[[str], None] = silent,
) -> Begun:
    """Makes a project in an empty folder or an existing repository; an example comes with its published key.

    Conflict where there is a project already, Unavailable when git does not know who is working; nothing is written then.
    """
    existing = next(f for f in (folder.resolve(), *folder.resolve().parents) if f.is_dir())
    Git(existing).person()  # before anything is written
    if (folder / "cdl.yaml").exists() and (folder / ".git").exists() and start.approved(open_workspace(folder)):
        raise Conflict("this is a project already", where=str(folder / "cdl.yaml"), remedy="cdl status")
    laid = start.lay_out(folder, name=name, example=example)
    drawn = start.draw_keys(load(folder), Keyring(), example=None if own_key else example)
    workspace = open_workspace(folder, tell=tell)
    decision = start.first_policy(workspace, laid.written)
    follow_integration(workspace)  # before somebody names another branch in cdl.yaml
    return Begun(workspace=workspace, written=laid.written, keys=tuple(drawn), decision=decision)


def open_workspace(start: Path, *, tell: Callable[[str], None] = silent, at: str | None = None) -> Workspace:
    """Opens the project at or above a folder. Nothing of the project's code is run.

    `at` is a commit that stands for the integration branch, where a runner has checked out no branch and git knows no name.
    """
    root = find_root(start)
    written = load(root)
    git = Git(root)
    repair(git)
    folder = shared_folder(git)
    if upgrade(git, folder):
        tell(f"{folder}: brought to this version")
    journal = Journal(folder)
    store = Store(folder / "store")
    person = git.person() if at is None else runner(git)
    allowed = (
        trusted(git) if at is None else structs.replace(trusted(git), code=True)
    )  # whoever wrote the pipeline allows it
    store.reader = Outside(root, folder, written, tell, allowed.require_code)
    workspace = Workspace(
        root=root,
        folder=folder,
        config=written,
        git=git,
        store=store,
        journal=journal,
        registry=Registry(
            git, journal, folder, integration=known_integration(folder) or written.branches.integration, at=at
        ),
        jobs=Jobs(store, journal, git, who=person.email, allowed=allowed.require_code),
        keyring=Keyring(),
        trusted=allowed,
        shared=Shared(allowed.store, root),
        person=person,
        tell=tell,
    )
    follow_integration(workspace)
    config = governed(workspace)
    workspace.registry.production = config.branches.production
    return replace(workspace, config=config)


def runner(git: Git) -> Person:
    """Who works in continuous integration: whom git names, else the runner."""
    try:
        return git.person()
    except Unavailable:
        return Person("runner", "runner@localhost")


def shared_folder(git: Git) -> Path:
    """`.cdl`: beside the repository's own folder, one for all work trees of a clone."""
    common = git.common_dir
    return (common.parent if common.name == ".git" else git.root) / ".cdl"


def known_integration(folder: Path) -> str | None:
    """The integration branch as this clone knows it; None before the first command here."""
    try:
        return (folder / INTEGRATION).read_text().strip()
    except FileNotFoundError:
        return None


def follow_integration(workspace: Workspace) -> None:
    """Notes the integration branch, and follows where an approved policy moved it: the new one must hold that policy too.

    What somebody writes into cdl.yaml on a branch of their own cannot name another branch to judge it.
    """
    registry, place = workspace.registry, workspace.folder / INTEGRATION
    try:
        agreed = in_force(workspace)
    except NotFound:
        return
    now = registry.integration
    wanted = str(agreed.parts.get("branches", {}).get("integration", Branches().integration))
    if wanted != now:
        registry.integration = wanted
        if approved_here(workspace) != agreed.id:
            registry.integration = wanted = now
    if known_integration(workspace.folder) != wanted:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{INTEGRATION}.{os.getpid()}.tmp")
        temporary.write_text(wanted + "\n")
        temporary.replace(place)


def approved_here(workspace: Workspace) -> str | None:
    """The policy in force on the registry's integration branch."""
    try:
        return in_force(workspace).id
    except NotFound:
        return None
