"""Versions of a dataset: one record for all stages, one small head that names the current one.

Equal sources, code, key and parent give the equal record, on any machine; nothing changed makes no commit.
"""

from collections import Counter
from contextlib import ExitStack

from cdl.data import validate
from cdl.data.dataset import field_names
from cdl.data.exposed import exposed
from cdl.data.pipeline import pending
from cdl.data.pipeline.code import source_snapshot, tell_left_out
from cdl.data.pipeline.collect import as_seen, collect, look, seen, split
from cdl.data.pipeline.draft import Draft, begin
from cdl.data.pipeline.ingest import ingest
from cdl.data.pipeline.joining import computed, join
from cdl.data.pipeline.lookups import lookups_at
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.data.pipeline.work import failed, work
from cdl.data.sources import looked
from cdl.data.sources.fetch import Sift
from cdl.data.workers import logs
from cdl.errors import ConfigError, Conflict, Corrupt, NotFound
from cdl.registry.records import Dataset, DatasetHead, Joined, encode, short
from cdl.store.hold import holding
from cdl.store.tree import open_tree
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data run"
MOST_REASONS = 100  # that a record says: a step may give one of its own to each item
OTHERS = "(other reasons)"
UNSAID = "(reasons of test items only)"  # sealed; `cdl data rejected` tells them
ATTEMPTS = 10  # versions that others made while this one was made
DATA_REFS = "refs/cdl/data/"  # the snapshot that a version was made with


def make(workspace: Workspace, name: str, *, answers: str | None = None, sift: Sift | None = None) -> str:
    """Runs the data pipeline of a dataset and commits its new version on the branch checked out; the version's id.

    Where another run made one meanwhile, it begins again on top of that. `sift` says which files of a source may be taken.
    Refused for another role; Unavailable without the dataset's key; ConfigError and JobFailed name the source, step or code
    that failed.
    """
    if name not in workspace.config.data:
        raise NotFound(
            f"no dataset '{name}'", where="cdl.yaml", remedy="there are: " + ", ".join(workspace.config.data)
        )
    require_role(workspace, ("data_engineer",), COMMAND)
    with holding(workspace.folder):
        for _ in range(ATTEMPTS):
            since = workspace.git.resolve("HEAD")
            head = workspace.registry.head(DatasetHead, name, at=since)
            try:
                with ExitStack() as held:
                    return _made(workspace, name, answers, sift, since, held)
            except Conflict:
                now = workspace.registry.head(DatasetHead, name)
                if now is None or now == head:
                    raise
                workspace.tell(f"another run made {short(now.version)} meanwhile: again, on top of it")
    raise Conflict(f"others make versions of {name} all the time", remedy="cdl data run, once they are done")


def _made(
    workspace: Workspace, name: str, answers: str | None, sift: Sift | None, since: str | None, held: ExitStack
) -> str:
    head = workspace.registry.head(DatasetHead, name, at=since)
    taken = source_snapshot(workspace)
    tell_left_out(workspace, taken)
    draft = begin(workspace, name, workspace.config, taken.commit, head.version if head else None)
    reasons = "".join(f" (not secret: {why})" for why in exposed(workspace, name))
    draft.sift, draft.lookups = sift, lookups_at(workspace, name, workspace.config.data, since)
    workspace.tell(f"collect   {name}{reasons}")
    collect(draft, held)
    if head is not None and (nothing_new(draft, answers) or _restored(draft, taken.commit)):
        identity = head.version
        _note_told(draft)
    else:
        logs.begin(workspace.folder, name)
        pipeline(draft)
        record = finish(draft, head.version if head else None, answers)
        identity = commit(workspace, record, head)
        if workspace.git.resolve(DATA_REFS + identity) is None:  # any snapshot that makes it will do: the first stays
            workspace.git.set_ref(DATA_REFS + identity, taken.commit)
        looked.write(workspace, draft.vault, record, seen(draft), draft.began)
    told = zip(draft.config.sources(), draft.files, strict=True)
    sights = [files.seen for source, files in told if source.path and files.seen is not None]
    pending.note(workspace, name, taken.tree, sights, draft.lookups)
    if validate.asked(draft.config):
        validate.tell(workspace, identity, draft.vault)
    return identity


def _restored(draft: Draft, commit: str) -> bool:
    """Whether the store lacks something of the version before and has it again, since it was made once more as it was made.

    That takes sources as they were then. Else what follows is read as a whole, and nothing of it lies in what is broken.
    """
    lost, parent = draft.broken, draft.parent
    if not lost or parent is None:
        return False
    draft.workspace.tell("mend      the store lacks something of the version before: every source is read again")
    if isinstance(parent.joined, Joined):
        return False
    again = begin(draft.workspace, draft.name, draft.workspace.config, commit, parent.parent, data_key=parent.data_key)
    again.files, again.began, again.lookups = draft.files, draft.began, parent.lookups
    try:
        pipeline(again)
    except (Corrupt, NotFound):
        return False  # what that one followed is lost too
    return same(parent, finish(again, parent.parent, parent.answers))


def _note_told(draft: Draft) -> None:
    """Keeps what servers say now of what is as it was."""
    if draft.looked is not None and draft.parent is not None:
        before = [dict(each.told) for each in draft.looked.sources]
        if before != [dict(files.told) for files in draft.files]:
            draft.number_sources(draft.config.sources())
            looked.write(draft.workspace, draft.vault, draft.parent, seen(draft), draft.began)


def nothing_new(draft: Draft, answers: str | None) -> bool:
    """Whether the version before is what the pipeline would make: sources, declarations and code are as they were."""
    parent, config = draft.parent, draft.config
    if parent is None or answers not in (None, parent.answers) or config.mask or config.split.test != parent.split.test:
        return False
    named = [(name, step) for name, step in config.named_steps() if not step.off]
    made = [(stage.name, stage.code, stage.environment, stage.joined) for stage in parent.steps[1:]]
    if not as_seen(draft) or parent.skipped != [name for name, step in config.named_steps() if step.off]:
        return False
    if any(step.on_error == "aside" for _, step in named) and failed(draft.vault, parent):
        return False  # they are tried again
    if parent.lookups and _erased(draft, parent):
        return False  # what they joined went, and they come without it
    return made == [(name, *computed(draft, name, step)) for name, step in named]


def _erased(draft: Draft, parent: Dataset) -> bool:
    """Whether something of a version's items was erased."""
    trees = [open_tree(draft.box(side), getattr(parent, side)) for side in (TRAIN, TEST)]
    return any(any(map(tree.erased, range(len(tree)))) for tree in trees)


def pipeline(draft: Draft) -> None:
    """Everything after collection."""
    look(draft)
    split(draft)
    ingest(draft)
    draft.workspace.tell(f"split     {_sides(draft)}")
    steps(draft)


def steps(draft: Draft) -> None:
    """The data steps, on whatever both sets hold after ingestion."""
    for name, step in draft.config.named_steps():
        if step.off:
            draft.skipped.append(name)
        elif step.join is not None:
            join(draft, name, step)
        else:
            work(draft, name, step)
        draft.workspace.tell(f"{name:<9} {sum(draft.items().values())} items, {len(draft.rejected)} rejected")
    check_mask(draft)


def _sides(draft: Draft) -> str:
    """How many items there are on each side, and the share of the test set beside the one that was asked for."""
    sides, aside = draft.items(), draft.split.set_aside["count"] if draft.split else 0
    share = sides[TEST] / max(1, sides[TEST] + sides[TRAIN])
    counts = f"{sum(sides.values()) + aside:,} items: train {sides[TRAIN]:,}, test {sides[TEST]:,}"
    declared = all(source.set for source in draft.config.sources())
    why = "as declared" if declared else f"wanted {draft.config.split.test:.0%}"
    return f"{counts} ({share:.1%}, {why}), {aside} set aside"


def check_mask(draft: Draft) -> None:
    """ConfigError for a masked field that no item has: a misspelt mask would hide nothing."""
    unknown, names = set(draft.config.mask), set[str]()
    for tree in draft.trees.values() if unknown else ():
        for place, data in enumerate(tree.each(range(len(tree)))):
            found = field_names(bytes(data), tree.meta(place))
            names |= found
            unknown -= found
            if not unknown:
                return
    if unknown and names:
        where, there = f"cdl.yaml: data.{draft.name}.mask", ", ".join(sorted(names))
        raise ConfigError(f"no item has a field '{min(unknown)}'", where=where, remedy=f"there are: {there}")


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
        items=draft.items(),
        skipped=draft.skipped,
        data_key=draft.vault.name,
        rejected={"reasons": _reasons(draft), "tree": draft.vault.put_tree(kept) if kept else None},
    )


def _reasons(draft: Draft) -> dict[str, int]:
    """How many items each reason set aside. A reason may quote its item: what only test items have is not said."""
    reasons = [outcome.reason for _, outcome in draft.rejected.values()]
    counted = Counter(r if r in draft.sayable else UNSAID for r in reasons)
    often = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in often[MOST_REASONS:])
    return dict(sorted(often[:MOST_REASONS])) | ({OTHERS: rest} if rest else {})


def commit(workspace: Workspace, record: Dataset, head: DatasetHead | None) -> str:
    """Commits a version and moves its head; the version that stands already where nothing differs.

    Conflict where somebody moved the head meanwhile.
    """
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
