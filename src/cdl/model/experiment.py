"""An experiment is a branch: `cdl experiment create stems` is `git switch -c exp/stems`, and an event."""

from cdl.errors import Conflict, NotFound
from cdl.sharing.branches import remote_of, upstreams
from cdl.workflow.workspace import Workspace

PREFIX = "exp/"


def create(workspace: Workspace, name: str, *, start: str | None = None) -> str:
    """Makes and checks out the branch of an experiment, from `start` (any revision) or from here; the branch's name."""
    branch = PREFIX + name
    git = workspace.git
    commit = git.resolve(start) if start else git.head()
    if commit is None:
        raise NotFound(f"no revision '{start}'", remedy="a branch, a tag or a commit")
    if git.call("check-ref-format", "--branch", branch).returncode != 0:
        raise NotFound(f"'{name}' cannot name a branch", remedy="letters, digits and -")
    if git.resolve(f"refs/heads/{branch}"):
        raise Conflict(f"{branch} exists", remedy=f"git switch {branch}")
    done = git.call("switch", "--quiet", "--create", branch, commit)
    if done.returncode != 0:
        raise Conflict(done.stderr.decode("utf-8", "replace").strip(), remedy="git commit or git stash your changes")
    workspace.journal.append("experiment.created", who=workspace.person.email, name=branch, commit=commit)
    return branch


def experiments(workspace: Workspace) -> dict[str, str]:
    """The branches of experiments and their commits; of those that only others have, as they were fetched last."""
    remote = remote_of(workspace.git)
    theirs = upstreams(workspace.git, remote) if remote else {}
    found = {branch: commit for branch, commit in theirs.items() if branch.startswith(PREFIX)}
    return dict(sorted((found | here(workspace)).items()))


def here(workspace: Workspace) -> dict[str, str]:
    """Those that are branches of this clone."""
    found = workspace.git.refs(f"refs/heads/{PREFIX}")
    return {ref.removeprefix("refs/heads/"): commit for ref, commit in found.items()}
