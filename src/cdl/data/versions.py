"""Versions of a dataset: one record for all stages, one small head that names the current one.

Equal sources, code, key and parent give the equal record, on any machine; nothing changed makes no commit.
"""

import secrets
from collections import Counter
from collections.abc import Mapping

from cdl.config.schema import Config
from cdl.data import ledger as ledgers
from cdl.data import stages
from cdl.data.exposed import exposed
from cdl.data.process import Content
from cdl.data.split import ASIDE, TEST, TRAIN
from cdl.data.stages import Draft
from cdl.errors import Corrupt, NotFound
from cdl.git.snapshot import Snapshot, snapshot
from cdl.jobs.environment import environment
from cdl.registry.records import Dataset, DatasetHead, encode, short
from cdl.store.hold import holding
from cdl.store.seal import Vault
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data run"
UNSAID = "(reasons of test items only)"  # sealed; `cdl data rejected` tells them
DATA_REFS = "refs/cdl/data/"  # the snapshot that a version was made with


def make(workspace: Workspace, name: str, *, answers: str | None = None) -> str:
    """Runs the data pipeline of a dataset and commits its new version on the branch checked out; the version's id.

    Refused for another role; Unavailable without the dataset's key; ConfigError and JobFailed name the source, step or code
    that failed.
    """
    if name not in workspace.config.data:
        raise NotFound(
            f"no dataset '{name}'", where="cdl.yaml", remedy="there are: " + ", ".join(workspace.config.data)
        )
    require_role(workspace, ("data_engineer",), COMMAND)
    with holding(workspace.folder):
        return _made(workspace, name, answers)


def _made(workspace: Workspace, name: str, answers: str | None) -> str:
    head = workspace.registry.head(DatasetHead, name)
    taken = source_snapshot(workspace)
    tell_left_out(workspace, taken)
    draft = begin(workspace, name, workspace.config, taken.commit, head.version if head else None)
    reasons = "".join(f" (not secret: {why})" for why in exposed(workspace, name))
    workspace.tell(f"collect   {name}{reasons}")
    stages.collect(draft)
    pipeline(draft)
    record = finish(draft, head.version if head else None, answers)
    identity = commit(workspace, record, head)
    if (
        workspace.git.resolve(DATA_REFS + identity) is None
    ):  # any snapshot that makes the version will do: the first stays
        workspace.git.set_ref(DATA_REFS + identity, taken.commit)
    return identity


def pipeline(draft: Draft) -> None:
    """Everything after collection."""
    tell = draft.workspace.tell
    stages.split(draft)
    tell(f"split     {_sides(draft)}")
    stages.ingest(draft)
    steps(draft)


def steps(draft: Draft) -> None:
    """The data steps, on whatever both sets hold after ingestion."""
    for step_name, step in draft.config.named_steps():
        stages.work(draft, step_name, step)
        items = len(draft.sets[TRAIN]) + len(draft.sets[TEST])
        draft.workspace.tell(f"{step_name:<9} {items} items, {len(draft.rejected)} rejected")
    stages.check_mask(draft)


def _sides(draft: Draft) -> str:
    """How many items there are on each side, and the share of the test set beside the one that was asked for."""
    sides = Counter(row.side for row in draft.rows.values())
    share = sides[TEST] / max(1, sides[TEST] + sides[TRAIN])
    counts = f"{len(draft.rows):,} items: train {sides[TRAIN]:,}, test {sides[TEST]:,}"
    return f"{counts} ({share:.1%}, wanted {draft.config.split.test:.0%}), {sides[ASIDE]} set aside"


def begin(
    workspace: Workspace,
    name: str,
    config_file: Config,
    commit_: str,
    parent_id: str | None,
    *,
    data_key: str | None = None,
) -> Draft:
    """An empty draft on top of a version, with the code that a commit holds; sealed with the data key in use, or `data_key`."""
    split_key = workspace.keys(name).split_key
    parent = workspace.registry.record(Dataset, parent_id) if parent_id else None
    vault = workspace.vault(name, by="data", data_key=data_key)
    return _draft(workspace, name, config_file, commit_, vault, split_key, parent)


def begin_open(
    workspace: Workspace, name: str, config_file: Config, commit_: str, train: Mapping[str, Content]
) -> Draft:
    """A draft of the open side alone, for somebody without the key; what its jobs seal nobody can open afterwards."""
    vault = Vault(workspace.store, secrets.token_bytes(32), "none", identity=secrets.token_bytes(32))
    draft = _draft(workspace, name, config_file, commit_, vault, b"", None)
    draft.sets = {TRAIN: dict(train), TEST: {}}
    return draft


def _draft(
    workspace: Workspace,
    name: str,
    config_file: Config,
    commit_: str,
    vault: Vault,
    split_key: bytes,
    parent: Dataset | None,
) -> Draft:
    lock_path = config_file.environment.lock
    lock = workspace.git.read(commit_, lock_path) if lock_path else None
    return Draft(
        workspace=workspace,
        name=name,
        config=config_file.data[name],
        vault=vault,
        split_key=split_key,
        files=workspace.git.files(commit_),
        environment=environment(lock),
        parent=parent,
        before=ledgers.read(vault, parent.split.ledger if parent else None),
    )


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


def finish(draft: Draft, parent_id: str | None, answers: str | None) -> Dataset:
    """The record of a draft. The version before is its parent, unless nothing differs from it."""
    if draft.split is None:
        raise Corrupt("the draft has no split", where=draft.name)
    kept = {
        i: (o.item.data, {"step": step, "reason": o.reason, "fields": dict(o.item.fields)})
        for i, (step, o) in draft.rejected.items()
    }
    return Dataset(
        name=draft.name,
        parent=parent_id,
        answers=answers,
        sources=draft.sources,
        split=draft.split,
        steps=draft.stages,
        items={TRAIN: len(draft.sets[TRAIN]), TEST: len(draft.sets[TEST])},
        skipped=draft.skipped,
        data_key=draft.vault.name,
        rejected={"reasons": _reasons(draft), "tree": draft.vault.put_tree(kept) if kept else None},
    )


def _reasons(draft: Draft) -> dict[str, int]:
    """How many items each reason set aside. A reason may quote its item: what only test items have is not said."""
    reasons = [outcome.reason for _, outcome in draft.rejected.values()]
    return dict(sorted(Counter(r if r in draft.sayable else UNSAID for r in reasons).items()))


def commit(workspace: Workspace, record: Dataset, head: DatasetHead | None) -> str:
    """Commits a version and moves its head; the version that stands already where nothing differs."""
    if head is not None and same(workspace.registry.record(Dataset, head.version), record):
        return head.version
    identity = encode(record)[0]
    line = f"{record.name} {short(identity)}, {sum(record.items.values()):,} items"
    new = DatasetHead(version=identity, before=head.version if head else None)
    workspace.registry.commit(record, heads=[(record.name, new)], command=COMMAND, line=line)
    return identity


def same(first: Dataset, second: Dataset) -> bool:
    """Whether two versions differ in nothing but their parent and the request they answer."""
    fields = ("sources", "split", "steps", "items", "skipped", "data_key", "rejected")
    return second.answers in (None, first.answers) and all(getattr(first, f) == getattr(second, f) for f in fields)
