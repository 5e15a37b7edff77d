"""History: what happened to versions, newest first. Where a record says neither who nor when, the commit that brought it does.

   id          kind       version  when                  who                  what
   m-0c5e8b37  promotion  v2       2026-11-26T09:03:11Z  review@example.org   promote: side m-0c5e8b37
*  m-0c5e8b37  model      v2       2026-11-24T10:12:03Z  science@example.org  model register: side m-0c5e8b37 from e3
"""

from collections.abc import Iterable, Iterator

import msgspec

from cdl.registry.names import Thing, all_things, current, find, numbers, own_branch, things
from cdl.registry.records import ID_PATTERN, Decision, Request
from cdl.registry.registry import Registry, Stored

TOLD_BY_HEADS = {"model": "promotion", "stage": "deployment"}  # other heads move with the record that they name


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: a record appeared, or a head moved (`promotion`, `deployment`).

    `version` is the number on the integration branch ('v2'); `current` marks what a name names now; `place` orders
    commits of one second.
    """

    id: str
    kind: str
    name: str | None
    version: str | None
    when: str
    who: str
    line: str
    commit: str
    current: bool
    place: int


def history(registry: Registry, what: str | None = None) -> list[Entry]:
    """Everything that happened, or what happened to the versions of a name, or to one record. NotFound, Conflict."""
    registry.observe()
    identity = find(registry, what).stored.id if what is not None and ID_PATTERN.match(what) else None
    wanted = all_things(registry) if what is None or identity else things(registry, what)
    view = _View(registry, wanted)
    every = registry.everything()
    if identity:
        every = list(_about(every, {identity}))
    elif what is not None:
        every = list(_about(every, {s.id for s in every if thing_of(s) in view.names}))
    found = [view.record(stored) for stored in every]
    found += [e for thing in wanted for e in view.moves(thing) if identity in (None, e.id)]
    return sorted(found, key=lambda e: (e.when, e.place), reverse=True)


def thing_of(stored: Stored) -> Thing | None:
    """What a record is a version of; None for those without a name."""
    name = getattr(stored.record, "name", None)
    return Thing(kind=type(stored.record).__name__.lower(), name=name) if name else None


def _about(every: Iterable[Stored], ids: set[str]) -> Iterator[Stored]:
    """Some records, and the decisions and requests about them."""
    for stored in every:
        record = stored.record
        if stored.id in ids or (isinstance(record, Decision | Request) and record.subject in ids):
            yield stored


class _View:
    """Numbers and current versions of some things, asked of git once."""

    def __init__(self, registry: Registry, wanted: list[Thing]) -> None:
        self.registry = registry
        self.names = {thing: numbers(registry, thing) for thing in wanted}
        self.now = current(registry, wanted)

    def record(self, stored: Stored) -> Entry:
        """The entry of a record that appeared."""
        commit, made = self.registry.brought(stored.id), getattr(stored.record, "made", None)
        thing = thing_of(stored)
        return Entry(
            id=stored.id,
            kind=type(stored.record).__name__.lower(),
            name=thing.name if thing else None,
            version=self.number(thing, stored.id),
            when=made.when if made else commit.when,
            who=made.who if made else commit.who,
            line=commit.line,
            commit=commit.id,
            current=thing is not None and self.now.get(thing, ("", ""))[0] == stored.id,
            place=commit.place,
        )

    def moves(self, thing: Thing) -> Iterator[Entry]:
        """The moves of a head on its own branch's line; the last one of a stage is its current."""
        line = self.registry.line(own_branch(self.registry, thing)) if thing.kind in TOLD_BY_HEADS else frozenset()
        moves = [m for m in self.registry.moves(thing.path) if m.commit in line]
        for move in moves:
            commit = self.registry.commit_of(move.commit)
            yield Entry(
                id=move.version,
                kind=TOLD_BY_HEADS[thing.kind],
                name=thing.name,
                version=self.number(thing, move.version),
                when=commit.when,
                who=commit.who,
                line=commit.line,
                commit=commit.id,
                current=thing.kind == "stage" and move is moves[-1],
                place=commit.place,
            )

    def number(self, thing: Thing | None, identity: str) -> str | None:
        """A version's number as people type it."""
        found = self.names.get(thing, {}).get(identity) if thing else None
        return f"v{found}" if found else None
