"""Two versions joined, against plain dictionaries: whatever two people add, remove and change, in any order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdl.data.history.join import Outcome, join
from cdl.data.history.opened import Version
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.columns import from_hex
from cdl.data.pipeline.split import ASIDE, CODES, NAMES, TEST, TRAIN, assign
from cdl.data.versions import same
from cdl.errors import Conflict
from cdl.registry.records import Dataset, Source, Split, Stage, encode
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.store.tree import Tree, content_of, open_tree

KEY = b"k" * 32
Files = Mapping[str, str]


class Desk:
    """Makes versions of plain dictionaries as the pipeline does: a file is an item, a step turns letters and rejects an x."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.vault = Vault(self.store, KEY, "key-1", identity=b"i" * 32)

    def version(self, files: Files, parent: Version | None = None, *, code: str = "c1", **other: str) -> Version:
        """A version after another one."""
        before = parent.record if parent else None
        ledger = ledgers.read(self.vault, before.split.ledger if before else None)
        named = {self.id(name): name for name in files}
        ids = sorted(named)
        equals = {i: self.vault.digest(files[named[i]].encode()) for i in ids}
        columns = from_hex(ids, 16), from_hex((equals[i] for i in ids), 32)
        sets = np.array([CODES[declared(named[i])] for i in ids], dtype="|u1")
        codes, befores = assign(*columns, sets, ledger.known, key=KEY, share=0.4)
        sides = {i: str(NAMES[code]) for i, code in zip(ids, codes.tolist(), strict=True)}
        rows = ledgers.Items(
            ids=columns[0],
            equals=columns[1],
            sides=codes,
            befores=befores,
            sources=[0] * len(ids),
            names=[named[i] for i in ids],
            labels=[named[i][0] for i in ids],
        )
        elsewhere = np.array([line[0] == ledgers.ITEM and line[5] is not None for line in ledger.lines()], dtype=bool)
        source = other.get("path", "incoming")
        written = ledgers.write(self.vault, ledger, rows, gone=elsewhere, files=[], sources=[source])
        of = {side: {i: files[named[i]] for i in ids if sides[i] == side} for side in (TRAIN, TEST, ASIDE)}
        stages = [self.stage("ingest", None, of, before, None)]
        left = {side: {i: t.upper() for i, t in of[side].items() if "x" not in t} for side in (TRAIN, TEST)}
        stages.append(self.stage("clean", code, left, before, stages[0]))
        gone = {i: (t.encode(), {"step": "clean", "reason": "an x", "fields": {}}) for i, t in self.xs(of).items()}
        aside: dict[str, tuple[bytes, dict[str, str]]] = {i: (t.encode(), {}) for i, t in of[ASIDE].items()}
        record = Dataset(
            name="d",
            parent=parent.id if parent else None,
            sources=[Source(path=source, raw=self.raw(files, before, stages[0]))],
            split=Split(
                test=0.4,
                ledger=written,
                set_aside={"count": len(aside), "tree": self.vault.put_tree(aside) if aside else None},
            ),
            steps=stages,
            items={side: len(left[side]) for side in (TRAIN, TEST)},
            data_key=self.vault.name,
            rejected={
                "reasons": {"an x": len(gone)} if gone else {},
                "tree": self.vault.put_tree(gone) if gone else None,
            },
        )
        return self.open(record)

    def open(self, record: Dataset | None) -> Version:
        return Version(self.store, self.vault, encode(record)[0] if record else None, record)

    def id(self, name: str) -> str:
        return self.vault.digest(f"0\0{name}".encode())[:32]

    def xs(self, of: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        return {i: t for side in (TRAIN, TEST) for i, t in of[side].items() if "x" in t}

    def stage(
        self, name: str, code: str | None, of: Mapping[str, Files], before: Dataset | None, last: Stage | None
    ) -> Stage:
        old = next((s for s in before.steps if s.name == name), None) if before else None
        trees = {}
        for side, box in ((TRAIN, self.store), (TEST, self.vault)):
            follows = open_tree(box, getattr(old, side)) if old else None
            builder = Builder(box, before=follows, known=[open_tree(box, getattr(last, side))] if last else [])
            for item, text in sorted(of[side].items()):
                builder.add(item, text.encode())
            trees[side] = builder.finish()
        environment = "e" if code else None
        return Stage(name=name, code=code, environment=environment, train=trees[TRAIN], test=trees[TEST])

    def raw(self, files: Files, before: Dataset | None, ingested: Stage) -> str:
        follows = open_tree(self.vault, before.sources[0].raw) if before else None
        known, beside = [open_tree(self.vault, ingested.test)], [open_tree(self.store, ingested.train)]
        builder = Builder(self.vault, before=follows, known=known, beside=beside)
        for name, text in sorted(files.items()):
            builder.add(name, text.encode())
        return builder.finish()


def declared(name: str) -> str | None:
    """The set that a source says; names with `r` and `t` are of sources that say one."""
    return {"r": TRAIN, "t": TEST}.get(name[0])


@contextmanager
def desk() -> Iterator[Desk]:
    with TemporaryDirectory() as folder:
        yield Desk(Path(folder))


def texts(tree: Tree | None) -> dict[str, str]:
    return {name: data.decode() for name, data in tree.contents().items()} if tree else {}


def merged(base: Files, ours: Files, theirs: Files) -> tuple[dict[str, str], set[str]]:
    """What both did, as everybody expects it; and the names that both changed differently."""
    found: dict[str, str] = {}
    clashing = set()
    for name in {*base, *ours, *theirs}:
        a, b, o = ours.get(name), theirs.get(name), base.get(name)
        if a != b and o not in (a, b):
            clashing.add(name)
        value = a if b == o else b
        if value is not None:
            found[name] = value
    return found, clashing


CALLED = st.sampled_from(["a1", "a2", "a3", "r1", "r2", "t1", "t2"])
FILES = st.dictionaries(CALLED, st.sampled_from(["p", "q", "s", "xp", "xq"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(FILES, FILES, FILES, FILES, st.booleans())
def test_what_both_did_is_there(base: Files, between: Files, ours: Files, theirs: Files, common: bool) -> None:
    with desk() as at:
        first = at.version(base) if common else at.open(None)
        mine = at.version(ours, at.version(between, first if common else None))
        other = at.version(theirs, first if common else None)
        done = join(mine, other, first)
        wanted, clashing = merged(base if common else {}, ours, theirs)
        named = {clash.name for clash in done.clashes}
        assert clashing <= named
        for clash in done.clashes:
            if (
                clash.name not in clashing
            ):  # an equal item, or what it was before, decided its side: differently on the two branches
                told = [pair for files in (base, between, ours, theirs) for pair in files.items()]
                equal = {text for name, text in told if name == clash.name}
                assert len(equal) > 1 or {name for name, text in told if text in equal} > {clash.name}
        if done.record is not None:
            holds(at, done, wanted, mine, other)
        back = join(other, mine, first)
        assert {(c.name, c.item) for c in back.clashes} == {(c.name, c.item) for c in done.clashes}
        if done.record is not None and back.record is not None:
            for stage, turned in zip(done.record.steps, back.record.steps, strict=True):
                assert content_of(at.store, stage.train) == content_of(at.store, turned.train)
                assert content_of(at.vault, stage.test) == content_of(at.vault, turned.test)


def holds(at: Desk, done: Outcome, wanted: Files, mine: Version, other: Version) -> None:
    """That a joined version is what the pipeline would have made of the joined files, and goes on making."""
    made = at.open(done.record)
    assert made.record is not None
    assert texts(made.raw("incoming")) == wanted
    sides = {side: texts(made.tree(side)) for side in (TRAIN, TEST, ASIDE)}
    assert sum(map(len, sides.values())) == len(wanted)
    assert {i: t for of in sides.values() for i, t in of.items()} == {at.id(n): t for n, t in wanted.items()}
    assert not {*sides[TRAIN].values()} & {*sides[TEST].values()}
    for side in (TRAIN, TEST):
        assert texts(made.stages[1, side]) == {i: t.upper() for i, t in sides[side].items() if "x" not in t}
    assert texts(made.sealed["file"]) == at.xs(sides)
    assert {*mine.rows, *other.rows} == {*made.rows}
    again = at.version(wanted, made)
    if not sides[ASIDE]:
        assert again.record is not None and same(made.record, again.record), (made.record, again.record)
    for side in (TRAIN, TEST):  # what is set aside may come back, by the rules of the split; nothing else moves
        assert texts(again.tree(side)).items() >= sides[side].items()


def test_two_peoples_additions() -> None:
    with desk() as at:
        base = at.version({"a1": "p", "a2": "q"})
        done = join(
            at.version({"a1": "p", "a2": "q", "a3": "s"}, base), at.version({"a2": "q", "r1": "new"}, base), base
        )
        assert done.record is not None and not done.aside and done.taken == {at.id("r1"), at.id("a1")}
        assert texts(at.open(done.record).raw("incoming")) == {"a2": "q", "a3": "s", "r1": "new"}


def test_equal_items_of_two_sets_are_set_aside_unless_one_was_there_before() -> None:
    with desk() as at:
        base = at.version({"r1": "p"})
        done = join(at.version({"r1": "p", "r2": "same"}, base), at.version({"r1": "p", "t1": "same"}, base), base)
        assert done.aside == {at.id("r2"), at.id("t1")} and done.record is not None
        assert done.record.split.set_aside["count"] == 2
        mine = at.version(
            {"r1": "p"}, at.version({"r1": "p", "r2": "same"}, base)
        )  # it went again, and models may know it
        done = join(mine, at.version({"r1": "p", "t1": "same"}, base), base)
        assert done.aside == {at.id("t1")}
        mine = at.version({"r1": "p", "r3": "same"}, at.version({"r1": "p", "r2": "same", "r3": "same"}, base))
        done = join(mine, at.version({"r1": "p", "t1": "same"}, base), base)
        assert done.aside == {at.id("t1")}


@pytest.mark.parametrize(
    ("ours", "theirs", "what"),
    [
        ({"a1": "1"}, {"a1": "2"}, "changed on both sides, differently"),
        ({}, {"a1": "2"}, "removed here, changed there"),
        ({"a1": "1"}, {}, "changed here, removed there"),
        ({"a1": "p", "a2": "1"}, {"a1": "p", "a2": "2"}, "added on both sides, differently"),
    ],
)
def test_what_clashes_is_told_by_item(ours: Files, theirs: Files, what: str) -> None:
    with desk() as at:
        base = at.version({"a1": "p"})
        done = join(at.version(ours, base), at.version(theirs, base), base)
        name = "a2" if "a2" in ours else "a1"
        assert [(c.what, c.name, c.item) for c in done.clashes] == [(what, name, at.id(name))]
        assert done.record is None


def test_steps_with_other_code_are_left_to_the_next_run() -> None:
    with desk() as at:
        base = at.version({"a1": "p", "a2": "x"})
        ours, theirs = at.version({"a1": "p", "a2": "x", "a3": "s"}, base), at.version({"a1": "p"}, base, code="c2")
        done = join(ours, theirs, base)
        assert done.record is not None and done.again == ["clean"] == done.record.skipped
        assert [s.name for s in done.record.steps] == ["ingest"] and done.record.rejected == {
            "reasons": {},
            "tree": None,
        }
        assert sum(done.record.items.values()) == 2


def test_a_step_over_a_whole_set_is_left_to_the_next_run() -> None:
    with desk() as at:
        base = at.version({"a1": "p"})
        ours, theirs = at.version({"a1": "p", "a2": "q"}, base), at.version({"a1": "p", "a3": "s"}, base)
        for single, again in ((None, []), ({"clean"}, []), (set[str](), ["clean"])):
            assert join(ours, theirs, base, single=single).again == again


def test_sources_that_each_added_cannot_be_joined() -> None:
    with desk() as at:
        ours, theirs = at.version({"a1": "p"}, path="here"), at.version({"a1": "p"}, path="there")
        with pytest.raises(Conflict, match="differ in the source that they added"):
            join(ours, theirs, at.open(None))
