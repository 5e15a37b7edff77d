"""Trees against a plain dictionary, through versions that follow each other; how little a change writes; what is refused."""

import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdl.errors import Corrupt, NotFound
from cdl.store import chunk, table
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.store.table import PACK, Box, Rows, Table, write
from cdl.store.tree import CHUNKED, Tree, content_of, open_tree

Model = Mapping[str, tuple[bytes, Mapping[str, Any]]]
NAMES = st.from_regex(r"[a-z]{1,2}(/[a-z]{1,2})?", fullmatch=True)
FIELDS = st.dictionaries(st.sampled_from(["w", "é"]), st.integers(0, 3) | st.none() | st.text(max_size=3), max_size=2)
MODELS = st.lists(
    st.dictionaries(NAMES, st.tuples(st.binary(max_size=40), FIELDS), max_size=30), min_size=1, max_size=4
)


def boxes(root: Path) -> list[Box]:
    store = Store(root)
    return [store, Vault(store, bytes(32), "k-1", identity=bytes(range(32)))]


def built(box: Box, model: Model, before: Tree | None = None) -> Tree:
    """A tree of a model. Rows that the tree before has alike stay; added again they give the same tree."""
    whole, less = Builder(box, before=before), Builder(box, before=before)
    for name, (data, fields) in sorted(model.items()):
        whole.add(name, data, fields)
        place = before.places.get(name) if before and less.follows else None
        if before is not None and place is not None and before.view(place) == data and before.meta(place) == fields:
            less.stay([place])
        else:
            less.add(name, data, fields)
    made = less.finish()
    assert whole.finish() == made
    return open_tree(box, made)


def told(tree: Tree) -> Model:
    return {name: (bytes(tree.view(place)), dict(tree.meta(place))) for name, place in tree.places.items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and packs so small that a few rows make many."""
    monkeypatch.setattr(table, "PAGE_ROWS", 4)
    monkeypatch.setattr(table, "FEW_ROWS", 2)
    monkeypatch.setattr(table, "PAGE_BYTES", 900)
    monkeypatch.setattr("cdl.store.store.PACK_BYTES", 64)
    monkeypatch.setattr("cdl.store.seal.PACK_BYTES", 64)
    monkeypatch.setattr("cdl.store.store.WHOLE_BYTES", 30)


@pytest.mark.usefixtures("small")
@given(models=MODELS)
def test_a_tree_is_a_dictionary_through_any_versions(
    tmp_path_factory: pytest.TempPathFactory, models: list[Model]
) -> None:
    for box in boxes(tmp_path_factory.mktemp("box")):
        before: Tree | None = None
        for model in models:
            tree = built(box, model, before)
            assert told(tree) == {name: (data, dict(fields)) for name, (data, fields) in model.items()}
            assert len(tree) == len(model) == len({*tree.names})
            alone = built(box, model)
            assert content_of(box, alone.table.name) == content_of(box, tree.table.name)  # type: ignore[union-attr]
            again = built(box, model, before)
            assert again.table.name == tree.table.name  # type: ignore[union-attr]
            pages = [page for page, _ in tree.table.parts()]  # type: ignore[union-attr]
            assert all(page.needs == tuple(sorted(page.needs)) for page in pages)
            before = tree


@pytest.mark.usefixtures("small")
@given(first=MODELS, second=MODELS)
def test_other_contents_have_another_digest(
    tmp_path_factory: pytest.TempPathFactory, first: list[Model], second: list[Model]
) -> None:
    for box in boxes(tmp_path_factory.mktemp("box")):
        one, two = (built(box, models[-1]).table.name for models in (first, second))  # type: ignore[union-attr]
        assert (content_of(box, one) == content_of(box, two)) == (
            told(open_tree(box, one)) == told(open_tree(box, two))
        )


def many(count: int, start: int = 0) -> Model:
    numbers = random.Random(7)
    return {
        f"{numbers.getrandbits(64) + n:020x}": (f"content {n}".encode() * 9, {}) for n in range(start, start + count)
    }


@pytest.mark.parametrize("number", [0, 1])
def test_a_change_writes_in_proportion_to_itself(tmp_path: Path, number: int) -> None:
    box, store = boxes(tmp_path)[number], Store(tmp_path)
    model = dict(many(20_000))
    tree = built(box, model)
    before = {*store.names()}
    whole = sum(map(store.size, before))
    names = list(model)
    model |= {f"new/{n}": (f"new {n}".encode(), {}) for n in range(10)}
    tree = built(box, model, tree)
    appended = {*store.names()} - before
    assert len(appended) <= 4 and sum(map(store.size, appended)) < whole / 15
    before |= appended
    model[names[50]] = (b"another", {})
    del model[names[9_000]]
    tree = built(box, model, tree)
    changed = {*store.names()} - before
    assert told(tree) == model
    assert len(changed) <= 5 and sum(map(store.size, changed)) < whole / 8, "two pages, the last one, a pack, the root"


def test_what_another_tree_has_is_not_stored_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = many(3_000)
    first = built(store, model)
    size = sum(store.size(name) for name in store.names())
    builder = Builder(store, known=[first])
    for name, (data, _) in model.items():
        builder.add(f"other/{name}", data)
    second = open_tree(store, builder.finish())
    assert second.table is not None and first.table is not None
    assert second.table.root["needs"] == first.table.root["needs"]
    assert sum(store.size(name) for name in store.names()) < size * 2


def test_a_large_content_is_cut_where_its_bytes_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdl.store.chunk.CHUNKED_BYTES", 5_000_000)
    for box in boxes(tmp_path):
        store = Store(tmp_path)
        data = bytearray(random.Random(3).randbytes(30_000_000))
        tree = built(box, {"large": (bytes(data), {}), "small": (b"x", {})})
        assert bytes(tree.view(0)) == data and int(tree.rows.columns["at"][0]) == CHUNKED
        before = {*store.names()}
        data[15_000_000] ^= 1
        second = built(box, {"large": (bytes(data), {}), "small": (b"x", {})}, tree)
        new = sorted(store.size(name) for name in {*store.names()} - before)
        assert second.get("large") == data and second.hash(second.places["large"]) != tree.hash(0)
        assert sum(size > 100_000 for size in new) <= 2 and sum(new) < 5_000_000, new
        third = built(box, {"large": (b"in front" + bytes(data), {}), "small": (b"x", {})}, second)
        assert third.get("large") == b"in front" + data


def test_items_of_one_content_share_its_place(tmp_path: Path) -> None:
    tree = built(Store(tmp_path), {f"{n:03d}": (b"the same", {"n": n}) for n in range(50)})
    assert {*tree.rows.columns["at"].tolist()} == {0} and {*tree.rows.columns[PACK].tolist()} == {0}
    assert [tree.meta(tree.places["007"]), tree.find(tree.hash(7)), tree.find(bytes(32))] == [{"n": 7}, 0, None]


def test_names_that_escape_or_stand_twice_are_refused(tmp_path: Path) -> None:
    for name in ("../x", "/x", "a//b", "a/./b", "", "a\0b", "a/.."):
        builder = Builder(Store(tmp_path))
        builder.add(name, b"")
        with pytest.raises(Corrupt, match="normalized"):
            builder.finish()
    builder = Builder(Store(tmp_path))
    builder.add("a", b"")
    builder.add("a", b"x")
    with pytest.raises(Corrupt, match="twice"):
        builder.finish()
    tree = built(Store(tmp_path), {"a": (b"", {})})
    with pytest.raises(NotFound, match="no b"):
        tree.get("b")


def test_what_was_sealed_with_another_key_is_sealed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = (Vault(store, bytes([n]) * 32, f"k-{n}", identity=bytes(32), older={"k-1": b"\1" * 32}) for n in (1, 2))
    model = many(2_000)
    first = built(old, model)
    second = built(new, {**model, "one more": (b"x", {})}, open_tree(new, first.table.name))  # type: ignore[union-attr]
    assert first.table is not None and second.table is not None
    assert not {*first.table.root["needs"]} & {*second.table.root["needs"]}
    assert not {page.name for page in first.table.pages} & {page.name for page in second.table.pages}


def test_hostile_pages_and_roots_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good = built(store, many(10))
    assert good.table is not None
    root, page = store.get(good.table.name), store.get(good.table.pages[0].name)
    for wrong in (page[:-3], page.replace(b"<u8", b"|O8"), page.replace(b"name", b"nama"), b"cdl-page-1\n\xc0"):
        name = store.put(wrong)
        with pytest.raises(Corrupt):
            open_tree(store, store.put(root.replace(good.table.pages[0].name.encode(), name.encode())))
    for old, new in ((b'"count":10', b'"count":9'), (b'"pages"', b'"pagos"'), (b"[[10", b'[["x"')):
        with pytest.raises(Corrupt):
            open_tree(store, store.put(root.replace(old, new)))
    sizes = good.rows.columns["size"].copy()
    sizes[9] += 1
    beyond = Rows({**good.rows.columns, "size": sizes}, good.rows.needs)
    with pytest.raises(Corrupt, match="more than there is"):
        open_tree(store, write(store, [beyond], content="")).take(range(10))
    hashes = good.rows.columns["hash"].copy()
    hashes[4, 0] ^= 1
    lying = open_tree(store, write(store, [Rows({**good.rows.columns, "hash": hashes}, good.rows.needs)], content=""))
    assert lying.unfit() == [good.names[4]] and good.unfit() == []
    starts = good.rows.columns["at"].copy()
    starts[[2, 3]] = starts[
        [3, 2]
    ]  # as long as each other: each says the hash of the one and lies where the other does
    swapped = open_tree(store, write(store, [Rows({**good.rows.columns, "at": starts}, good.rows.needs)], content=""))
    assert {*swapped.unfit()} == {good.names[2], good.names[3]}
    follows = Builder(store, before=swapped)
    for name, data in sorted(good.contents().items()):
        follows.add(name, data)
    after = open_tree(store, follows.finish())
    assert after.contents() == good.contents() and after.unfit() == []
    assert Table(store, good.table.name).page_of(9).name == good.table.pages[0].name


@given(seed=st.integers(0, 99), size=st.integers(1, 9_000_000), window=st.integers(1_000, 4_000_000))
@settings(max_examples=15, deadline=None)
def test_chunks_do_not_depend_on_the_pieces_in_which_a_content_comes(seed: int, size: int, window: int) -> None:
    data = memoryview(random.Random(seed).randbytes(size))
    parts = [bytes(part) for part in chunk.cut(data)]
    left = io.BytesIO(data)

    def fill(room: memoryview) -> int:
        return left.readinto(room[:window])

    assert [bytes(part) for part in chunk.cut(fill)] == parts and b"".join(parts) == data
    assert all(len(part) <= chunk.LARGEST for part in parts)
