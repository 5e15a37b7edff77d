"""One data step over both sets: only what is new or changed is worked, the rest is as the version before found it.

An item is as it was where the tree that the step is given holds the same under its id; what the same step made of it stays where
it lies. An item with another id but the same content and fields has the same outcome too.
"""

import collections
import contextlib
import heapq
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cdl.config.schema import Step
from cdl.data.draft import Draft, closure_of, environment_id
from cdl.data.hand import FAILED
from cdl.data.ingest import note, tree_before
from cdl.data.item import Content, Outcome, Rejected
from cdl.data.process import process
from cdl.data.split import TEST, TRAIN
from cdl.errors import ConfigError
from cdl.jobs.closure import Closure
from cdl.registry.records import Dataset
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.tree import Tree, changes, open_tree


def work(draft: Draft, name: str, step: Step) -> None:
    """Runs one data step on both sets; what it rejects is set aside with its reason."""
    if step.off:
        draft.skipped.append(name)
        return
    check_program(step, f"cdl.yaml: data.{draft.name}.steps: {name}")
    code = closure_of(draft.workspace, draft.code, step.run, step.files, step)
    was = _was(draft, name, code)
    whole, made = step.per == "all", dict[str, str]()
    plans = {side: plan(draft.trees[side], was.get(side), whole=whole) for side in (TRAIN, TEST)}
    for sides in ((TRAIN,), (TEST,)) if whole else ((TRAIN, TEST),):
        outcomes = process(
            draft.workspace.jobs,
            draft.vault,
            name=name,
            step=step,
            code=code,
            environment=draft.environment,
            items=(item for side in sides for item in _to_work(draft.trees[side], plans[side])),
            tell=draft.workspace.tell,
        )
        with contextlib.closing(outcomes):
            made |= {side: _made(draft, name, side, code, plans[side], outcomes) for side in sides}
            collections.deque(outcomes, maxlen=0)  # its workers end
    note(draft, name, made, code)


def _made(
    draft: Draft, name: str, side: str, code: Closure, plan_: "Plan", outcomes: Iterator[tuple[str, Outcome]]
) -> str:
    """The tree of what a step made of a set; what it rejected is noted."""
    builder = Builder(draft.box(side), before=tree_before(draft, name, side), known=[draft.trees[side]])
    rejected = dict(plan_.rejected)
    for identity, outcome in _outcomes(plan_, builder, outcomes):
        if isinstance(outcome, Rejected):
            rejected[identity] = outcome
        else:
            builder.add(identity, outcome.data, outcome.fields)
    draft.rejected |= {identity: (name, outcome) for identity, outcome in rejected.items()}
    said = {outcome.reason for outcome in rejected.values()}
    draft.sayable |= said if side == TRAIN else _literal(draft, code, said)
    return builder.finish()


@dataclass(frozen=True, kw_only=True)
class Was:
    """What a step was given in the version before, what it made of it, and what it rejected; of one set."""

    given: Tree
    made: Tree
    rejected: Mapping[str, Rejected]

    def of(self, hash_: bytes, fields: Mapping[str, object]) -> Outcome | None:
        """The outcome of an item with that content and these fields."""
        place = self.given.find(hash_)
        if place is None or self.given.meta(place) != fields:
            return None
        identity = self.given.names[place]
        at = self.made.places.get(identity)
        if at is None or self.made.erased(at):
            return self.rejected.get(identity)
        return Content(bytes(self.made.view(at)), self.made.meta(at))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do with the items of one set: work them (`ids`, in order), or take what was found before.

    `known` are outcomes of items that an equal one had; of the others the content `made` before stays (places), or the rejection.
    """

    work: tuple[str, ...]
    known: Mapping[str, Outcome]
    made: Tree | None
    stays: tuple[int, ...]
    rejected: Mapping[str, Rejected]

    def kept(self) -> Iterator[tuple[str, Outcome]]:
        """What stays, as contents: for where it cannot stay, since another key sealed it."""
        assert self.made is not None
        found = sorted((self.made.names[place], place) for place in self.stays)
        return ((n, Content(bytes(self.made.view(p)), self.made.meta(p))) for n, p in found)


def plan(now: Tree, was: Was | None, *, whole: bool = False) -> Plan:
    """What is to be worked of a set, and what is known; all or nothing where the set is worked as a `whole`."""
    everything = Plan(work=tuple(sorted(now.names)), known={}, made=None, stays=(), rejected={})
    if was is None:
        return everything
    differ = changes(was.given, now)
    fresh, went = {*differ.added, *differ.changed}, {*differ.removed, *differ.changed}
    stays = tuple(p for p, name in enumerate(was.made.names) if name not in went and not was.made.erased(p))
    rejected = {i: o for i, o in was.rejected.items() if i not in went and i in was.given.places}
    if len(stays) + len(rejected) + len(fresh) != len(now):  # something was erased, or was never known
        fresh |= {*now.names} - {was.made.names[p] for p in stays} - rejected.keys()
    if whole and (fresh or went):
        return everything
    known = {}
    for identity in fresh:
        place = now.places[identity]
        outcome = was.of(now.hash(place), now.meta(place))
        if outcome is not None:
            known[identity] = outcome
    return Plan(work=tuple(sorted(fresh - known.keys())), known=known, made=was.made, stays=stays, rejected=rejected)


def _to_work(now: Tree, plan_: Plan) -> Iterator[tuple[str, Content]]:
    """The items that are to be worked, in order, read as they are asked for."""
    for identity in plan_.work:
        place = now.places[identity]
        yield identity, Content(bytes(now.view(place)), now.meta(place))


def _outcomes(plan_: Plan, builder: Builder, worked: Iterator[tuple[str, Outcome]]) -> Iterator[tuple[str, Outcome]]:
    """What the builder has to be given, in order; what stays is told to it."""
    parts = [((next(worked)) for _ in plan_.work), iter(sorted(plan_.known.items(), key=lambda pair: pair[0]))]
    if builder.follows and plan_.stays:
        builder.stay(list(plan_.stays))
    elif plan_.stays:
        parts.append(plan_.kept())
    return heapq.merge(*parts, key=lambda pair: pair[0])


def _was(draft: Draft, name: str, code: Closure) -> dict[str, Was]:
    """What the version before found with the same step, by set; nothing where it was another one, or something is lost."""
    parent = None if draft.again else draft.parent
    names = [stage.name for stage in parent.steps] if parent else []
    if parent is None or name not in names[1:]:
        return {}
    at = names.index(name)
    stage, given = parent.steps[at], parent.steps[at - 1]
    if stage.code != code.id or stage.environment != environment_id(draft.environment):
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
