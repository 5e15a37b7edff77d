"""What is to be worked of a set by a step, and what is known: by what the version before was given and what came of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

import msgspec

from cdl import document
from cdl.data.items.item import Content, Outcome, Rejected
from cdl.data.pipeline.outcomes import Found
from cdl.errors import ConfigError
from cdl.store.tree import Tree, changes

Of = Callable[[Tree, int], bytes]  # of a place in a tree, what it is worked together with others by
Pieces = tuple[tuple[str, ...], ...]


class Was(msgspec.Struct, frozen=True, kw_only=True):
    """What a step was given in the version before, what it made of it, and what it rejected; of one set."""

    given: Tree
    made: Tree
    rejected: Mapping[str, Rejected]

    def of(self, hash_: bytes, fields: Mapping[str, object]) -> "Known | None":
        """The outcome of an item with that content and these fields."""
        place = self.given.find(hash_)
        if place is None or self.given.meta(place) != fields:
            return None
        identity = self.given.names[place]
        at = self.made.places.get(identity)
        if at is None or self.made.erased(at):
            return self.rejected.get(identity)
        return at


Known = int | Rejected | Found  # an outcome: a place in what the step made before, or in an outcome tree


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the items of one set: work them (`work`, ids in that order), or take what was found before.

    `known` are outcomes that an equal item had; of the others the content `made` before stays (places), or the rejection.
    `pieces` are items that are worked together or known together; None where each is alone. `names` are those of what is worked
    among outcomes that are kept; where there are none, none are. `moved`: some contents that the step is given lay in the store
    and do not now, or the other way round (`copy: false`).
    """

    work: tuple[str, ...]
    pieces: Pieces | None = None
    known: Mapping[str, Known] = msgspec.field(default_factory=dict)
    names: Mapping[str, str] = msgspec.field(default_factory=dict)
    made: Tree | None = None
    stays: tuple[int, ...] = ()
    rejected: Mapping[str, Rejected] = msgspec.field(default_factory=dict)
    moved: bool = False

    def order(self) -> Iterable[str]:
        """Every item that is worked or known, in the order in which the set gets them."""
        return sorted([*self.work, *self.known]) if self.pieces is None else chain.from_iterable(self.pieces)

    def sizes(self) -> Iterator[int]:
        """How many items each piece of work has, where they are worked together."""
        return (len(piece) for piece in self.pieces or () if piece[0] not in self.known)

    def told(self, now: Tree, identity: str) -> Outcome:
        """What is known of an item."""
        known = self.known[identity]
        if isinstance(known, int):
            assert self.made is not None
            return Content(bytes(self.made.view(known)), self.made.meta(known))
        return known.read(partial(item, now, identity)) if isinstance(known, Found) else known

    def kept(self) -> Iterator[tuple[str, Outcome]]:
        """What stays, as contents: for where it cannot stay, since another key sealed it."""
        assert self.made is not None
        found = sorted((self.made.names[place], place) for place in self.stays)
        return ((n, Content(bytes(self.made.view(p)), self.made.meta(p))) for n, p in found)


def items(now: Tree, identities: Sequence[str]) -> Iterator[tuple[str, Content]]:
    """Items that a step is given, one after the other."""
    places = [now.places[identity] for identity in identities]
    for identity, place, data in zip(identities, places, now.each(places), strict=True):
        yield identity, Content(bytes(data), now.meta(place))


def item(now: Tree, identity: str) -> Content:
    """An item that a step is given."""
    place = now.places[identity]
    return Content(bytes(now.view(place)), now.meta(place))


def plan(now: Tree, was: Was | None, of: Of | None = None) -> Plan:
    """What is to be worked of a set, and what is known. Of items that `of` puts together all are worked where any is."""
    if was is None or (of is not None and any(map(was.given.erased, range(len(was.given))))):
        # with what an erased item was worked together nobody knows
        pieces = None if of is None else _pieces(now, of)
        return Plan(work=tuple(sorted(now.names) if pieces is None else chain.from_iterable(pieces)), pieces=pieces)
    differ = changes(was.given, now)
    fresh, went = {*differ.added, *differ.changed}, {*differ.removed, *differ.changed}
    stays = tuple(p for p, name in enumerate(was.made.names) if name not in went and not was.made.erased(p))
    rejected = {i: o for i, o in was.rejected.items() if i not in went and i in was.given.places}
    if len(stays) + len(rejected) + len(fresh) != len(now):  # something was erased, or was never known
        fresh |= {*now.names} - {was.made.names[p] for p in stays} - rejected.keys()
    moved = _moved(was.given, now)
    if of is None:
        known = {i: found for i in fresh if (found := was.of(now.hash(p := now.places[i]), now.meta(p))) is not None}
        work = tuple(sorted(fresh - known.keys()))
        return Plan(work=work, known=known, made=was.made, stays=stays, rejected=rejected, moved=moved)
    touched = {of(now, now.places[i]) for i in fresh} | {of(was.given, was.given.places[i]) for i in went}
    pieces = _pieces(now, of, touched) if touched else ()
    work = tuple(chain.from_iterable(pieces))
    again = {*work}
    return Plan(
        work=work,
        pieces=pieces,
        made=was.made,
        stays=tuple(p for p in stays if was.made.names[p] not in again),
        rejected={i: o for i, o in rejected.items() if i not in again},
        moved=moved,
    )


def _moved(given: Tree, now: Tree) -> bool:
    """Whether a content that both have lies outside of the store in one of them alone."""
    return any(name in given.places and name in now.places for name in given.outside ^ now.outside)


def _pieces(now: Tree, of: Of, touched: set[bytes] | None = None) -> Pieces:
    """The items that are worked together, or those of them by `touched`; in order of ids, and of the first one in each."""
    found: dict[bytes, list[str]] = {}
    for identity in sorted(now.names):
        by = of(now, now.places[identity])
        if touched is None or by in touched:
            found.setdefault(by, []).append(identity)
    return tuple(map(tuple, found.values()))


def together(tree: Tree, place: int) -> bytes:
    """All items of a set."""
    return b""


def by_field(name: str, where: str) -> Of:
    """Those with the same value in a field, or in a column where an item is a row of a table. ConfigError where one has none."""

    def of(tree: Tree, place: int) -> bytes:
        fields = tree.meta(place)
        if name not in fields:
            fields = columns(tree.view(place))
        if name not in fields:
            raise ConfigError(
                f"an item has no field '{name}'", where=where, remedy="a step before this one may give it to every item"
            )
        return document.canonical(fields[name])

    return of


def columns(content: memoryview) -> Mapping[str, object]:
    """The columns of an item that is a row of a table; of another one none."""
    if bytes(content[:1]) != b"{":
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, object])
    except msgspec.DecodeError:
        return {}
