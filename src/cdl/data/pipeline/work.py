"""One data step over both sets: only what is new or changed is worked, the rest is as the version before found it.

An item is as it was where the tree that the step is given holds the same under its id; what the same step made of it stays where
it lies. An item with another id but the same content and fields has the same outcome too, and one that any run of the same step
met, on another branch or elsewhere (outcomes.py).
"""

import collections
import contextlib
import heapq
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from cdl.config.schema import Step
from cdl.data.items.item import Content, Outcome, Rejected
from cdl.data.pipeline.draft import Draft, closure_of, environment_id
from cdl.data.pipeline.ingest import note, tree_before
from cdl.data.pipeline.outcomes import Notes, Shelf, identity_of
from cdl.data.pipeline.plan import Of, Plan, Was, by_field, items, plan, together
from cdl.data.pipeline.progress import counted
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.data.workers import logs
from cdl.data.workers.crew import Crew
from cdl.data.workers.hand import FAILED
from cdl.errors import ConfigError, JobFailed
from cdl.jobs.closure import Closure
from cdl.registry.records import Dataset, Lookup
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.tree import Tree, open_tree

Computed = tuple[str | None, str | None, Lookup | UnsetType]  # what a stage came of: code, environment, what it joined


def work(draft: Draft, name: str, step: Step) -> None:
    """Runs one data step on both sets; what it rejects is set aside with its reason."""
    where = f"cdl.yaml: data.{draft.name}.steps: {name}"
    check_program(step, where)
    code = closure_of(draft.workspace, draft.code, step.run, step.files, step)
    was, of, made = (
        was_of(draft, name, (code.id, environment_id(draft.environment), UNSET)),
        _of(step, where),
        dict[str, str](),
    )
    plans = {side: plan(draft.trees[side], was.get(side), of) for side in (TRAIN, TEST)}
    if not draft.again:
        plans = {side: _looked_up(plans[side], _shelf(draft, side, code), draft.trees[side]) for side in plans}
    for sides in ((TRAIN,), (TEST,)) if step.per == "all" else ((TRAIN, TEST),):
        crew = Crew(
            draft.workspace.jobs,
            draft.vault,
            name=name,
            step=step,
            code=code,
            environment=draft.environment,
            sizes=(size for side in sides for size in plans[side].sizes()),
            tell=draft.workspace.tell,
            logged=partial(logs.note, draft.workspace.folder, draft.name),
        )
        outcomes = crew.outcomes(found for side in sides for found in items(draft.trees[side], plans[side].work))
        with contextlib.closing(outcomes):
            told = counted(outcomes, sum(len(plans[side].work) for side in sides), name, draft.workspace.tell)
            made |= {side: _made(draft, name, side, code, plans[side], told) for side in sides}
            collections.deque(outcomes, maxlen=0)  # its workers end
    note(draft, name, made, code)


def _made(
    draft: Draft, name: str, side: str, code: Closure, plan_: Plan, outcomes: Iterator[tuple[str, Outcome]]
) -> str:
    """The tree of what a step made of a set; what it rejected is noted."""
    before = None if plan_.moved else tree_before(draft, name, side)
    builder = Builder(draft.box(side), before=before, known=[draft.trees[side]], outside=True)
    rejected = dict(plan_.rejected)
    notes = Notes(shelf=_shelf(draft, side, code), builder=builder, names=plan_.names)
    try:
        for identity, outcome in _outcomes(plan_, draft.trees[side], builder, outcomes):
            if isinstance(outcome, Rejected):
                rejected[identity] = outcome
                if not outcome.reason.startswith(FAILED):
                    notes.rejected(identity, outcome.reason)
            else:
                builder.add(identity, outcome.data, outcome.fields)
                notes.made(identity)
    except (JobFailed, KeyboardInterrupt):
        notes.keep()
        raise
    draft.rejected |= {identity: (name, outcome) for identity, outcome in rejected.items()}
    said = {outcome.reason for outcome in rejected.values()}
    draft.sayable |= said if side == TRAIN else _literal(draft, code, said)
    made = builder.finish()
    notes.finish()
    return made


def _of(step: Step, where: str) -> Of | None:
    """What items are worked together by."""
    if step.per == "item":
        return None
    return together if step.group is None else by_field(step.group, f"{where}.group")


def _shelf(draft: Draft, side: str, code: Closure) -> Shelf:
    """Where a step's outcomes are kept for the next time."""
    identity = identity_of(code.id, environment_id(draft.environment))
    return Shelf(store=draft.workspace.store, box=draft.box(side), dataset=draft.name, side=side, identity=identity)


def _looked_up(plan_: Plan, shelf: Shelf, now: Tree) -> Plan:
    """The plan without the work that was done before, elsewhere."""
    pieces = [(identity,) for identity in plan_.work] if plan_.pieces is None else plan_.pieces
    names = {i: n for piece in pieces for i, n in zip(piece, shelf.names(now, piece), strict=True)}
    found = shelf.find(names, pieces)
    left = {i: n for i, n in names.items() if i not in found}
    return replace(plan_, work=tuple(left), names=left, known={**plan_.known, **found})


def _outcomes(
    plan_: Plan, now: Tree, builder: Builder, worked: Iterator[tuple[str, Outcome]]
) -> Iterator[tuple[str, Outcome]]:
    """What the builder has to be given, in order; what stays is told to it."""
    found = ((i, plan_.told(now, i)) if i in plan_.known else next(worked) for i in plan_.order())
    if not plan_.stays:
        return found
    if not builder.follows:
        return heapq.merge(found, plan_.kept(), key=itemgetter(0))
    builder.stay(list(plan_.stays))
    return found


def was_of(draft: Draft, name: str, what: Computed) -> dict[str, Was]:
    """What the version before found with the same step, by set; nothing where it was another one, or something is lost."""
    parent = None if draft.again else draft.parent
    names = [stage.name for stage in parent.steps] if parent else []
    if parent is None or name not in names[1:]:
        return {}
    at = names.index(name)
    stage, given = parent.steps[at], parent.steps[at - 1]
    if (stage.code, stage.environment, stage.joined) != what:
        return {}
    if draft.broken & {given.train, given.test, stage.train, stage.test, parent.rejected.get("tree")}:
        return {}
    rejected = _rejected_by(draft.vault, parent, name)
    return {
        side: Was(
            given=open_tree(draft.box(side), getattr(given, side)),
            made=open_tree(draft.box(side), getattr(stage, side)),
            rejected=rejected,
        )
        for side in (TRAIN, TEST)
    }


def rejections(vault: Vault, dataset: Dataset) -> dict[str, tuple[str, str]]:
    """The step and the reason of each rejected item by id. Needs the key."""
    return {tree.names[p]: (str(meta["step"]), str(meta["reason"])) for tree, p, meta in _rejected(vault, dataset)}


def failed(vault: Vault, dataset: Dataset) -> bool:
    """Whether an error set an item of a version aside. Needs the key."""
    return any(reason.startswith(FAILED) for _, reason in rejections(vault, dataset).values())


def _rejected_by(vault: Vault, dataset: Dataset, step: str) -> dict[str, Rejected]:
    """The items that a step rejected, by id; but for those that an error set aside: they are tried again."""
    return {
        tree.names[place]: Rejected(Content(bytes(tree.view(place)), meta.get("fields", {})), str(meta["reason"]))
        for tree, place, meta in _rejected(vault, dataset)
        if meta["step"] == step and not str(meta["reason"]).startswith(FAILED)
    }


def _rejected(vault: Vault, dataset: Dataset) -> Iterator[tuple[Tree, int, Mapping[str, Any]]]:
    """The tree of rejected items, and each place in it with what is known there."""
    if dataset.rejected.get("tree"):
        tree = vault.tree(dataset.rejected["tree"])
        yield from ((tree, place, tree.meta(place)) for place in range(len(tree)) if not tree.erased(place))


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
