"""What a step made of items, kept for the next time: on another branch, by somebody else, after a run that was killed.

    claims/work/<step identity>/<tree>     {"dataset": ..., "set": ..., "outputs": {"outcomes": tree}}

An outcome tree points, for each item that was worked, to the content that the step made of it, where the version has it; `meta`
holds the fields, or why it was rejected. Its name there is what the item is to the step: a digest of step identity, fields and
content, keyed on the sealed side. Of items that were worked together, all members count. A set's outcomes are looked for among
those of the same set alone, and those of a test set among its dataset's.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from cdl import document
from cdl.data.items.item import Content, Outcome, Rejected
from cdl.data.pipeline.draft import ID_DIGITS
from cdl.data.pipeline.split import TRAIN
from cdl.errors import Corrupt, NotFound, Unavailable
from cdl.sharing.parcel import WORK
from cdl.store import reach
from cdl.store.builder import Builder
from cdl.store.store import NAME, SEALED, Store, digest
from cdl.store.table import Box
from cdl.store.tree import Tree, open_tree

KEEP_SECONDS = 20.0  # how often what was found so far is kept
SHARE = 0.05  # the most of a run's time that this takes
LOOKED_AT = 32  # the most outcome trees that are opened for one set
REJECT, FIELDS = "reject", "fields"  # in `meta`


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A claim's content."""

    dataset: str
    set: str
    outputs: dict[str, str]

    @property
    def tree(self) -> str:
        """The name of the outcome tree."""
        return self.outputs["outcomes"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where the outcome of an item lies."""

    tree: Tree
    place: int

    def read(self, item: Callable[[], Content]) -> Outcome:
        """It; a rejected item is asked for."""
        meta = self.tree.meta(self.place)
        if REJECT in meta:
            return Rejected(item(), str(meta[REJECT]))
        return Content(bytes(self.tree.view(self.place)), meta.get(FIELDS, {}))


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """Where the outcomes of one step and set are: `identity` is the step's, `box` where the set lies."""

    store: Store
    box: Box
    dataset: str
    side: str
    identity: str

    def names(self, now: Tree, piece: Sequence[str]) -> list[str]:
        """What some items that are worked together are called in an outcome tree, in their order."""
        keys = [key(self.box, self.identity, now.hash(p), now.meta(p)) for p in map(now.places.__getitem__, piece)]
        if len(keys) == 1:
            return keys
        scope = self.box.digest("\n".join(keys).encode())[:ID_DIGITS]
        return [f"{scope}/{number}/{each}" for number, each in enumerate(keys)]

    def find(self, wanted: Mapping[str, str], pieces: Sequence[Sequence[str]]) -> dict[str, Found]:
        """The outcomes of items (their names by id) of which an outcome tree has the whole piece; first those used last."""
        found: dict[str, Found] = {}
        for name in self._kept() if pieces else ():
            try:
                tree = open_tree(self.box, name)
                has, left = _split(tree, wanted, pieces)
                if not has or not reach.freshen(self.store, [name]):  # what is used stays
                    continue
                for below in reach.reachable(self.store, {tree.lies_in(each.place) for each in has.values()}):
                    self.store.view(below)  # verified
            except (Corrupt, NotFound, Unavailable):
                continue  # one less: what it would have told is worked again
            found, pieces = found | has, left
            if not pieces:
                break
        return found

    def claim(self, tree: str) -> None:
        """Takes the claim that names an outcome tree."""
        kept = Kept(dataset=self.dataset, set=self.side, outputs={"outcomes": tree})
        self.store.claim(self._called(tree), msgspec.json.encode(kept))

    def unclaim(self, tree: str) -> None:
        """Frees it."""
        self.store.unclaim(self._called(tree))

    def _called(self, tree: str) -> str:
        return f"{WORK}{self.identity}/{tree.removeprefix(SEALED)}"

    def _kept(self) -> list[str]:
        """The outcome trees that may tell, those used last first."""
        fits = []
        for claim, kept in claims(self.store, self.identity):
            if kept.set == self.side and (self.side == TRAIN or kept.dataset == self.dataset):
                fits.append((used(self.store, kept.tree), claim, kept.tree))
        return [name for _, _, name in sorted(fits, reverse=True)[:LOOKED_AT]]


def _split(
    tree: Tree, wanted: Mapping[str, str], pieces: Sequence[Sequence[str]]
) -> tuple[dict[str, Found], list[Sequence[str]]]:
    """The outcomes that a tree has, and the pieces of which it has not every one."""
    has: dict[str, Found] = {}
    left: list[Sequence[str]] = []
    for piece in pieces:
        places = [tree.places.get(wanted[identity], -1) for identity in piece]
        if -1 in places or any(tree.erased(place) for place in places):
            left.append(piece)
        else:
            has |= {i: Found(tree=tree, place=p) for i, p in zip(piece, places, strict=True)}
    return has, left


class Notes(msgspec.Struct, kw_only=True):
    """What a run finds, as it finds it: kept now and then, so that a killed run loses little, and whole at its end.

    What was kept in between lies beside the set in the making, since that has no name yet; it goes with the next gc.
    """

    shelf: Shelf
    builder: Builder
    names: Mapping[str, str]  # of the items that are worked, by id
    _found: dict[str, int | str] = msgspec.field(default_factory=dict)  # the row in the builder, or the reason
    _since: list[str] = msgspec.field(default_factory=list)
    _so_far: str | None = None
    _next: float = msgspec.field(default_factory=lambda: time.monotonic() + KEEP_SECONDS)

    def made(self, identity: str) -> None:
        """The builder's last row is what came of an item; nothing happens for one that was not worked."""
        self._note(identity, self.builder.count - 1)

    def rejected(self, identity: str, reason: str) -> None:
        """An item was rejected."""
        self._note(identity, reason)

    def keep(self) -> None:
        """Keeps what was found so far."""
        if not self._since:
            return
        began = time.monotonic()
        before = open_tree(self.shelf.box, self._so_far) if self._so_far else None
        builder = Builder(self.shelf.box, before=before)
        if before is not None:
            builder.stay(list(range(len(before))))
        self._claim(self._laid(builder, self._since))
        self._since = []
        now = time.monotonic()
        self._next = now + max(KEEP_SECONDS, (now - began) / SHARE)

    def finish(self) -> None:
        """Keeps everything, once the set is stored."""
        if self._found:
            self._claim(self._laid(Builder(self.shelf.box), self._found))

    def _note(self, identity: str, what: int | str) -> None:
        name = self.names.get(identity)
        if name is None or name in self._found:
            return  # of equal items the first counts
        self._found[name] = what
        self._since.append(name)
        if time.monotonic() >= self._next:
            self.keep()

    def _laid(self, builder: Builder, names: Iterable[str]) -> str:
        """An outcome tree with some of what was found."""
        for name in names:
            what = self._found[name]
            if isinstance(what, str):
                builder.add(name, b"", {REJECT: what})
            else:
                fields = self.builder.meta(what)
                builder.lay(name, self.builder.lies(what), {FIELDS: fields} if fields else {})
        return builder.finish()

    def _claim(self, tree: str) -> None:
        """Names the tree by a claim, instead of the one so far."""
        self.shelf.claim(tree)
        if self._so_far not in (None, tree):
            self.shelf.unclaim(str(self._so_far))
        self._so_far = tree


def identity_of(code: str, environment: str) -> str:
    """A step by what it computes: the id of its code with its parameters, and the environment."""
    return digest(f"{code}\n{environment}".encode())[:ID_DIGITS]


def key(box: Box, identity: str, hash_: bytes, fields: Mapping[str, object]) -> str:
    """What an item is to a step; in a set that is sealed only the key's holders recognise it."""
    told = document.canonical(dict(fields)) if fields else b"{}"
    return box.digest(identity.encode() + told + hash_)[:ID_DIGITS]


def item_key(name: str) -> str:
    """The key of the item that a name in an outcome tree is of."""
    return name.rpartition("/")[2]


def claims(store: Store, identity: str | None = None) -> Iterator[tuple[str, Kept]]:
    """The claims of one step, or of all, with what they say. One that says something else is passed over."""
    for claim in store.claims(f"{WORK}{identity}/" if identity else WORK):
        try:
            kept = msgspec.json.decode(store.claimed(claim) or b"", type=Kept)
        except msgspec.DecodeError:
            continue
        if NAME.fullmatch(tree := kept.outputs.get("outcomes", "").removeprefix(SEALED)) and claim.endswith(tree):
            yield claim, kept


def used(store: Store, tree: str) -> float:
    """When an outcome tree was made, or used last; 0 where it is not here."""
    try:
        return store.changed(tree)
    except NotFound:
        return 0.0
