"""Collection and splitting: files come from their sources, each item gets a neutral id, and what is new is looked at and gets
its side.

What the last run here saw, and nothing changed since, is not read again (looked.py): it stays in the ledger as it stands there.
Items that are set aside are looked at each time, since what they disagreed with may have gone.
"""

from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module

import msgspec

from cdl.config.schema import Source as DeclaredSource
from cdl.data.items.formats import read_items, unfit
from cdl.data.items.item import Content, Rejected, content_digest
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.alike import Alike
from cdl.data.pipeline.columns import Column, as_bytes, column
from cdl.data.pipeline.draft import Draft, Fresh, item_id
from cdl.data.pipeline.ledger import EQUAL_BYTES, ID_BYTES, ITEM
from cdl.data.pipeline.progress import counted
from cdl.data.pipeline.split import ASIDE, CODES, assign
from cdl.data.sources import looked
from cdl.data.sources.fetch import Earlier, called, check_names, fetched
from cdl.data.sources.files import Files, Stored
from cdl.data.sources.walk import Sight
from cdl.data.workers.values import equal_values
from cdl.errors import ConfigError, Refused
from cdl.jobs.closure import Closure
from cdl.registry.records import Split
from cdl.store.erased import ITEMS, read_item

COLLECT = "collect"  # the stage that rejects files which are no items


def collect(draft: Draft, held: ExitStack) -> None:
    """Opens the declared sources, while `held` lasts."""
    draft.began = looked.now()
    found = None if draft.broken else looked.read(draft.workspace, draft.vault, draft.name, draft.parent)
    draft.looked = found if found is not None and found.section == _section(draft) else None
    for source in draft.config.sources():
        if source.command is not None or source.bucket is not None:
            draft.workspace.trusted.require_code()
        earlier = _earlier(draft, source, found) if found is not None and source.url is not None else None
        here = draft.workspace
        files = fetched(source, here.root, sift=draft.sift, earlier=earlier, folder=here.folder, tell=here.tell)
        draft.files.append(held.enter_context(files))


def _earlier(draft: Draft, source: DeclaredSource, found: looked.Looked) -> Earlier | None:
    """What the last run saw at an address that is declared as it was."""
    noted = next((each for each in found.sources if each.key == _key(source)), None)
    kept = next((s for s in draft.parent.sources if s.url == source.url), None) if draft.parent else None
    if noted is None or kept is None:
        return None
    return Earlier(seen=noted.sight, told=noted.told, files=lambda: Stored(draft.vault.tree(kept.raw)))


def seen(draft: Draft) -> looked.Looked:
    """What this run saw of its sources."""
    told = zip(draft.numbers, draft.config.sources(), draft.files, strict=True)
    sources = [looked.Noted(n, _key(s), _sight(files), files.told) for n, s, files in told]
    return looked.Looked(section=_section(draft), sources=sources)


def as_seen(draft: Draft) -> bool:
    """Whether every source is as the last run saw it, and nothing in it has to be looked at all the same."""
    if draft.looked is None or draft.parent is None or draft.parent.split.set_aside["count"]:
        return False
    if draft.config.items.others == "rejected":
        return False
    sources = draft.config.sources()
    now = [(_key(s), _sight(files)) for s, files in zip(sources, draft.files, strict=True)]
    return all(s.command is None for s in sources) and now == [(s.key, s.sight) for s in draft.looked.sources]


def _sight(files: Files) -> Sight:
    """What is seen of a source here."""
    return files.seen if files.seen is not None else Sight([], array("q"))


def _section(draft: Draft) -> str:
    """A digest of what an item is and what makes items equal, as declared, and of what was erased."""
    origin, code = draft.config.origin(), draft.equal_by
    folder = bool(origin and origin.folder)
    return looked.digest([msgspec.to_builtins(draft.config.items), code.id if code else None, folder, _erasures(draft)])


def _key(source: DeclaredSource) -> str:
    """A digest of a source as it is declared."""
    return looked.digest({k: v for k, v in msgspec.to_builtins(source).items() if v is not None and k != "get"})


class _Erased(msgspec.Struct, frozen=True, kw_only=True):
    """Items that were erased: their ids, and keyed digests of what they held."""

    ids: set[str]
    digests: set[str]


def _erasures(draft: Draft) -> list[str]:
    """The claims of the items of this dataset that were erased."""
    return draft.workspace.store.claims(f"{ITEMS}{draft.name}/")


def _erased(draft: Draft) -> _Erased:
    store = draft.workspace.store
    found = {c.rsplit("/", 1)[-1]: read_item(store.claimed(c) or b"", where=c) for c in _erasures(draft)}
    return _Erased(ids={*found}, digests={digest for each in found.values() for digest in each.digests})


class _Gathered(msgspec.Struct):
    """Items to be looked at, as they are found."""

    ids: bytearray = msgspec.field(default_factory=bytearray)
    digests: bytearray = msgspec.field(default_factory=bytearray)
    places: "array[int]" = msgspec.field(default_factory=lambda: array("I"))
    at: "array[int]" = msgspec.field(default_factory=lambda: array("Q"))


def look(draft: Draft) -> None:
    """Finds the items in the files of each source, and looks at those that are not as they were.

    ConfigError where there is no item at all, Refused where a table or an array holds one that was erased.
    """
    numpy = import_module("numpy")
    draft.number_sources(draft.sources or draft.config.sources())
    draft.gone = numpy.zeros(len(draft.before), dtype=bool)
    known, erased, gathered = _known(draft), _erased(draft), _Gathered()
    stays = 0
    for place, (number, files) in enumerate(zip(draft.numbers, draft.files, strict=True)):
        there = known.pop(number, {})
        if _whole(draft, place, there):
            draft.listed.append(None)
            draft.changed.append(set())
            stays += len(there)
            continue
        stays += _listed(draft, place, files, there, gathered, erased)
        draft.gone[list(there.values())] = True
    for there in known.values():  # of sources that are declared no more
        draft.gone[list(there.values())] = True
    draft.fresh = Fresh(
        ids=column(gathered.ids, ID_BYTES),
        digests=column(gathered.digests, EQUAL_BYTES),
        places=gathered.places,
        at=gathered.at,
    )
    if not stays and not gathered.places:
        fits = draft.config.items.files or "the declared rows or arrays"
        raise ConfigError(
            "the sources hold no item", where=f"cdl.yaml: data.{draft.name}", remedy=f"put some there; wanted: {fits}"
        )


def _known(draft: Draft) -> dict[int, dict[str, int]]:
    """The rows of the ledger before that say where an item is, by source number and name."""
    columns = draft.before.columns
    found: dict[int, dict[str, int]] = {}
    for row, (kind, source, name) in enumerate(
        zip(columns["kind"].tolist(), columns["source"], columns["name"], strict=True)
    ):
        if kind == ITEM and source is not None:
            found.setdefault(source, {})[name] = row
    return found


def _whole(draft: Draft, place: int, there: Mapping[str, int]) -> bool:
    """Whether a source is as the last run saw it, and nothing in it has to be looked at all the same."""
    if draft.looked is None or draft.config.items.others == "rejected":
        return False
    source, sides = draft.config.sources()[place], draft.before.columns["side"]
    if source.command is not None or any(sides[row] == ASIDE for row in there.values()):
        return False
    return draft.looked.whole(draft.numbers[place], _key(source), _sight(draft.files[place]))


def _listed(draft: Draft, place: int, files: Files, there: dict[str, int], gathered: _Gathered, erased: _Erased) -> int:
    """Lists the items of a source, and gathers those to be looked at; how many stay. What stays is taken out of `there`."""
    config, vault, number = draft.config, draft.vault, draft.numbers[place]
    check_names(config.sources()[place], files)
    origin = config.origin()
    changed = _changed(draft, place, files)
    files.expect(name for name in files if changed is None or name in changed)
    listed = read_items(files, config.items, folder_is_label=bool(origin and origin.folder))
    draft.listed.append(listed)
    draft.changed.append(changed)
    alike = Alike(draft)
    of_items, sides, lost, stays = config.items.files is not None, draft.before.columns["side"], [], 0
    for at, name in enumerate(counted(listed.names, len(listed), "collect", draft.workspace.tell)):
        row = there.get(name)
        if row is not None and of_items and changed is not None and name not in changed and sides[row] != ASIDE:
            del there[name]
            stays += 1
            continue
        large = files.large(name) if of_items else None
        identity = item_id(vault, number, name)
        cuts = large.cuts() if large is not None else None
        content = listed.content(at) if cuts is None else b""
        digest = content_digest(vault, content, cuts)
        if identity in erased.ids or digest in erased.digests:
            lost.append(name)
            continue
        draft.stay(place, name, content, cuts)
        if row is not None and alike(row, identity, bytes.fromhex(digest), listed.labels[at], listed.fields(at)):
            del there[name]
            stays += 1
            continue
        if cuts is not None:
            draft.cuts[place, name] = cuts
        gathered.ids += bytes.fromhex(identity)
        gathered.digests += bytes.fromhex(digest)
        gathered.places.append(place)
        gathered.at.append(at)
    _set_unfit_aside(draft, place, files, erased, lost)
    _leave_out(draft, place, lost)
    return stays


def _changed(draft: Draft, place: int, files: Files) -> set[str] | None:
    """The names of the files of a folder that are not as the last run saw them; None where it saw nothing of them."""
    if draft.looked is None or files.seen is None or not files.in_place:
        return None
    return draft.looked.changed(draft.numbers[place], _key(draft.config.sources()[place]), files.seen)


def _set_unfit_aside(draft: Draft, place: int, files: Files, erased: _Erased, lost: list[str]) -> None:
    """Rejects the files that are no items, where cdl.yaml says so."""
    number = draft.numbers[place]
    for name, reason in unfit(files, draft.config.items).items():
        identity, data = item_id(draft.vault, number, name), files[name]
        if identity in erased.ids or content_digest(draft.vault, data) in erased.digests:
            lost.append(name)
            continue
        draft.unfit.append((identity, number, name))
        draft.rejected[identity] = (COLLECT, Rejected(Content(data, {}), reason))
        draft.sayable.add(reason)


def _leave_out(draft: Draft, place: int, lost: list[str]) -> None:
    """Leaves files of erased items out. Refused where a table or an array still holds one."""
    if lost and draft.config.items.files is None:
        source = draft.config.sources()[place]
        raise Refused(
            f"{len(lost)} items that were erased still stand in the source",
            where=f"{called(source)}: {lost[0]}",
            remedy="take them out of the source, then the command again",
        )
    if lost:
        draft.left_out[place] = set(lost)
        draft.workspace.tell(f"left out: {len(lost)} files of items that were erased")


def split(draft: Draft) -> None:
    """Gives each item that was looked at its side, and seals the ledger that remembers all of them."""
    numpy = import_module("numpy")
    fresh, before, config = draft.fresh, draft.before, draft.config
    assert fresh is not None
    fresh.order = fresh.ids.argsort(kind="stable")
    sets = [CODES[source.set] for source in config.sources()]
    declared = numpy.array(sets, dtype="|u1")[numpy.array(fresh.places, dtype="<i8")]
    code = draft.equal_by
    equals = fresh.digests if code is None else _equals(draft, fresh, code)
    fresh.sides, befores = assign(
        fresh.ids, equals, declared, before.known, key=draft.split_key, share=config.split.test
    )
    listed = {place: found for place, found in enumerate(draft.listed) if found is not None}
    items = ledgers.Items(
        ids=fresh.ids,
        equals=equals,
        sides=fresh.sides,
        befores=befores,
        sources=[draft.numbers[place] for place in fresh.places],
        names=[listed[place].names[at] for place, at in zip(fresh.places, fresh.at, strict=True)],
        labels=[listed[place].labels[at] for place, at in zip(fresh.places, fresh.at, strict=True)],
    )
    aside = {}
    for row, identity in draft.fresh_of(ASIDE):
        aside[identity] = (draft.content(row), draft.fields(row))
    draft.split = Split(
        test=config.split.test,
        by=config.split.by,
        code=code.id if code else None,
        ledger=ledgers.write(
            draft.vault, before, items, gone=draft.gone, files=draft.unfit, sources=draft.every_source
        ),
        set_aside={"count": len(aside), "tree": draft.vault.put_tree(aside) if aside else None},
    )


def _equals(draft: Draft, fresh: Fresh, code: Closure) -> Column:
    """The keyed digests of what `split.by` gives for each item that is looked at."""
    values = equal_values(
        draft.workspace.jobs,
        draft.vault,
        by=str(draft.config.split.by),
        code=code,
        environment=draft.environment,
        contents=draft.contents(fresh.order.tolist()),
        inputs=draft.vault.digest(fresh.digests[fresh.order].tobytes()),
    )
    digests = as_bytes(fresh.digests).copy()
    for row, value in zip(fresh.order.tolist(), values, strict=True):
        digests[row] = list(bytes.fromhex(draft.vault.digest(value)))
    return column(digests.tobytes(), EQUAL_BYTES)
