"""The data pipeline's stages over one draft of a version: collect, split, ingest, then each data step.

A draft lives in memory and in the store until `versions.make` commits its record. Raw files, the ledger, the test set and
everything set aside are sealed from the first moment.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cdl import document
from cdl.config.schema import DataConfig, Step
from cdl.config.schema import Source as DeclaredSource
from cdl.data import ledger as ledgers
from cdl.data.dataset import field_names
from cdl.data.formats import Raw, read_items, unfit
from cdl.data.ledger import Ledger, Origin
from cdl.data.process import Content, Rejected, equal_values, key, process
from cdl.data.sources import fetch
from cdl.data.split import ASIDE, TEST, TRAIN, Item, Row, assign
from cdl.errors import ConfigError, Refused
from cdl.jobs.closure import Closure, closure
from cdl.jobs.environment import Environment
from cdl.registry.records import Dataset, Source, Split, Stage
from cdl.store.builder import Builder
from cdl.store.erased import ITEMS, read_item
from cdl.store.seal import Vault
from cdl.store.table import Box
from cdl.store.tree import Tree, open_tree
from cdl.workflow.workspace import Workspace

ID_DIGITS = 32  # hex digits of an item's id
COLLECT = "collect"  # the stage that rejects files which are no items


@dataclass(kw_only=True)
class Draft:
    """A version in the making. `files` is the snapshot's tree that code is taken from; `again` asks no earlier outcomes.

    `numbers` are those of the declared sources, `raw` holds each item with its source's place in cdl.yaml, `unfit` where
    a rejected file that is no item came from.
    `sayable` are reasons of rejected items that quote no test item: a training item has them too, or they stand in the code.
    """

    workspace: Workspace
    name: str
    config: DataConfig
    vault: Vault
    split_key: bytes
    files: Mapping[str, str]
    environment: Environment
    parent: Dataset | None
    before: Ledger
    fetched: list[Mapping[str, bytes]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    every_source: list[str] = field(default_factory=list)
    raw: dict[str, tuple[int, Raw]] = field(default_factory=dict)
    unfit: dict[str, Origin] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    sets: dict[str, dict[str, Content]] = field(default_factory=dict)
    split: Split | None = None
    stages: list[Stage] = field(default_factory=list)
    rejected: dict[str, tuple[str, Rejected]] = field(default_factory=dict)
    sayable: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    again: bool = False


def collect(draft: Draft) -> None:
    """Fetches the declared sources, keeps what came (sealed), and gives each item a neutral id."""
    number_sources(draft, draft.config.sources())
    for place, source in enumerate(draft.config.sources()):
        if source.command is not None:
            draft.workspace.trusted.require_code()
        files = _without_erased(draft, place, source, fetch(source, draft.workspace.root))
        draft.fetched.append(files)
        take_in(draft, place, files)
    if not draft.raw:
        fits = draft.config.items.files or "the declared rows or arrays"
        raise ConfigError(
            "the sources hold no item", where=f"cdl.yaml: data.{draft.name}", remedy=f"put some there; wanted: {fits}"
        )


def take_in(draft: Draft, place: int, files: Mapping[str, bytes]) -> None:
    """Gives each item in the files of a source its neutral id; files that are none are set aside where cdl.yaml says so."""
    origin, number = draft.config.labels.origin, draft.numbers[place]
    for item in read_items(files, draft.config.items, folder_is_label=bool(origin and origin.folder)):
        draft.raw[item_id(draft.vault, number, item.name)] = (place, item)
    for name, reason in unfit(files, draft.config.items).items():
        identity = item_id(draft.vault, number, name)
        draft.unfit[identity] = Origin(number, name, None, "")
        draft.rejected[identity] = (COLLECT, Rejected(Content(files[name], {}), reason))
        draft.sayable.add(reason)


def _without_erased(draft: Draft, place: int, source: DeclaredSource, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files without those of items that were erased. Refused where a table or an array still holds one."""
    store, prefix = draft.workspace.store, f"{ITEMS}{draft.name}/"
    erased = {c.removeprefix(prefix): read_item(store.claimed(c) or b"", where=c) for c in store.claims(prefix)}
    if not erased:
        return files
    digests = {digest for found in erased.values() for digest in found.digests}
    there = [(raw.name, raw.content) for raw in read_items(files, draft.config.items)]
    there += [(name, files[name]) for name in unfit(files, draft.config.items)]
    lost = [
        name
        for name, content in there
        if item_id(draft.vault, draft.numbers[place], name) in erased or draft.vault.digest(content) in digests
    ]
    if lost and draft.config.items.files is None:
        raise Refused(
            f"{len(lost)} items that were erased still stand in the source",
            where=f"{source.path or source.url or source.command}: {lost[0]}",
            remedy="take them out of the source, then the command again",
        )
    if lost:
        draft.workspace.tell(f"left out: {len(lost)} files of items that were erased")
    return {name: data for name, data in files.items() if name not in lost}


def number_sources(draft: Draft, declared: Sequence[DeclaredSource | Source]) -> None:
    """Gives each declared source the number that it had in the version before."""
    draft.numbers, draft.every_source = ledgers.numbered(source_names(declared), draft.before.sources)


def source_names(declared: Sequence[DeclaredSource | Source]) -> list[str]:
    """What tells the sources of a dataset apart."""
    return [s.path or s.url or document.canonical(s.command).decode() for s in declared]


def check_mask(draft: Draft) -> None:
    """ConfigError for a masked field that no item has: a misspelt mask would hide nothing."""
    unknown, names = set(draft.config.mask), set()
    for item in [*draft.sets[TRAIN].values(), *draft.sets[TEST].values()]:
        if not unknown:
            return
        found = field_names(item.data, item.fields)
        names |= found
        unknown -= found
    if unknown and names:
        where, there = f"cdl.yaml: data.{draft.name}.mask", ", ".join(sorted(names))
        raise ConfigError(f"no item has a field '{min(unknown)}'", where=where, remedy=f"there are: {there}")


def item_id(vault: Vault, source: int, name: str) -> str:
    """The neutral id of a source's item: a keyed digest of where it came from."""
    return vault.digest(f"{source}\0{name}".encode())[:ID_DIGITS]


def split(draft: Draft) -> None:
    """Gives each item its side, and seals the ledger that remembers it."""
    ids = sorted(draft.raw)
    contents = [draft.raw[i][1].content for i in ids]
    by, code = draft.config.split.by, None
    if by is not None:
        code = closure_of(draft.workspace, draft.files, by, [], by)
        contents = equal_values(
            draft.workspace.jobs, draft.vault, by=by, code=code, environment=draft.environment, contents=contents
        )
    declared = [draft.config.sources()[draft.raw[i][0]].set for i in ids]
    items = [
        Item(id=i, equal=draft.vault.digest(c), declared=d) for i, c, d in zip(ids, contents, declared, strict=True)
    ]
    draft.rows = assign(items, draft.before.rows, key=draft.split_key, share=draft.config.split.test)
    origins = {
        i: Origin(draft.numbers[place], raw.name, raw.label, draft.rows[i].equal)
        for i, (place, raw) in draft.raw.items()
    } | draft.unfit
    aside = [i for i, row in draft.rows.items() if row.side == ASIDE]
    kept = {i: (draft.raw[i][1].content, draft.raw[i][1].fields) for i in aside}
    draft.split = Split(
        test=draft.config.split.test,
        by=by,
        code=code.id if code else None,
        ledger=ledgers.write(draft.vault, draft.before, draft.rows, origins, draft.every_source),
        set_aside={"count": len(aside), "tree": draft.vault.put_tree(kept) if kept else None},
    )


def ingest(draft: Draft) -> None:
    """Puts the training set into an open tree and the test set into a sealed one."""
    for side in (TRAIN, TEST):
        draft.sets[side] = {
            i: Content(draft.raw[i][1].content, draft.raw[i][1].fields)
            for i, row in draft.rows.items()
            if row.side == side
        }
    keep(draft, "ingest", None)
    if draft.fetched:
        keep_raw(draft)


def keep_raw(draft: Draft) -> None:
    """Stores the files that came from each source, sealed. A file that is an item as it stands lies where the item does."""
    beside = [open_tree(draft.workspace.store, draft.stages[0].train)]
    known = [open_tree(draft.vault, draft.stages[0].test)]
    if draft.split is not None and draft.split.set_aside["tree"]:
        known.append(open_tree(draft.vault, draft.split.set_aside["tree"]))
    earlier = dict(zip(_numbers_before(draft), draft.parent.sources, strict=False)) if draft.parent else {}
    for place, (source, files) in enumerate(zip(draft.config.sources(), draft.fetched, strict=True)):
        before = earlier.get(draft.numbers[place])
        follows = open_tree(draft.vault, before.raw) if before is not None else None
        builder = Builder(draft.vault, before=follows, known=known, beside=beside)
        for name, data in sorted(files.items()):
            builder.add(name, data)
        declared = {k: v for k, v in msgspec.to_builtins(source).items() if v is not None and k != "get"}
        draft.sources.append(Source(raw=builder.finish(), **declared))


def _numbers_before(draft: Draft) -> list[int]:
    """The numbers that the sources of the version before had, in its order."""
    declared = draft.parent.sources if draft.parent else []
    return ledgers.numbered(source_names(declared), draft.before.sources)[0]


def work(draft: Draft, name: str, step: Step) -> None:
    """Runs one data step on both sets; what it rejects is set aside with its reason."""
    if step.off:
        draft.skipped.append(name)
        return
    check_program(step, f"cdl.yaml: data.{draft.name}.steps: {name}")
    code = closure_of(draft.workspace, draft.files, step.run, step.files, step)
    items = {**draft.sets[TRAIN], **draft.sets[TEST]}
    outcomes = process(
        draft.workspace.jobs,
        draft.vault,
        step=step,
        code=code,
        environment=draft.environment,
        items=items,
        known=known(draft, name, code),
    )
    for side in (TRAIN, TEST):
        now = {i: outcomes[i] for i in draft.sets[side]}
        draft.sets[side] = {i: o for i, o in now.items() if isinstance(o, Content)}
        reasons = {i: (name, o) for i, o in now.items() if isinstance(o, Rejected)}
        draft.rejected |= reasons
        said = {o.reason for _, o in reasons.values()}
        draft.sayable |= said if side == TRAIN else _literal(draft, code, said)
    keep(draft, name, code)


def check_program(step: Step, where: str) -> None:
    """ConfigError where a step's program is not on this machine; one of the project has a / in its name."""
    if isinstance(step.run, list) and (not step.run or ("/" not in step.run[0] and shutil.which(step.run[0]) is None)):
        named = f"no program '{step.run[0]}' here" if step.run else "the command is empty"
        raise ConfigError(named, where=where, remedy="install it, or correct `run`")


def _literal(draft: Draft, code: Closure, reasons: set[str]) -> set[str]:
    """The reasons that a step's code writes between quotes, and so cannot have from an item."""
    if not reasons:
        return set()
    text = b"\n".join(draft.workspace.git.cat(code.blobs.values()).values()).decode("utf-8", "replace")
    return {r for r in reasons if f'"{r}"' in text or f"'{r}'" in text}


def keep(draft: Draft, name: str, code: Closure | None) -> None:
    """Stores both sets as they are now, and notes the stage."""
    store = draft.workspace.store
    before = next((s for s in draft.parent.steps if s.name == name), None) if draft.parent else None
    last = draft.stages[-1] if draft.stages else None
    draft.stages.append(
        Stage(
            name=name,
            train=_kept(store, draft.sets[TRAIN], [s.train if s else None for s in (before, last)]),
            test=_kept(draft.vault, draft.sets[TEST], [s.test if s else None for s in (before, last)]),
            code=code.id if code else None,
            environment=environment_id(draft.environment) if code else None,
        )
    )


def _kept(box: Box, items: Mapping[str, Content], earlier: Sequence[str | None]) -> str:
    """A tree of items. `earlier` are the one of the version before, which it follows, and the one of the last stage."""
    before, last = (open_tree(box, name) if name else None for name in earlier)
    builder = Builder(box, before=before, known=[last] if last else [])
    for identity, item in sorted(items.items()):
        builder.add(identity, item.data, item.fields)
    return builder.finish()


def known(draft: Draft, name: str, code: Closure) -> dict[str, Content | Rejected]:
    """What the version before found for each item with the same step, by the item's key."""
    parent = None if draft.again else draft.parent
    names = [s.name for s in parent.steps] if parent else []
    if parent is None or name not in names[1:]:
        return {}
    at = names.index(name)
    stage = parent.steps[at]
    if stage.code != code.id or stage.environment != environment_id(draft.environment):
        return {}
    first, second = _both(draft, parent.steps[at - 1]), _both(draft, stage)
    reasons = rejections(draft.vault, parent)
    found: dict[str, Content | Rejected] = {}
    for identity, item in first.items():
        if identity in second:
            found[key(draft.vault, item)] = second[identity]
        elif reasons.get(identity, ("", ""))[0] == name:
            found[key(draft.vault, item)] = Rejected(item, reasons[identity][1])
    return found


def rejections(vault: Vault, dataset: Dataset) -> dict[str, tuple[str, str]]:
    """The step and the reason of each rejected item by id. Needs the key."""
    if not dataset.rejected.get("tree"):
        return {}
    tree = vault.tree(dataset.rejected["tree"])
    kept = {name: tree.meta(place) for place, name in enumerate(tree.names) if not tree.erased(place)}
    return {name: (meta["step"], meta["reason"]) for name, meta in kept.items()}


def environment_id(environment: Environment) -> str:
    """An environment as records name it."""
    return f"{environment.lock[:ID_DIGITS]} {environment.python} {environment.platform}"


def _both(draft: Draft, stage: Stage) -> dict[str, Content]:
    return contents(draft.workspace.store.tree(stage.train)) | contents(draft.vault.tree(stage.test))


def contents(tree: Tree) -> dict[str, Content]:
    """The items of a tree by id, but for those that were erased."""
    places = [place for place in range(len(tree)) if not tree.erased(place)]
    found = zip(places, tree.take(places), strict=True)
    return {tree.names[place]: Content(bytes(data), tree.meta(place)) for place, data in found}


def closure_of(
    workspace: Workspace, files: Mapping[str, str], run: str | list[str], declared: list[str], section: Any
) -> Closure:
    """The closure of a step's code in a tree of files."""
    plain = msgspec.to_builtins(section)
    return closure(files, workspace.git.cat, [run], declared=declared, section=plain)
