"""Two versions of a dataset made into one that holds what both added, removed and changed since a common ancestor.

    base      a b c              ours  a b' c d        theirs  a b c e, without a
    joined    b' c d e

An item is taken as a whole from the version that changed it: its bytes, label and side, and what each step made of it. Where both
changed it, and not alike, it is a clash; with one nothing is made. Files of a source are joined by name in the same way.

Two items that are equal, one in the training set of ours and one in the test set of theirs, are set aside, as split.py does it.
Steps with other code on either side, and those behind them, are left out: the next run of the pipeline works them on everything.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeVar

import msgspec

from cdl.data.history.opened import FILE, Row, State, Version, apart
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.collect import COLLECT
from cdl.data.pipeline.ledger import FILE as FILE_LINE
from cdl.data.pipeline.ledger import ITEM, NOTHING, SOURCE, Line, Origin
from cdl.data.pipeline.split import ASIDE, TEST, TRAIN
from cdl.data.versions import UNSAID
from cdl.errors import Conflict
from cdl.registry.records import Dataset, Joined, Source, Split, Stage
from cdl.store.builder import Builder
from cdl.store.table import Box
from cdl.store.tree import Tree, open_tree

T = TypeVar("T")
ONE = (
    "end the merge with one of the two (git checkout --ours -- the head), put the sources together, then: cdl data run"
)


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides changed, each in its way: an item, called in its source `name`; or a file of a source, without an item."""

    what: str
    name: str
    item: str | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """The version that was made, unless there are clashes.

    `taken` items are as in theirs, those in `aside` are set aside from now on, the steps in `again` were not joined.
    """

    record: Dataset | None = None
    clashes: list[Clash] = msgspec.field(default_factory=list)
    taken: set[str] = msgspec.field(default_factory=set)
    aside: set[str] = msgspec.field(default_factory=set)
    again: list[str] = msgspec.field(default_factory=list)


def join(ours: Version, theirs: Version, base: Version, *, single: Container[str] | None = None) -> Outcome:
    """A version, following `ours`, with what `theirs` did since `base`. Nothing is stored where there are clashes.

    `single` are the steps that work each item alone (None: every one); others see a whole set, which is another one now.
    Conflict where the two cannot be joined at all: they split in different ways, or declare their sources differently.
    """
    done = Outcome()
    for item in sorted(base.differing(theirs)):
        mine, other, before = ours.state(item), theirs.state(item), base.state(item)
        if other in (mine, before):
            continue
        if mine == before:
            done.taken.add(item)
        else:
            done.clashes.append(
                Clash(what=_clash(mine, other, before), item=item, name=(mine or other or before or EMPTY)[3])
            )
    sources, numbers = _sources(ours, theirs, base), _numbers(ours, theirs, base)
    files = {source: _files(*(v.raw(source) for v in (ours, theirs, base))) for source in sources}
    known = {clash.name for clash in done.clashes}
    both = [name for _, clashing in files.values() for name in clashing if name not in known]
    done.clashes += [Clash(what="changed on both sides, differently", name=name) for name in sorted(both)]
    if not done.clashes:
        taken = {source: taken for source, (taken, _) in files.items()}
        _make(done, ours, theirs, base, sources, numbers, taken, single)
    return done


NO_SHARE = -1.0  # of a base that there is not
EMPTY: State = ("", "", 0, "", None, b"", b"")


def _clash(mine: State | None, other: State | None, before: State | None) -> str:
    if mine is None:
        return "removed here, changed there"
    if other is None:
        return "changed here, removed there"
    if mine[1:] == other[1:]:
        return f"{mine[0]} here, {other[0]} there"
    if mine[5:] == other[5:]:
        return "labelled differently"
    return "changed on both sides, differently" if before else "added on both sides, differently"


def _picked(ours: T, theirs: T, base: T, what: str) -> T:
    """What one of the two made of something. Conflict where both did, differently."""
    if theirs in (ours, base):
        return ours
    if ours == base:
        return theirs
    raise Conflict(f"the two versions differ in {what}", remedy=ONE)


def _sources(ours: Version, theirs: Version, base: Version) -> dict[str, Source]:
    """The sources of the version to be made, still with the files of one of the two."""
    found = {}
    for name in dict.fromkeys([*ours.sources, *theirs.sources]):
        mine, other, before = (_declared(v.sources.get(name)) for v in (ours, theirs, base))
        if _picked(mine, other, before, f"what they say of the source {name}") is not None:
            found[name] = ours.sources.get(name) or theirs.sources[name]
    return found


def _declared(source: Source | None) -> Source | None:
    return msgspec.structs.replace(source, raw="") if source is not None else None


def _numbers(ours: Version, theirs: Version, base: Version) -> list[str]:
    """Every source there ever was by its number, which the ids of items hold."""
    lists = [v.ledger.sources for v in (ours, theirs, base)]
    count = max(map(len, lists))
    told = zip(*([*each, *[None] * (count - len(each))] for each in lists), strict=True)
    return [_picked(a, b, o, "the source that they added") or "" for a, b, o in told]


def _files(ours: Tree | None, theirs: Tree | None, base: Tree | None) -> tuple[set[str], list[str]]:
    """The files of a source that are to be as in theirs; those that both changed."""
    taken, clashes = set(), []
    for name in apart(base, theirs):
        mine, other, before = (_content(tree, name) for tree in (ours, theirs, base))
        if other in (mine, before):
            continue
        if mine == before:
            taken.add(name)
        else:
            clashes.append(name)
    return taken, clashes


def _content(tree: Tree | None, name: str) -> bytes | None:
    place = tree.places.get(name) if tree is not None else None
    return tree.hash(place) if tree is not None and place is not None and not tree.erased(place) else None


def _make(
    done: Outcome,
    ours: Version,
    theirs: Version,
    base: Version,
    sources: Mapping[str, Source],
    numbers: Sequence[str],
    files: Mapping[str, set[str]],
    single: Container[str] | None,
) -> None:
    """Stores the joined version, and notes its record."""
    if ours.record is None or theirs.record is None:
        raise Conflict("one of the two has no version", remedy=ONE)
    mine, other = ours.record, theirs.record
    if (mine.split.by, mine.split.code) != (other.split.by, other.split.code):
        raise Conflict("the two versions take different items for equal ones (split.by)", remedy=ONE)
    before = base.record.split.test if base.record else NO_SHARE
    share = _picked(mine.split.test, other.split.test, before, "the share of the test set")
    rows = _rows(ours, theirs, base)
    origins = {i: o for i, o in ours.ledger.origins.items() if i not in done.taken}
    origins |= {i: o for i, o in theirs.ledger.origins.items() if i in done.taken and theirs.state(i) is not None}
    done.aside = _set_aside(done, ours, theirs, rows, origins)
    common = [a for a, _ in takewhile(lambda pair: _alike(*pair, single), zip(mine.steps, other.steps, strict=False))]
    done.again = list(
        dict.fromkeys(s.name for s in [*mine.steps, *other.steps] if s.name not in {c.name for c in common})
    )
    stages = [_stage(done, ours, theirs, n, stage) for n, stage in enumerate(common)]
    aside = _kept_aside(done, ours, theirs, origins, rows)
    rejected = _rejected(done, ours, theirs, {stage.name for stage in common})
    vault = ours.vault
    say = {*mine.rejected["reasons"], *other.rejected["reasons"]} - {UNSAID}
    reasons: dict[str, int] = {}
    for _, meta in rejected.values():
        said = meta["reason"] if meta["reason"] in say else UNSAID
        reasons[said] = reasons.get(said, 0) + 1
    split = Split(
        test=share,
        by=mine.split.by,
        code=mine.split.code,
        ledger=ledgers.follow(vault, ours.ledger, _lines(rows, origins, numbers)),
        set_aside={"count": len(aside), "tree": vault.put_tree(aside) if aside else None},
    )
    done.record = Dataset(
        name=mine.name,
        parent=ours.id,
        joined=Joined(theirs=str(theirs.id), base=base.id),
        sources=[_source(ours, theirs, name, source, files[name], stages[0]) for name, source in sources.items()],
        split=split,
        steps=stages,
        items={TRAIN: len(ours.store.tree(stages[-1].train)), TEST: len(open_tree(vault, stages[-1].test))},
        skipped=list(dict.fromkeys([*mine.skipped, *other.skipped, *done.again])),
        data_key=vault.name,
        rejected={"reasons": dict(sorted(reasons.items())), "tree": vault.put_tree(rejected) if rejected else None},
    )


def _lines(
    rows: Mapping[tuple[str, str], Row], origins: Mapping[str, Origin], numbers: Sequence[str]
) -> Iterator[Line]:
    """What the ledger is to say."""
    for (item, equal), row in rows.items():
        origin = origins.get(item)
        here = origin if origin is not None and origin.equal == equal else None
        where = (here.source, here.name, here.label) if here else (None, None, None)
        yield (ITEM, item, equal, row.side, row.before, *where)
    for item, origin in origins.items():
        if not origin.equal:
            yield FILE_LINE, item, NOTHING, None, None, origin.source, origin.name, None
    for number, called in enumerate(numbers):
        yield SOURCE, NOTHING, NOTHING, None, None, number, called, None


def _alike(first: Stage, second: Stage, single: Container[str] | None) -> bool:
    """Whether two stages did the same with each item."""
    alone = first.code is None or single is None or first.name in single
    same = (first.name, first.code, first.environment) == (second.name, second.code, second.environment)
    return alone and same and first.joined == second.joined


def _rows(ours: Version, theirs: Version, base: Version) -> dict[tuple[str, str], Row]:
    """Every item there ever was on either side. One that both knew, on different sides, and that is gone, is on neither."""
    found = dict(ours.rows)
    for key, row in theirs.rows.items():
        mine, before = ours.rows.get(key), base.rows.get(key)
        if mine is None or mine == before:
            found[key] = row
        elif row not in (mine, before):
            found[key] = mine if mine.side == row.side else Row(ASIDE, None)
    return found


def _set_aside(
    done: Outcome,
    ours: Version,
    theirs: Version,
    rows: dict[tuple[str, str], Row],
    origins: Mapping[str, Origin],
) -> set[str]:
    """The items that are equal to one on the other side; their rows say so from now on."""
    touched = {theirs.ledger.origins[i].equal for i in done.taken if i in theirs.ledger.origins}
    touched |= {equal for (_, equal) in theirs.rows.keys() - ours.rows.keys()}
    here: dict[str, set[str]] = {}
    gone: dict[str, set[str]] = {}
    for (item, equal), row in rows.items():
        if equal in touched and row.side != ASIDE:
            current = item in origins and origins[item].equal == equal
            (here if current else gone).setdefault(equal, set()).add(row.side)
    found = set()
    for item, origin in origins.items():
        if not origin.equal:
            continue
        key, past = (item, origin.equal), gone.get(origin.equal, set())
        told = (theirs if item in done.taken else ours).rows[key].side
        sides = here.get(origin.equal, set()) | past
        undone = rows[key].side == ASIDE  # each of the two had it on another side once
        if told != ASIDE and (
            undone or (len(sides) > 1 and past != {told})
        ):  # an equal item that was there first decides
            rows[key] = Row(ASIDE, told)
            found.add(item)
    return found


def _stage(done: Outcome, ours: Version, theirs: Version, n: int, stage: Stage) -> Stage:
    """A stage of both."""
    trees = {}
    for side, box in ((TRAIN, ours.store), (TEST, ours.vault)):
        mine, other = ours.stages[n, side], theirs.stages[n, side]
        taken = {i for i in done.taken if i in other and not other.erased(other.places[i])} - done.aside
        trees[side] = _tree(box, mine, {*mine.names} - done.taken - done.aside, other, taken)
    return msgspec.structs.replace(stage, train=trees[TRAIN], test=trees[TEST])


def _tree(
    box: Box, mine: Tree | None, kept: set[str], other: Tree | None, taken: set[str], beside: Sequence[Tree] = ()
) -> str:
    """A tree of what one holds under some names, and another under others. What lies already is not stored again."""
    known = [tree for tree in (other,) if tree is not None]
    builder = Builder(box, before=mine, known=known, beside=beside)
    stays = mine is not None and builder.follows
    if mine is not None and stays:
        builder.stay([mine.places[name] for name in kept])
    for name in sorted(taken if stays else kept | taken):
        tree = other if name in taken else mine
        if tree is not None and not tree.erased(place := tree.places[name]):
            builder.take(name, tree, place)
    return builder.finish()


def _kept_aside(
    done: Outcome, ours: Version, theirs: Version, origins: Mapping[str, Origin], rows: Mapping[tuple[str, str], Row]
) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    """The items that are set aside, as they came."""
    found = {}
    for item, origin in origins.items():
        row = rows[item, origin.equal] if origin.equal else None
        if row is not None and row.side == ASIDE:
            version = theirs if item in done.taken else ours
            tree = version.tree(version.rows[item, origin.equal].side)
            if tree is not None and item in tree:
                place = tree.places[item]
                found[item] = bytes(tree.view(place)), tree.meta(place)
    return found


def _rejected(
    done: Outcome, ours: Version, theirs: Version, steps: set[str]
) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    """What collection and the joined steps rejected."""
    found = {}
    for version in (ours, theirs):
        tree = version.sealed[FILE]
        for place, item in _there(tree):
            meta = tree.meta(place) if tree is not None else {}
            mine = (item in done.taken) == (version is theirs)
            if tree is not None and mine and item not in done.aside and meta["step"] in {COLLECT, *steps}:
                found[item] = bytes(tree.view(place)), meta
    return found


def _there(tree: Tree | None) -> Iterator[tuple[int, str]]:
    """The places and names of a tree, but for what was erased."""
    for place, name in enumerate(tree.names if tree is not None else ()):
        if tree is not None and not tree.erased(place):
            yield place, name


def _source(ours: Version, theirs: Version, name: str, source: Source, taken: set[str], ingested: Stage) -> Source:
    """A source with the files of both. A file that is an item as it stands lies where the item does."""
    mine, other = ours.raw(name), theirs.raw(name)
    kept = {*mine.names} - taken if mine is not None else set()
    there = {n for n in taken if _content(other, n) is not None}
    beside = [ours.store.tree(ingested.train)]
    return msgspec.structs.replace(source, raw=_tree(ours.vault, mine, kept, other, there, beside))
