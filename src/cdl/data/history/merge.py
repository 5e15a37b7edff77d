"""`cdl data merge`: in a git merge, the versions that both branches made of a dataset become one.

It writes work tree and index only: the record, the head, and the source folder, which takes what theirs changed, so that the next
run of the pipeline does not take that for removed. The person's commit ends the merge.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from cdl.data.history.checkout import place_of_source
from cdl.data.history.join import Clash, Outcome, join
from cdl.data.history.opened import Version, apart
from cdl.data.pipeline.draft import source_names
from cdl.data.versions import DATA_REFS, same
from cdl.errors import ConfigError, Conflict, NotFound
from cdl.git.commit import write_blobs
from cdl.git.repository import Git
from cdl.registry.records import Dataset, DatasetHead, Joined, LabelsHead, encode, encode_head, head_path
from cdl.store import whole
from cdl.store.hold import holding
from cdl.store.seal import Vault
from cdl.store.tree import Tree, open_tree
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data merge"
MODE = 0o644
SHOWN = 5


class Merged(msgspec.Struct, kw_only=True):
    """What became of one dataset: its version, or what clashes.

    `written` and `removed` are files of the source folder; `away` are sources that were left alone, with the reason. `again` are
    steps that were not joined: the pipeline has to run. `labels` is the labels' head where that conflicts too.
    """

    name: str
    version: str | None = None
    clashes: Sequence[Clash] = ()
    taken: int = 0
    aside: int = 0
    again: Sequence[str] = ()
    written: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    away: dict[str, str] = msgspec.field(default_factory=dict)
    labels: str | None = None


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the source folder that is to be as in a tree, or to go."""

    path: Path
    shown: str
    tree: Tree | None
    name: str


def merge(workspace: Workspace, name: str | None = None) -> list[Merged]:
    """Joins the versions of each dataset whose head conflicts, or of one. Needs its key.

    Where anything clashes nothing is written. Conflict outside of a merge, where versions cannot be joined, and where theirs
    changed files of the source folder that the person changed since the last version.
    """
    require_role(workspace, ("data_engineer",), COMMAND)
    theirs = _merging(workspace.git)
    with holding(workspace.folder):
        done = [_joined(workspace, each, theirs) for each in _conflicting(workspace, name, theirs)]
        if not any(outcome.clashes for _, outcome, _ in done):
            plans = [list(_plan(workspace, merged, ours, outcome)) for merged, outcome, ours in done]
            for (merged, outcome, ours), plan in zip(done, plans, strict=True):
                _write(workspace, merged, outcome, ours, plan)
    return [merged for merged, _, _ in done]


def remade(workspace: Workspace, identity: str, record: Dataset) -> bool | None:
    """Whether a version that joins two is made of them again, the same; None for another one. Needs the key."""
    if not isinstance(record.joined, Joined):
        return None
    vault = workspace.vault(record.name, by="data", data_key=record.data_key)
    ids = (record.parent, record.joined.theirs, record.joined.base)
    ours, theirs, base = (_opened(workspace, vault, each) for each in ids)
    again = join(ours, theirs, base, single={stage.name for stage in record.steps}).record
    return again is not None and encode(again)[0] == identity


def _merging(git: Git) -> str:
    """The commit that is being merged. Conflict where none is."""
    place = git.git_dir / "MERGE_HEAD"
    commits = place.read_text().split() if place.exists() else []
    if len(commits) != 1:
        what = "no merge is under way" if not commits else "more than two branches are merged"
        raise Conflict(what, remedy="git merge BRANCH; where it stops at the head of a dataset: cdl data merge")
    return commits[0]


def _conflicting(workspace: Workspace, name: str | None, theirs: str) -> list[str]:
    """The datasets to merge: those whose head git left in conflict, or the one that is named."""
    if name is not None:
        heads = [workspace.registry.head(DatasetHead, name, at=at) for at in ("HEAD", theirs)]
        if None in heads or heads[0] == heads[1]:
            raise NotFound(f"both branches have the same version of {name}, or one has none", remedy="git status")
        return [name]
    unmerged = _unmerged(workspace.git)
    found = [n for n in workspace.config.data if head_path(DatasetHead, n) in unmerged]
    if not found:
        raise NotFound("no head of a dataset is in conflict", remedy="git status; cdl data merge NAME does it again")
    return found


def _unmerged(git: Git) -> set[str]:
    lines = git.run("ls-files", "--unmerged", "-z").split(b"\0")
    return {line.partition(b"\t")[2].decode("utf-8", "surrogateescape") for line in lines if line}


def _joined(workspace: Workspace, name: str, theirs: str) -> tuple[Merged, Outcome, Version]:
    vault = workspace.vault(name, by="data")
    ids = []
    for commit in ("HEAD", theirs):
        head = workspace.registry.head(DatasetHead, name, at=commit)
        if head is None:
            raise NotFound(
                f"{name} has a version on one branch only", where=commit[:8], remedy="git checkout --theirs, or --ours"
            )
        ids.append(head.version)
    mine, other = (_opened(workspace, vault, identity) for identity in ids)
    base = _opened(workspace, vault, _ancestor(workspace, *ids))
    if base.id in ids:  # one branch has all that the other has
        newer = mine if base.id == other.id else other
        outcome = Outcome(record=newer.record)
    else:
        config = workspace.config.data.get(name)
        single = {step_name for step_name, step in config.named_steps() if step.per == "item"} if config else None
        outcome = join(mine, other, base, single=single)
        if outcome.record is not None and mine.record is not None and same(mine.record, outcome.record):
            outcome.record = mine.record
    labels = head_path(LabelsHead, name)
    merged = Merged(
        name=name,
        version=encode(outcome.record)[0] if outcome.record else None,
        clashes=outcome.clashes,
        taken=len(outcome.taken),
        aside=len(outcome.aside),
        again=outcome.again,
        labels=labels if labels in _unmerged(workspace.git) else None,
    )
    return merged, outcome, mine


def _opened(workspace: Workspace, vault: Vault, identity: str | None) -> Version:
    record = workspace.registry.record(Dataset, identity) if identity else None
    return Version(workspace.store, vault, identity, record)


def _ancestor(workspace: Workspace, ours: str, theirs: str) -> str | None:
    """The last version that both come from; None where each began its own history."""
    known = set(_history(workspace, theirs))
    return next((identity for identity in _history(workspace, ours) if identity in known), None)


def _history(workspace: Workspace, identity: str) -> Iterator[str]:
    """A version and all before it, the nearest first."""
    todo, done = [identity], set[str]()
    while todo:
        now = todo.pop(0)
        if now in done:
            continue
        done.add(now)
        yield now
        record = workspace.registry.record(Dataset, now)
        todo += [record.parent] if record.parent else []
        todo += [record.joined.theirs] if isinstance(record.joined, Joined) else []


def _plan(workspace: Workspace, merged: Merged, ours: Version, outcome: Outcome) -> Iterator[_Change]:
    """What changes in the source folders. Conflict where the person changed one of these files."""
    record, disturbed = outcome.record, []
    if record is None:
        return
    for number, (key, source) in enumerate(zip(source_names(record.sources), record.sources, strict=True)):
        after, before = open_tree(ours.vault, source.raw), ours.raw(key)
        try:
            place = place_of_source(workspace.root, None, source, number, after)
        except ConfigError as error:
            merged.away[key] = error.message
            continue
        if any(tree.outside for tree in (before, after) if tree is not None):  # these files have no other copy
            merged.away[key] = "its files stay where they are (copy: false)"
            continue
        if before is not None and not place.folder.is_dir():
            merged.away[key] = "it is not here: cdl data checkout brings it"
            continue
        for name in sorted(apart(before, after)):
            path, wanted = place.folder / name, _content(after, name)
            shown = path.relative_to(workspace.root).as_posix()
            stands = path.read_bytes() if path.is_file() else None
            if stands == wanted:
                continue
            if stands != _content(before, name):
                disturbed.append(shown)
            else:
                yield _Change(path=path, shown=shown, tree=after if wanted is not None else None, name=name)
    if disturbed:
        more = f" and {len(disturbed) - SHOWN:,} more" if len(disturbed) > SHOWN else ""
        raise Conflict(
            f"changed in the source since the last version, and by theirs: {', '.join(disturbed[:SHOWN])}{more}",
            remedy="git merge --abort, cdl data run to keep what you did, and git merge again",
        )


def _content(tree: Tree | None, name: str) -> bytes | None:
    return tree.get(name) if tree is not None and name in tree else None


def _write(workspace: Workspace, merged: Merged, outcome: Outcome, ours: Version, plan: Sequence[_Change]) -> None:
    """Writes the source folder, then the record and the head, and puts these two into the index."""
    if outcome.record is None:
        return
    for change in plan:
        if change.tree is None:
            change.path.unlink(missing_ok=True)
            merged.removed.append(change.shown)
        else:
            whole.write(change.path, change.tree.get(change.name), mode=MODE)
            merged.written.append(change.shown)
    identity, path, data = encode(outcome.record)
    before = ours.id if identity != ours.id else _before(workspace, merged.name)
    head = DatasetHead(version=identity, before=before)
    files = {path: data, head_path(DatasetHead, merged.name): encode_head(head)}
    _stage(workspace, files)
    source = workspace.git.resolve(DATA_REFS + str(ours.id))
    if source is not None and workspace.git.resolve(DATA_REFS + identity) is None:
        workspace.git.set_ref(DATA_REFS + identity, source)


def _before(workspace: Workspace, name: str) -> str | None:
    head = workspace.registry.head(DatasetHead, name)
    return head.before if head else None


def _stage(workspace: Workspace, files: Mapping[str, bytes]) -> None:
    git = workspace.git
    for path, data in files.items():
        whole.write(workspace.root / path, data, mode=MODE)
    (git.common_dir / "cdl").mkdir(parents=True, exist_ok=True)
    blobs = write_blobs(git, files)
    lines = [o for path, blob in blobs.items() for o in ("--cacheinfo", f"100644,{blob},{path}")]
    git.run("update-index", "--add", *lines)
