"""`cdl data erase`: the bytes of an item go everywhere in this clone's store and in the shared one; tombstones stay.

First it is planned and the plan noted (names only), so that a killed erasure goes on as it was begun. Then, object by object:
what stands in its place is stored and sent, the tombstone is taken once in all, the object goes. At last what was computed from
the item and is named by nothing goes too. A version that held the item stays readable but for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import msgspec
from blake3 import blake3

from cdl.config.schema import Items
from cdl.data.items.formats import read_items
from cdl.data.items.item import content_digest
from cdl.data.pipeline import ledger as ledgers
from cdl.errors import CdlError, Conflict, NotFound
from cdl.housekeeping.copies import Places, copied
from cdl.housekeeping.gc import collect
from cdl.housekeeping.outcomes import Inputs, follow, kept_outcomes
from cdl.registry.records import Dataset, Labels, Model, Package
from cdl.sharing.parcel import WORK
from cdl.sharing.place import object_name
from cdl.sharing.signed import content
from cdl.store.erased import ERASED, ITEMS, ErasedItem, Tombstone, encode, read_item
from cdl.store.hold import held
from cdl.store.lost import Replaced, blanked, unlisted
from cdl.store.seal import Vault
from cdl.store.store import SEALED
from cdl.store.table import Box
from cdl.store.tree import Tree, open_tree
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data erase"
ROLES = ("data_engineer",)
FOLDER = "erasing"  # below `.cdl`: plans that were begun
SHORTEST = 8  # digits of an item's id
BEYOND = "git history, backups, copies of the sources and clones that never sync again are out of reach"


class Plan(msgspec.Struct, kw_only=True):
    """What is to go. Names of trees and of what goes in each; open objects; ledgers; who else has the same bytes.

    `copies` are rows that go for fields which a join copied there (their contents stay), `copied` the items by dataset.
    """

    dataset: str
    item: str
    because: str | None
    who: str
    when: str
    open: dict[str, list[str]] = {}
    sealed: dict[str, list[str]] = {}
    copies: dict[str, list[str]] = {}
    copied: dict[str, list[str]] = {}
    objects: list[str] = []
    ledgers: list[str] = []
    digests: list[str] = []
    also: list[str] = []
    files: list[str] = []
    closed: list[str] = []
    versions: list[str] = []
    labels: list[str] = []
    models: list[str] = []
    packages: list[str] = []

    def tombstone(self, instead: str | None) -> Tombstone:
        """Of one object."""
        return Tombstone(
            instead=instead, items=[f"{self.dataset}/{self.item}"], who=self.who, when=self.when, because=self.because
        )


class _Trees(msgspec.Struct, frozen=True, kw_only=True):
    """The trees of some dataset versions, each once, with the vault that opens the sealed ones."""

    open: dict[str, None]
    sealed: dict[str, Vault]
    raw: dict[str, Vault]


def plan(workspace: Workspace, dataset: str, what: str, *, because: str | None = None) -> Plan:
    """What erasing an item (by the beginning of its id, or its name in the source) comes to; one that was begun is gone on with.

    Refused for another role, NotFound and Conflict for the name, Unavailable without the dataset's key.
    """
    require_role(workspace, ROLES, COMMAND)
    versions = {i: d for i, d in workspace.registry.all(Dataset) if d.name == dataset}
    item = _item(workspace, dataset, versions, what)
    begun = _place(workspace, dataset, item)
    if begun.exists():
        return msgspec.json.decode(begun.read_bytes(), type=Plan)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = Plan(dataset=dataset, item=item, because=because, who=workspace.person.email, when=now)
    every = {i: d for i, d in workspace.registry.all(Dataset)}
    made.closed = sorted({d.name for d in every.values() if not workspace.holds_key(d.name)})
    trees = _trees(workspace, [d for d in every.values() if d.name not in made.closed])
    contents, inputs = _contents(workspace, dataset, versions, item, trees)
    outcomes = kept_outcomes(workspace, partial(_vault, workspace))
    follow(outcomes, contents, inputs)
    vault = _vault(workspace, dataset, next(iter(versions.values())).data_key)
    made.digests = sorted(content_digest(vault, c) for c in contents.values())
    places = Places(workspace=workspace, versions=every, vault=partial(_vault, workspace))
    found = copied(places, dataset, item, outcomes)
    made.copies, made.copied = ({k: sorted(v) for k, v in each.items()} for each in (found.trees, found.items))
    contents |= found.contents
    also: set[str] = set()
    _plan_open(workspace, every.values(), contents, made, also)
    _plan_sealed(trees, contents, made, also)
    for each in outcomes:
        if names := each.lost(contents, inputs):
            (made.open if each.box is workspace.store else made.sealed)[each.kept.tree] = names
    _plan_ledgers(workspace, versions, made)
    made.also = sorted(also - {item}.union(*found.items.values()))
    _plan_affected(workspace, every, made)
    before = workspace.store.claimed(f"{ITEMS}{dataset}/{item}")
    if before is not None and not (made.open or made.sealed or made.objects or made.copies):
        was = read_item(before, where=item)
        raise Conflict(
            f"item {item[:12]} was erased at {was.when} by {was.who}" + (f": {was.because}" if was.because else ""),
            where=dataset,
            remedy="nothing of it is left here",
        )
    return made


def erase(workspace: Workspace, made: Plan) -> int:
    """Does it; how many objects went. Conflict while something runs in this clone, or where another clone erases the same."""
    running = held(workspace.folder)
    if running:
        raise Conflict(
            f"process {', '.join(running)} works here and may hold what it read",
            where=str(workspace.root),
            remedy="the command again when it ended",
        )
    place = _place(workspace, made.dataset, made.item)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(msgspec.json.encode(made))
    kept = ErasedItem(digests=made.digests, versions=made.versions, who=made.who, when=made.when, because=made.because)
    _take(workspace, made, f"{ITEMS}{made.dataset}/{made.item}", kept)
    count = 0
    for old, instead in _replacements(workspace, made):
        count += _entomb(workspace, made, old, instead)
    for name in made.objects:
        count += _entomb(workspace, made, name, None)
    for claim in workspace.store.claims(WORK):  # a run that ended in no version may have met the item too
        workspace.store.unclaim(claim)
    done = collect(workspace.clone, remove=True, older_than=0, incomplete=True)
    workspace.journal.append(
        "item.erased", who=workspace.person.email, dataset=made.dataset, item=made.item, objects=count
    )
    place.unlink()
    return count + sum(amount.count for amount in done.gone.values())


def _item(workspace: Workspace, dataset: str, versions: dict[str, Dataset], what: str) -> str:
    """The whole id of an item of any version, by the beginning of one or by its name in the source."""
    found: set[str] = set()
    for record in versions.values():
        vault = _vault(workspace, dataset, record.data_key)
        origins = ledgers.read(vault, record.split.ledger).origins
        found.update(i for i, o in origins.items() if what and what == o.name)
        found.update(i for i in origins if len(what) >= SHORTEST and i.startswith(what))
    if not found:
        remedy = f"an id of at least {SHORTEST} digits, or the name that it has in the source"
        if erased := len(workspace.store.claims(f"{ITEMS}{dataset}/")):
            remedy += f"; it has had items erased ({erased}), and their names with them"
        raise NotFound(f"no item {what} in any version of {dataset}", remedy=remedy)
    if len(found) > 1:
        raise Conflict(f"{what} is short for {len(found)} items", remedy="type more digits: " + ", ".join(found))
    return found.pop()


def _trees(workspace: Workspace, records: Iterable[Dataset]) -> _Trees:
    found = _Trees(open={}, sealed={}, raw={})
    for record in records:
        vault = _vault(workspace, record.name, record.data_key)
        aside = [record.split.set_aside.get("tree"), record.rejected.get("tree")]
        found.open.update(dict.fromkeys(stage.train for stage in record.steps))
        found.sealed.update(dict.fromkeys([*(s.test for s in record.steps), *(t for t in aside if t)], vault))
        found.raw.update(dict.fromkeys((s.raw for s in record.sources), vault))
    return found


def _contents(
    workspace: Workspace, dataset: str, versions: dict[str, Dataset], item: str, trees: _Trees
) -> tuple[dict[bytes, bytes], Inputs]:
    """The bytes that the item has at any stage of any version, by their hash; and with its fields, as steps are given it."""
    store, found, inputs = workspace.store, dict[bytes, bytes](), Inputs()
    for record in versions.values():
        aside = [record.split.set_aside.get("tree"), record.rejected.get("tree")]
        sealed = [trees.sealed[name].tree(name) for name in [*(s.test for s in record.steps), *aside] if name]
        for tree in [*(store.tree(stage.train) for stage in record.steps), *sealed]:
            place = tree.places.get(item)
            if place is not None and not tree.erased(place):
                found[tree.hash(place)] = bytes(tree.view(place))
                inputs.add(tree.hash(place), tree.meta(place))
    return found, inputs


def _plan_open(
    workspace: Workspace, records: Iterable[Dataset], contents: Mapping[bytes, bytes], made: Plan, also: set[str]
) -> None:
    """Open trees that name the item or the same bytes."""
    gone: set[bytes] = set()
    for record in records:
        for tree in dict.fromkeys(stage.train for stage in record.steps):
            if not workspace.store.has(workspace.store.standing(tree)):
                continue
            found = workspace.store.tree(tree)
            lost = {
                name
                for name, place in _left(found).items()
                if (record.name == made.dataset and name == made.item) or found.hash(place) in contents
            }
            gone |= {found.hash(found.places[name]) for name in lost}
            if lost:
                made.open[tree] = sorted(lost)
                also.update(lost)
    there = {h for h in contents if workspace.store.has(h.hex())}
    held = (gone | there) - {blake3(b"").digest()}  # no byte of anybody's
    made.objects = sorted(h.hex() for h in held)  # also those that lie in packs: nobody stores them again


def _plan_sealed(trees: _Trees, contents: Mapping[bytes, bytes], made: Plan, also: set[str]) -> None:
    """Sealed trees with the item or the same bytes, and raw files that hold it."""
    for name, vault in trees.sealed.items():
        tree = vault.tree(name)
        lost = {n for n, place in _left(tree).items() if n == made.item or tree.hash(place) in contents}
        if lost:
            made.sealed[name] = sorted(lost)
            also.update(lost)
    for name, vault in trees.raw.items():
        tree = vault.tree(name)
        lost = {n for n, place in _left(tree).items() if tree.hash(place) in contents}
        made.files = sorted({*made.files, *lost})
        if lost:
            made.sealed[name] = sorted(lost)


def _left(tree: Tree) -> dict[str, int]:
    """The places of what was not erased, by name."""
    return {name: place for name, place in tree.places.items() if not tree.erased(place)}


def _plan_ledgers(workspace: Workspace, versions: dict[str, Dataset], made: Plan) -> None:
    """Ledgers that say where the item came from, and the raw files in which it lay under that name."""
    items = workspace.config.data[made.dataset].items if made.dataset in workspace.config.data else None
    for record in versions.values():
        vault = _vault(workspace, made.dataset, record.data_key)
        origin = ledgers.read(vault, record.split.ledger).origins.get(made.item)
        if origin is None:
            continue
        if record.split.ledger not in made.ledgers:
            made.ledgers.append(record.split.ledger)
        for raw in dict.fromkeys(s.raw for s in record.sources):
            tree = vault.tree(raw)
            lost = set(made.sealed.get(raw, []))
            for name in _left(tree):
                if origin.name and _holds(tree, name, items, origin.name):
                    lost.add(name)
            if lost:
                made.sealed[raw] = sorted(lost)
                made.files = sorted({*made.files, *lost})


def _holds(tree: Tree, name: str, items: Items | None, wanted: str) -> bool:
    """Whether a raw file is an item, the array that holds it, or a table with a row of that name."""
    if name in (wanted, wanted.partition("#")[0]):
        return True
    if items is None or items.rows is None:
        return False
    try:
        return wanted in read_items({name: tree.get(name)}, items).names
    except CdlError:
        return False  # no table


def _plan_affected(workspace: Workspace, every: dict[str, Dataset], made: Plan) -> None:
    """Versions that hold the item or its bytes, snapshots of them, models that learned from these, packages of the models."""
    gone = {*made.open, *made.sealed, *made.copies}
    made.versions = sorted(i for i, d in every.items() if gone & {*(s.train for s in d.steps), *_sealed_of(d)})
    labels = workspace.registry.all(Labels)
    made.labels = sorted(i for i, record in labels if record.dataset in made.versions)
    models = workspace.registry.all(Model)
    made.models = sorted(i for i, m in models if m.data["dataset"] in made.versions)
    packages = workspace.registry.all(Package)
    made.packages = sorted(i for i, p in packages if p.model in made.models)


def _replacements(workspace: Workspace, made: Plan) -> Iterator[Replaced]:
    """Objects that held more than the item, each with what stands in its place, one after the other."""
    store = workspace.store
    records = {name: d for _, d in workspace.registry.all(Dataset) for name in _sealed_of(d)}
    vaults: dict[str, Box] = {
        tree: _vault(workspace, d.name, d.data_key)
        for tree, d in records.items()
        if tree in made.sealed or tree in made.copies
    }
    vaults |= {o.kept.tree: o.box for o in kept_outcomes(workspace, partial(_vault, workspace))}
    boxes: list[tuple[Box, str, list[str]]] = [(store, tree, lost) for tree, lost in made.open.items()]
    boxes += [(vaults[tree], tree, lost) for tree, lost in made.sealed.items() if tree in vaults]
    copies = [(vaults.get(tree, store), tree, lost) for tree, lost in made.copies.items()]
    for box, tree, lost in [*boxes, *copies]:
        yield from unlisted(store, box, open_tree(box, tree), set(lost))
    kept = cache(lambda: _kept_chunks(workspace, made))  # every version is looked at, where a chunk is to go
    for box, tree, lost in boxes:  # trees may share packs: each is read as the one before left it
        yield from blanked(store, box, open_tree(box, tree), set(lost), kept)
    for name in made.ledgers:
        record = next(d for _, d in workspace.registry.all(Dataset) if d.split.ledger == name)
        vault = _vault(workspace, record.name, record.data_key)
        for page, instead in ledgers.without(vault, name, made.item).items():
            yield store.standing(page), instead


def _kept_chunks(workspace: Workspace, made: Plan) -> set[str]:
    """Chunks, bare, that large contents which stay lie in, in any version that can be opened here."""
    found: set[str] = set()
    for _, record in workspace.registry.all(Dataset):
        for tree in dict.fromkeys(stage.train for stage in record.steps):
            if workspace.store.has(workspace.store.standing(tree)):
                found |= workspace.store.tree(tree).chunks({*made.open.get(tree, [])})
        if record.name not in made.closed:
            vault = _vault(workspace, record.name, record.data_key)
            for tree in dict.fromkeys(_sealed_of(record)):
                found |= open_tree(vault, tree).chunks({*made.sealed.get(tree, [])})
    return {name.removeprefix(SEALED) for name in found}


def _sealed_of(record: Dataset) -> list[str]:
    aside = [record.split.set_aside.get("tree"), record.rejected.get("tree")]
    return [*(s.test for s in record.steps), *(s.raw for s in record.sources), *(t for t in aside if t)]


def _entomb(workspace: Workspace, made: Plan, old: str, instead: str | None) -> int:
    """Sends what stands in an object's place, takes the tombstone, and removes the object here and in the shared place."""
    old, instead = old.removeprefix(SEALED), instead.removeprefix(SEALED) if instead else None
    if old == instead:
        return 0  # done before
    remote = workspace.shared.remote
    if remote is not None and instead is not None:
        remote.put(object_name(instead), workspace.store.view(instead))
    _take(workspace, made, ERASED + old, made.tombstone(instead))
    workspace.store.remove(old)
    if remote is not None:
        remote.delete(object_name(old))
    return 1


def _take(workspace: Workspace, made: Plan, name: str, found: Tombstone | ErasedItem) -> None:
    """Signs a tombstone and takes it once in all. Conflict where another clone put another one."""
    signature = workspace.signing(made.dataset).sign(content(name, msgspec.to_builtins(found)))
    payload = encode(msgspec.structs.replace(found, signature=signature))
    remote = workspace.shared.remote
    free = remote is None or remote.create(f"claims/{name}", payload) or remote.get(f"claims/{name}") == payload
    if not free or not (workspace.store.claim(name, payload) or workspace.store.claimed(name) == payload):
        raise Conflict(
            "another clone erases from the same object", where=name[:40], remedy="cdl sync, then the command again"
        )


def _vault(workspace: Workspace, dataset: str, data_key: str) -> Vault:
    """Opens the sealed side of a dataset, and seals with the key that a version names; each opening is an event."""
    return workspace.vault(dataset, by="erase", data_key=data_key)


def _place(workspace: Workspace, dataset: str, item: str) -> Path:
    return workspace.folder / FOLDER / f"{dataset}-{item}.json"
