"""Pipeline submission: `cdl data submit` offers a branch whose data steps made a version; the data gate merges it.

The version's stages name the closures of their code; what is offered must hold exactly that code.
"""

from cdl.data.pipeline.draft import closure_of
from cdl.errors import NotFound, Refused
from cdl.git.commit import merge_in_memory
from cdl.registry import offers
from cdl.registry.chain import Chain
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.workflow.policy import require_role
from cdl.workflow.step import Ruling
from cdl.workflow.workspace import Workspace


def submit(workspace: Workspace, name: str) -> str:
    """Offers the commit checked out for the dataset version that this branch names; the version's id.

    Refused when a step's code there is not the code that made the version.
    """
    require_role(workspace, ("data_engineer",), "data submit")
    head = workspace.registry.head(DatasetHead, name)
    if head is None:
        raise NotFound(f"{name} has no version on this branch", remedy="cdl data run")
    commit = workspace.git.head()
    _same_steps(workspace, name, workspace.registry.record(Dataset, head.version), commit)
    offers.offer(workspace.git, head.version, commit)
    return head.version


def offered(workspace: Workspace, version: str) -> str | None:
    """The commit that was offered for a version."""
    return offers.offered(workspace.git, version)


def merge_offer(workspace: Workspace, chain: Chain, subject: str, ruling: Ruling) -> None:
    """Approval merges an offered branch. Refused when the merge conflicts."""
    commit = offered(workspace, subject)
    if commit is None or workspace.git.is_ancestor(commit, chain.start):
        return
    merge = merge_in_memory(workspace.git, chain.start, commit)
    if merge.tree is None:
        raise Refused(
            f"merging {commit[:8]} into {chain.branch} conflicts in {', '.join(merge.conflicts)}",
            remedy=f"git merge {chain.branch} on that branch, cdl data run, cdl data submit",
        )
    chain.commit(files=chain.added(), command="data submit", line=short(subject), merged=commit, tree=merge.tree)


def _same_steps(workspace: Workspace, name: str, record: Dataset, commit: str) -> None:
    files = workspace.git.files(commit)
    made = {stage.name: stage.code for stage in record.steps}
    for step_name, step in workspace.config.data[name].named_steps():
        if step.off:
            continue
        code = closure_of(workspace, files, step.run, step.files, step)
        if made.get(step_name) != code.id:
            raise Refused(
                f"step {step_name} of the commit checked out is not the one that made {name}",
                remedy="git commit, cdl data run, then the command again",
            )
