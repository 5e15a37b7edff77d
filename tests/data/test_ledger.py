"""Sources and items of the real pipeline: wherever cdl.yaml lists a source, its items stay where they were."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdl.data import versions
from cdl.data.dataset import equal_items
from cdl.data.pipeline import ledger
from cdl.data.pipeline.columns import from_hex
from cdl.data.pipeline.ledger import Origin
from cdl.data.pipeline.split import CODES
from cdl.errors import Corrupt, Refused
from cdl.registry.records import Dataset, encode
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, ROLES, YAML, Toy, make_toy

Rows = dict[str, int]


def test_a_source_keeps_its_number() -> None:
    numbers, every = ledger.numbered(["a", "b"], [])
    assert (numbers, every) == ([0, 1], ["a", "b"])
    assert ledger.numbered(["b", "a"], every) == ([1, 0], ["a", "b"])
    assert ledger.numbered(["c", "a", "b"], every) == ([2, 0, 1], ["a", "b", "c"])
    assert ledger.numbered(["b", "c"], every) == ([1, 2], ["a", "b", "c"])
    assert ledger.numbered(["a-2", "b"], every) == ([0, 1], ["a-2", "b"])  # another address of the same data
    assert ledger.numbered(["a", "a"], ["a"]) == ([0, 1], ["a", "a"])
    assert ledger.numbered(["a", "a"], ["a", "a"]) == ([0, 1], ["a", "a"])


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")


def version(toy: Toy, sources: dict[str, Rows]) -> tuple[Workspace, Dataset]:
    """A version from these sources, listed in this order."""
    listed = "".join(f"    - {{path: {name}}}\n" for name in sources)
    toy.write("cdl.yaml", YAML.replace("    source: {path: incoming}\n", f"    source:\n{listed}") + ROLES)
    for name, rows in sources.items():
        lines = (f"{i},{value},0,left\n" for i, value in rows.items())
        toy.write(f"{name}/points.csv", "id,x,y,side\n" + "".join(lines))
    workspace = toy.become(DATA)
    record = workspace.registry.get(versions.make(workspace, "points")).record
    assert isinstance(record, Dataset)
    return workspace, record


def sides(workspace: Workspace, record: Dataset) -> dict[tuple[str, str], str]:
    """The side of each item by source and name."""
    found = ledger.read(workspace.vault("points", by="test"), record.split.ledger)
    rows = {(identity, equal): str(side) for _, identity, equal, side, *_ in found.lines()}
    return {(found.sources[o.source], o.name): rows[(i, o.equal)] for i, o in found.origins.items()}


def test_items_edited_while_their_source_moves_in_the_list_stay_on_their_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = project(tmp_path, monkeypatch)
    drawn = random.Random(7)
    contents: dict[str, Rows] = {name: {f"p{i}": 100 * i + k for i in range(25)} for k, name in enumerate(("a", "b"))}
    known: dict[tuple[str, str], str] = {}
    orders = (["a", "b"], ["b", "a"], ["c", "b", "a"], ["a", "c"], ["b", "c", "a"])
    contents["c"] = {f"p{i}": 50_000 + i for i in range(10)}
    for turn, order in enumerate(orders):
        for name in order:
            for item in drawn.sample(sorted(contents[name]), 8 if turn else 0):
                contents[name][item] = 1_000_000 * turn + drawn.randrange(1_000_000)
        now = sides(*version(toy, {name: contents[name] for name in order}))
        assert all(known.get(place, side) == side for place, side in now.items())
        known |= now
    assert set(known.values()) == {"train", "test"}


def test_equality_with_a_test_item_is_that_of_the_version_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of items that were edited again and again, what they are now is compared, not what they were."""
    toy = project(tmp_path, monkeypatch)
    first = {f"p{i}": i for i in range(40)}
    workspace, before = version(toy, {"a": first})
    workspace.git.run("branch", "old")
    tested = [name for (_, name), side in sides(workspace, before).items() if side == "test"]
    _, after = version(toy, {"a": {**first, **{n: 1000 + i for i, n in enumerate(tested)}}})
    toy.become(DATA).git.run("reset", "--quiet", "--hard", "old")
    trained = [name for (_, name), side in sides(workspace, before).items() if side == "train"]
    changed = {**first, **{name: 1000 + i for i, name in enumerate(trained[: len(tested)])}}
    workspace, other = version(toy, {"a": changed})  # another line of versions, whose training items those became
    vault = workspace.vault("points", by="test")
    found = equal_items(workspace, encode(other)[0], encode(after)[0], vault)
    assert found == {
        "before_cleaning": min(len(tested), len(trained)),
        "after_cleaning": min(len(tested), len(trained)),
    }


HEX = st.integers(0, 5).map(lambda n: f"{n:032x}")
SIDE = st.sampled_from(["train", "test", "aside"])
VERSIONS = st.lists(
    st.dictionaries(
        HEX,
        st.tuples(st.integers(0, 2), st.text(max_size=4), st.none() | st.text(max_size=3), HEX, SIDE, st.booleans()),
    ),
    min_size=1,
    max_size=4,
)
Given = tuple[int, str, str | None, str, str, bool]  # source, name, label, equal, side, whether it is an item


def items(found: dict[str, tuple[int, str, str | None, str, str]]) -> ledger.Items:
    """Items by id in columns."""
    values = list(found.values())
    return ledger.Items(
        ids=from_hex(found, 16),
        equals=from_hex([v[3] for v in values], 32),
        sides=np.array([CODES[v[4]] for v in values], dtype="|u1"),
        befores=np.zeros(len(values), dtype="|u1"),
        sources=[v[0] for v in values],
        names=[v[1] for v in values],
        labels=[v[2] for v in values],
    )


def said(found: ledger.Ledger) -> dict[tuple[str, str], str | None]:
    """The side of each item there ever was."""
    return {(i, e): side for kind, i, e, side, *_ in found.lines() if kind == ledger.ITEM}


@given(versions_=VERSIONS, few=st.booleans())
def test_what_is_written_is_read_through_any_versions(
    tmp_path_factory: pytest.TempPathFactory, versions_: list[dict[str, Given]], few: bool
) -> None:
    """Whether all items of a version are written again, or only those that are not as they were (`few`), is the same."""
    vault = Vault(Store(tmp_path_factory.mktemp("store")), bytes(32), "k-1", identity=bytes(32))
    before, ever = ledger.read(vault, None), dict[tuple[str, str], str | None]()
    for given_ in versions_:
        here = {i: (s, n, lab, e + "ab" * 16, side) for i, (s, n, lab, e, side, fits) in given_.items() if fits}
        files = sorted((i, s, n) for i, (s, n, _, _, _, fits) in given_.items() if not fits)
        origins = {i: Origin(s, n, lab, e) for i, (s, n, lab, e, _) in here.items()}
        origins |= {i: Origin(s, n, None, "") for i, s, n in files}
        lines = list(before.lines())
        stay = {line[1] for line in lines if few and here.get(line[1]) == (*line[5:], *line[2:4]) and line[4] is None}
        gone = np.array([k == 0 and s is not None and i not in stay for k, i, _, _, _, s, _, _ in lines], dtype=bool)
        fresh = items({i: v for i, v in here.items() if i not in stay})
        name = ledger.write(vault, before, fresh, gone=gone, files=files, sources=["one", "é", "three"])
        found = ledger.read(vault, name)
        assert dict(found.origins) == origins and found.sources == ("one", "é", "three")
        ever |= {(i, e): side for i, (_, _, _, e, side) in here.items()}
        assert said(found) == ever
        every = np.array([k == 0 and s is not None for k, _, _, _, _, s, _, _ in lines], dtype=bool)
        whole = ledger.write(vault, before, items(here), gone=every, files=files, sources=["one", "é", "three"])
        assert whole == name
        again = ledger.read(vault, ledger.resealed(vault, name))
        assert again.origins == found.origins and ledger.told(again) == ledger.told(found)
        before = found


def test_a_ledger_writes_what_it_adds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vault = Vault(store, bytes(32), "k-1", identity=bytes(32))
    drawn = random.Random(3)

    def some(count: int, start: int) -> dict[str, tuple[int, str, str | None, str, str]]:
        pairs = [(f"{drawn.getrandbits(128):032x}", f"{drawn.getrandbits(256):064x}") for _ in range(count)]
        return {i: (0, f"name {start + n}", "a", e, "train") for n, (i, e) in enumerate(pairs)}

    def written(before: ledger.Ledger, found: dict[str, tuple[int, str, str | None, str, str]]) -> ledger.Ledger:
        gone = np.zeros(len(before), dtype=bool)
        return ledger.read(vault, ledger.write(vault, before, items(found), gone=gone, files=[], sources=["in"]))

    first = some(20_000, 0)
    before = written(ledger.read(vault, None), first)
    held = {*store.names()}
    more = some(10, 20_000)
    after = written(before, more)
    new = {*store.names()} - held
    assert len(new) <= 3 and sum(map(store.size, new)) < sum(map(store.size, held)) / 10
    assert dict(after.origins) == {i: Origin(s, n, lab, e) for i, (s, n, lab, e, _) in (first | more).items()}


def test_a_ledger_of_before_is_read_and_others_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vault = Vault(store, bytes(32), "k-1", identity=bytes(32))
    row, origin = ["0a" * 16, "0b" * 32, "test", None], [0, "x.txt", None, "0b" * 32]
    old = vault.put(json.dumps({"rows": [row], "origins": {row[0]: origin}, "sources": ["in"]}).encode())
    found = ledger.read(vault, old)
    assert (said(found), found.origins["0a" * 16].name) == ({("0a" * 16, "0b" * 32): "test"}, "x.txt")
    assert found.sources == ("in",)
    with pytest.raises(Refused, match="earlier format"):
        ledger.without(vault, old, "0a" * 16)
    again = ledger.resealed(vault, old)
    assert again != old and ledger.told(ledger.read(vault, again)) == ledger.told(ledger.read(vault, old))
    tree = vault.put_tree({"a": (b"x", {})})
    for wrong in (vault.put(b"{}"), vault.put(b"["), tree):
        with pytest.raises(Corrupt, match="not a ledger"):
            ledger.read(vault, wrong)
