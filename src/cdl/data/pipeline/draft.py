"""A version of a dataset in the making: what it follows, and what the stages have made of it so far.

Contents lie in the sources, and in the store once they are ingested; a draft holds names and numbers. Nothing counts until
`versions.make` commits its record.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import msgspec

from cdl import document
from cdl.config.schema import Config, DataConfig, Step
from cdl.config.schema import Source as DeclaredSource
from cdl.data.items.item import Rejected
from cdl.data.items.listed import Listed
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.ledger import ID_BYTES, Ledger
from cdl.data.pipeline.split import CODES, TEST, TRAIN
from cdl.data.sources.fetch import Sift
from cdl.data.sources.files import Files
from cdl.data.sources.looked import Looked
from cdl.data.sources.outside import prefix
from cdl.jobs.closure import Closure, closure
from cdl.jobs.environment import Environment, environment
from cdl.registry.records import Dataset, Lookup, Source, Split, Stage
from cdl.store import chunk
from cdl.store.builder import Builder
from cdl.store.outside import Spot, hash_of
from cdl.store.reach import lacking
from cdl.store.seal import Vault
from cdl.store.table import Box
from cdl.store.tree import EMPTY, Tree
from cdl.workflow.workspace import Workspace

ID_DIGITS = 32  # hex digits of an item's id


class Fresh(msgspec.Struct, kw_only=True):
    """Items that are looked at, a row each: new ones, changed ones, those set aside. Ids and digests are columns.

    `places` are those of their sources in cdl.yaml, `at` is where they stand in what these list. The split adds `sides`, codes
    of split.py, and `order`, the rows in order of their ids.
    """

    ids: Any
    digests: Any
    places: Sequence[int]
    at: Sequence[int]
    sides: Any = None
    order: Any = ()


class Draft(msgspec.Struct, kw_only=True, eq=False, dict=True):
    """`code` is the snapshot's tree that code is taken from (blobs by path); `again` asks no earlier outcomes.
    `lookups` tells what each join joins. `sift` says which files of a source may be taken; None: all.

    `files` are those of each declared source, `numbers` its numbers, `listed` its items (None where it is as it was as a whole),
    `changed` the names of its files that are not as the last run saw them (None: it saw nothing), `left_out` those of erased
    items. `gone` are rows of the ledger before whose items went or are looked at. `trees` are both sets as they are now.
    `cuts` are those of large files, `stays` the hashes of files that stay where they are, by source and name. `rejected` tells
    each rejected item's step, `unfit` the files that are no items. `sayable` are reasons that quote no test item: a training item
    has them too, or they stand in the code.
    """

    workspace: Workspace
    name: str
    config: DataConfig
    vault: Vault
    split_key: bytes
    code: Mapping[str, str]
    environment: Environment
    parent: Dataset | None
    lookups: Mapping[str, Lookup] = msgspec.field(default_factory=dict)
    again: bool = False
    sift: Sift | None = None
    began: int = 0
    looked: Looked | None = None
    files: list[Files] = msgspec.field(default_factory=list)
    sources: list[Source] = msgspec.field(default_factory=list)
    numbers: list[int] = msgspec.field(default_factory=list)
    every_source: list[str] = msgspec.field(default_factory=list)
    listed: list[Listed | None] = msgspec.field(default_factory=list)
    changed: list[set[str] | None] = msgspec.field(default_factory=list)
    left_out: dict[int, set[str]] = msgspec.field(default_factory=dict)
    cuts: dict[tuple[int, str], chunk.Cuts] = msgspec.field(default_factory=dict)
    stays: dict[tuple[int, str], bytes] = msgspec.field(default_factory=dict)
    fresh: Fresh | None = None
    gone: Any = None
    unfit: list[tuple[str, int, str]] = msgspec.field(default_factory=list)
    trees: dict[str, Tree] = msgspec.field(default_factory=dict)
    split: Split | None = None
    stages: list[Stage] = msgspec.field(default_factory=list)
    rejected: dict[str, tuple[str, Rejected]] = msgspec.field(default_factory=dict)
    sayable: set[str] = msgspec.field(default_factory=set)
    skipped: list[str] = msgspec.field(default_factory=list)

    @cached_property
    def before(self) -> Ledger:
        """The ledger of the version before."""
        return ledgers.read(self.vault, self.parent.split.ledger if self.parent else None)

    @cached_property
    def broken(self) -> Set[str]:
        """The trees of the version before of which the store lacks something: nothing is built upon them."""
        wanted = self.parent.objects if self.parent else []
        return {name for name in dict.fromkeys(wanted) if lacking(self.workspace.store, name)}

    @cached_property
    def equal_by(self) -> Closure | None:
        """The code of `split.by`."""
        by = self.config.split.by
        return closure_of(self.workspace, self.code, by, [], by) if by is not None else None

    def box(self, side: str) -> Box:
        """Where a set lies: training items in the open, test items sealed."""
        return self.workspace.store if side == TRAIN else self.vault

    def fresh_of(self, side: str) -> Iterator[tuple[int, str]]:
        """The items that were looked at and are on a side, in order of their ids: row and id."""
        if self.fresh is not None and len(self.fresh.order):
            ids, order = self.fresh.ids.tobytes(), self.fresh.order
            for row in order[self.fresh.sides[order] == CODES[side]].tolist():
                yield row, ids[row * ID_BYTES : (row + 1) * ID_BYTES].hex()

    def content(self, row: int) -> bytes:
        """The content of an item that is looked at."""
        return self._listed(row).content(self.fresh.at[row] if self.fresh else 0)

    def contents(self, rows: Sequence[int]) -> Iterator[bytes]:
        """The contents of items that are looked at, one after the other."""
        assert self.fresh is not None
        named = [(self.fresh.places[row], self._listed(row).names[self.fresh.at[row]]) for row in rows]
        for place, files in enumerate(self.files if self.config.items.files is not None else ()):
            files.expect(name for of, name in named if of == place)
        for row, (place, name) in zip(rows, named, strict=True):
            yield self.content(row)
            if (place, name) in self.stays:
                self.files[place].let_go(name)

    def stay(self, place: int, file: str, data: bytes, cuts: chunk.Cuts | None) -> None:
        """Notes the hash of an item that was just read, where it is a file that stays where it is."""
        if not self.config.sources()[place].copy and self.config.items.files is not None:
            self.stays[place, file] = hash_of(data) if cuts is None else cuts.hash
            self.files[place].let_go(file)

    def add(self, builder: Builder, name: str, place: int, file: str) -> None:
        """Adds a file of a source to a tree."""
        large = self.files[place].large(file)
        if not self.config.sources()[place].copy:
            self._add_outside(builder, name, place, file)
        elif large is None:
            builder.add(name, self.files[place][file])
        else:
            builder.add_large(name, self.cuts.get((place, file)) or large.cuts(), large.read)

    def add_item(self, builder: Builder, name: str, row: int, *, once: bool) -> None:
        """Adds an item that is looked at to a tree. `once`: no other has its content."""
        assert self.fresh is not None
        place = self.fresh.places[row]
        file = self._listed(row).names[self.fresh.at[row]]
        if not self.config.sources()[place].copy and self.config.items.files is not None:
            self._add_outside(builder, name, place, file, self.fields(row))
        elif (place, file) in self.cuts:
            self.add(builder, name, place, file)
        else:
            builder.add(name, self.content(row), self.fields(row), once=once)

    def _add_outside(
        self, builder: Builder, name: str, place: int, file: str, fields: Mapping[str, Any] = EMPTY
    ) -> None:
        """Adds a file that stays where it is."""
        source, files = self.config.sources()[place], self.files[place]
        hash_ = self.stays.get((place, file))
        if hash_ is None:
            large = files.large(file)
            hash_ = large.cuts().hash if large is not None else hash_of(files[file])
        spot = Spot(source.path) if source.path else Spot(prefix(source.bucket or ""), file, files.version(file))
        builder.add_outside(name, hash_, files.size(file), spot, fields)
        files.let_go(file)

    def fields(self, row: int) -> Mapping[str, Any]:
        """Its fields."""
        return self._listed(row).fields(self.fresh.at[row] if self.fresh else 0)

    def _listed(self, row: int) -> Listed:
        found = self.listed[self.fresh.places[row]] if self.fresh else None
        assert found is not None  # or nothing of this source would be looked at
        return found

    def items(self) -> dict[str, int]:
        """How many items each set has now."""
        return {side: len(self.trees[side]) for side in (TRAIN, TEST)}

    def let_go(self) -> None:
        """Lets go of what only collection and splitting look at: of a million items 400 MB."""
        self.before.let_go()
        self.looked = None

    def number_sources(self, declared: Sequence[DeclaredSource | Source]) -> None:
        """Gives each declared source the number that it had in the version before."""
        self.numbers, self.every_source = ledgers.numbered(source_names(declared), self.before.sources)


def begin(
    workspace: Workspace,
    name: str,
    config_file: Config,
    commit: str,
    parent_id: str | None,
    *,
    data_key: str | None = None,
) -> Draft:
    """An empty draft on top of a version, with the code that a commit holds; sealed with the data key in use, or `data_key`."""
    split_key = workspace.keys(name).split_key
    parent = workspace.registry.record(Dataset, parent_id) if parent_id else None
    vault = workspace.vault(name, by="data", data_key=data_key)
    return _draft(workspace, name, config_file, commit, vault, split_key, parent)


def begin_open(workspace: Workspace, name: str, config_file: Config, commit: str, train: Tree) -> Draft:
    """A draft of the open side alone, for somebody without the key; what its jobs seal nobody can open afterwards."""
    vault = Vault(workspace.store, secrets.token_bytes(32), "none", identity=secrets.token_bytes(32))
    draft = _draft(workspace, name, config_file, commit, vault, b"", None)
    draft.trees = {TRAIN: train, TEST: vault.tree(vault.put_tree({}))}
    return draft


def _draft(
    workspace: Workspace,
    name: str,
    config_file: Config,
    commit: str,
    vault: Vault,
    split_key: bytes,
    parent: Dataset | None,
) -> Draft:
    lock_path = config_file.environment.lock
    lock = workspace.git.read(commit, lock_path) if lock_path else None
    return Draft(
        workspace=workspace,
        name=name,
        config=config_file.data[name],
        vault=vault,
        split_key=split_key,
        code=workspace.git.files(commit),
        environment=environment(lock),
        parent=parent,
    )


def source_names(declared: Sequence[DeclaredSource | Source]) -> list[str]:
    """What tells the sources of a dataset apart."""
    return [s.path or s.url or s.bucket or document.canonical(s.command).decode() for s in declared]


def item_id(vault: Vault, source: int, name: str) -> str:
    """The neutral id of a source's item: a keyed digest of where it came from."""
    return vault.digest(f"{source}\0{name}".encode())[:ID_DIGITS]


def environment_id(found: Environment) -> str:
    """An environment as records name it."""
    return f"{found.lock[:ID_DIGITS]} {found.python} {found.platform}"


def closure_of(
    workspace: Workspace, files: Mapping[str, str], run: str | list[str] | None, declared: list[str], section: Any
) -> Closure:
    """The closure of a step's code in a tree of files; a join has none, and is what its section says."""
    plain = section.identity() if isinstance(section, Step) else msgspec.to_builtins(section)
    return closure(files, workspace.git.cat, [run] if run is not None else [], declared=declared, section=plain)
