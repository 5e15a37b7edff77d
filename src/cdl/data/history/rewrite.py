"""Sealing again: the current version of a dataset under the data key in use, as a new version that differs in nothing else.

It is asked for by `cdl member remove --rewrite`. The new version goes through the data gate and a label release as any other;
test, ledger, raw files, rejected and set-aside items are sealed again. What it cannot do: earlier versions, label batches,
predictions, logs and scoring rows stay under the key that sealed them, and nobody forgets what he has read or copied.
"""

from collections.abc import Sequence

import msgspec

from cdl.data.pipeline import ledger as ledgers
from cdl.data.versions import DATA_REFS, commit
from cdl.registry.records import Dataset, DatasetHead, Stage
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.tree import Tree
from cdl.workflow.members import approved
from cdl.workflow.policy import require_role
from cdl.workflow.step import Work
from cdl.workflow.workspace import Workspace


def unrewritten(workspace: Workspace) -> list[Work]:
    """Datasets whose current version an older data key sealed, where the policy in force asks to seal it again.

    Only where the integration branch is checked out: the new version goes there.
    """
    if workspace.git.branch() != workspace.registry.integration or not approved(workspace).rewrite:
        return []
    found = []
    for name in workspace.config.data:
        head, file = workspace.registry.head(DatasetHead, name), workspace.key_file(name)
        if head is None or file is None or not workspace.holds_key(name):
            continue
        sealed = workspace.registry.record(Dataset, head.version).data_key
        if sealed != file.data_key:
            line = f"{name}: seal the current version again, {sealed} -> {file.data_key}"
            found.append(Work(step="resealing", subject=name, line=line))
    return found


def begin(workspace: Workspace, work: Work) -> None:
    """Seals again, and tells what stays."""
    rewrite(workspace, work.subject)
    workspace.tell(
        f"{work.line}; older versions, label batches, predictions and logs stay under the key that sealed them"
    )


def rewrite(workspace: Workspace, name: str) -> str:
    """Commits a version that is the current one sealed with the data key in use; its id. Refused for another role."""
    require_role(workspace, ("data_engineer",), "data run")
    head = workspace.registry.head(DatasetHead, name)
    assert head is not None  # `unrewritten` saw it
    vault = workspace.vault(name, by="data")
    before = workspace.registry.record(Dataset, head.version)
    train = workspace.store.tree(before.steps[0].train)  # where files lie that are training items
    again = msgspec.structs.replace(
        before,
        parent=head.version,
        answers=None,
        data_key=vault.name,
        sources=[msgspec.structs.replace(s, raw=_tree(vault, s.raw, [train])) for s in before.sources],
        split=msgspec.structs.replace(
            before.split,
            ledger=ledgers.resealed(vault, before.split.ledger),
            set_aside={**before.split.set_aside, "tree": _maybe(vault, before.split.set_aside["tree"])},
        ),
        steps=[_stage(vault, stage) for stage in before.steps],
        rejected={**before.rejected, "tree": _maybe(vault, before.rejected.get("tree"))},
    )
    identity = commit(workspace, again, head)
    source = workspace.git.resolve(DATA_REFS + head.version)
    if source is not None:  # the same source makes it
        workspace.git.set_ref(DATA_REFS + identity, source)
    return identity


def _stage(vault: Vault, stage: Stage) -> Stage:
    return msgspec.structs.replace(stage, test=_tree(vault, stage.test))


def _maybe(vault: Vault, name: str | None) -> str | None:
    return None if name is None else _tree(vault, name)


def _tree(vault: Vault, name: str, beside: Sequence[Tree] = ()) -> str:
    """A sealed tree, sealed again; without what was erased. What lies `beside`, or outside of the store, stays there."""
    tree, builder = vault.tree(name), Builder(vault, beside=beside)
    for item, place in sorted(tree.places.items()):
        if not tree.erased(place):
            builder.take(item, tree, place)
    return builder.finish()
