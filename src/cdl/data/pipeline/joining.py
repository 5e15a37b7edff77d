"""A step that joins another dataset: each item gets, beside its own fields, those of the one item there with the same key.

    - patient: {join: patients, key: patient, matches: id}

    scan 3, {patient: p7}    with p7 of patients, {"age": 61}    is    scan 3, {patient: p7, age: 61}

The content stays where it lies. What is joined is one version of the other dataset, which the record names; where that is the one
that the version before joined, only items that changed are looked up again. Training items see the other's training set alone,
or what is sealed would stand in the open; test items see both sets.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET

from cdl import document
from cdl.config.schema import Step
from cdl.data.items.item import Rejected
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.draft import Draft, closure_of, environment_id
from cdl.data.pipeline.ingest import note, tree_before
from cdl.data.pipeline.plan import Plan, columns, item, plan
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.data.pipeline.work import Computed, was_of
from cdl.errors import ConfigError
from cdl.registry.records import Dataset, Lookup
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.tree import Tree

Fields = Mapping[str, Any]


def computed(draft: Draft, name: str, step: Step) -> Computed:
    """What a step computes, as its stage in the record says it."""
    code = closure_of(draft.workspace, draft.code, step.run, step.files, step).id
    return (code, environment_id(draft.environment), UNSET) if step.join is None else (code, None, draft.lookups[name])


def join(draft: Draft, name: str, step: Step) -> None:
    """Joins another dataset to both sets.

    ConfigError where an item has no such field or a field already, and where two items of the other dataset have one key.
    """
    code, lookup = closure_of(draft.workspace, draft.code, None, [], step), draft.lookups[name]
    was, other = was_of(draft, name, (code.id, None, lookup)), _Other(draft, name, step, lookup)
    made = {side: _made(draft, name, side, plan(draft.trees[side], was.get(side)), other) for side in (TRAIN, TEST)}
    note(draft, name, made, code, joined=lookup)


def keys(tree: Tree, field: str | None, names: Mapping[str, str], where: str) -> Iterator[tuple[int, str | None]]:
    """Each place of a tree with its key as text, None where it has none: of a field, or its name in the source (by id).

    ConfigError where an item has no such field.
    """
    for place in range(len(tree)):
        if not tree.erased(place):
            yield place, key_of(tree, place, field, names, where)


def key_of(tree: Tree, place: int, field: str | None, names: Mapping[str, str], where: str) -> str | None:
    """The key of one item."""
    if field is None:
        return names.get(tree.names[place]) or None
    fields = tree.meta(place)
    if field not in fields:
        fields = columns(tree.view(place))
    if field not in fields:
        remedy = "a step before this one may give it to every item"
        raise ConfigError(f"an item has no field '{field}'", where=where, remedy=remedy)
    found = fields[field]
    if found is None or found == "":
        return None
    return found if isinstance(found, str) else document.canonical(found).decode()  # 17 is "17": all of CSV is text


class _Other(msgspec.Struct, eq=False, dict=True):
    """The version that is joined, opened when it is asked for."""

    draft: Draft
    name: str
    step: Step
    lookup: Lookup

    @property
    def where(self) -> str:
        """The step in cdl.yaml."""
        return f"cdl.yaml: data.{self.draft.name}.steps: {self.name}"

    @property
    def missing(self) -> str:
        """Why an item is set aside. It does not say whether the other's test set, which training items never see, has the key."""
        return f"no item of {self.step.join} has its key"

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What this dataset's items are called in their source, where that is the key."""
        split = self.draft.split
        if self.lookup.key is not None or split is None:
            return {}
        return ledgers.read(self.draft.vault, split.ledger).names

    def fields(self, side: str, key: str | None) -> Fields | None:
        """What an item on a side with a key gets; None where nothing has it."""
        train, test = self._places
        if key in train:
            return self._fields(self._trees[TRAIN], train[key])
        return self._fields(self._trees[TEST], test[key]) if side == TEST and key in test else None

    @cached_property
    def _vault(self) -> Vault:
        return self.draft.workspace.vault(str(self.step.join), by="data")

    @cached_property
    def _record(self) -> Dataset:
        return self.draft.workspace.registry.record(Dataset, self.lookup.version)

    @cached_property
    def _trees(self) -> dict[str, Tree]:
        return {TRAIN: self.draft.workspace.store.tree(self._record.train), TEST: self._vault.tree(self._record.test)}

    @cached_property
    def _places(self) -> tuple[dict[str | None, int], dict[str | None, int]]:
        """Where the item with each key is, in the training and in the test set. ConfigError where two have the same."""
        ledger = ledgers.read(self._vault, self._record.split.ledger if self.lookup.matches is None else None)
        found: dict[str, dict[str | None, int]] = {TRAIN: {}, TEST: {}}
        for side, there in found.items():
            for place, key in keys(self._trees[side], self.lookup.matches, ledger.names, f"{self.where}.matches"):
                if key is not None and (key in there or key in found[TRAIN]):
                    said = f"the key '{key}'" if side == TRAIN else "the same key, one of them in its sealed test set"
                    raise ConfigError(
                        f"two items of {self.step.join} have {said}",
                        where=f"{self.where}.matches",
                        remedy=f"each key once: mend {self.step.join}, or join by another field",
                    )
                there[key] = place
        for there in found.values():
            there.pop(None, None)
        return found[TRAIN], found[TEST]

    def _fields(self, tree: Tree, place: int) -> Fields:
        apart = {self.lookup.matches, *self.lookup.without}
        fields = {**columns(tree.view(place)), **tree.meta(place)}
        return {self.step.prefix + name: value for name, value in fields.items() if name not in apart}

    def joined(self, now: Tree, place: int, fields: Fields) -> Fields:
        """The fields of an item with those that it gets. ConfigError for a name that both have."""
        own = now.meta(place)
        both = {*fields} & {*own, *columns(now.view(place))}
        if both:
            raise ConfigError(
                f"an item has a field '{min(both)}', and what it joins too",
                where=self.where,
                remedy=f"prefix: {self.step.join}_, which the names of the joined fields then begin with",
            )
        return {**own, **fields}


def _made(draft: Draft, name: str, side: str, plan_: Plan, other: _Other) -> str:
    """The tree of a set with what it joined; what is set aside is noted."""
    now, before = draft.trees[side], None if plan_.moved else tree_before(draft, name, side)
    builder = Builder(draft.box(side), before=before, known=[now], outside=True)
    again, rejected = {*plan_.work, *plan_.known}, dict(plan_.rejected)
    if not builder.follows:
        again, rejected = {*now.names}, {}
    elif plan_.stays:
        builder.stay(list(plan_.stays))
    for identity in sorted(again):
        place = now.places[identity]
        key = key_of(now, place, other.lookup.key, other.names, f"{other.where}.key")
        fields = other.fields(side, key)
        if fields is not None:
            builder.keep(identity, now, place, other.joined(now, place, fields))
        elif other.step.missing == "keep":
            builder.keep(identity, now, place, now.meta(place))
        else:
            rejected[identity] = Rejected(item(now, identity), other.missing)
    draft.rejected |= {identity: (name, outcome) for identity, outcome in rejected.items()}
    draft.sayable.add(other.missing)
    return builder.finish()
