from hypothesis import given
from hypothesis import strategies as st

from cdl.data.split import ASIDE, TEST, TRAIN, Item, Row, assign, hashed, merged, validating

KEY = bytes(range(32))
SHARE = 0.4
STEP = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("uvwxyz"), max_size=8)


def version(content: dict[str, str], ledger: list[Row]) -> tuple[dict[str, Row], list[Row]]:
    rows = assign([Item(id=i, equal=e) for i, e in content.items()], ledger, key=KEY, share=SHARE)
    return rows, merged(ledger, rows)


@given(st.lists(STEP, max_size=8))
def test_no_history_moves_an_item_or_splits_equal_ones(history: list[dict[str, str]]) -> None:
    """Any sequence of additions, edits, removals: a bytes-equal item never shows on both sides, now or ever."""
    ledger: list[Row] = []
    side_of_content: dict[str, str] = {}
    side_of_item: dict[str, str] = {}
    for content in history:
        rows, ledger = version(content, ledger)
        assert set(rows) == set(content)
        for row in rows.values():
            if row.side == ASIDE:
                continue
            assert side_of_content.setdefault(row.equal, row.side) == row.side
            assert side_of_item.setdefault(row.id, row.side) == row.side


@given(STEP, STEP)
def test_the_order_of_items_does_not_matter(first: dict[str, str], second: dict[str, str]) -> None:
    _, ledger = version(first, [])
    items = [Item(id=i, equal=e) for i, e in second.items()]
    assert assign(items, ledger, key=KEY, share=SHARE) == assign(items[::-1], ledger[::-1], key=KEY, share=SHARE)


def find(side: str, but: str = "") -> str:
    return next(t for n in range(100) if hashed(t := f"content {n}", key=KEY, share=SHARE) == side and t != but)


def test_an_edited_item_keeps_its_side_and_an_equal_newcomer_follows() -> None:
    train, test = find(TRAIN), find(TEST)
    _, ledger = version({"a": train}, [])
    rows, _ = version({"a": test, "b": test}, ledger)
    assert rows["a"].side == TRAIN and rows["b"].side == TRAIN


def test_an_item_edited_into_one_of_the_other_side_is_set_aside() -> None:
    train, test = find(TRAIN), find(TEST)
    _, ledger = version({"a": train, "b": test}, [])
    rows, ledger = version({"a": test, "b": test}, ledger)
    assert rows["a"] == Row(id="a", equal=test, side=ASIDE, before=TRAIN) and rows["b"].side == TEST
    rows, _ = version({"a": find(TEST, but=test), "b": test}, ledger)
    assert rows["a"].side == TRAIN, "edited again, it is on the side where it was"


def test_a_removed_item_comes_back_to_its_side() -> None:
    test = find(TEST)
    _, ledger = version({"a": test}, [])
    _, ledger = version({}, ledger)
    rows = assign([Item(id="z", equal=test)], ledger, key=bytes(32), share=0.0)
    assert rows["z"].side == TEST


def test_declared_sets_win_and_what_stands_in_both_is_set_aside() -> None:
    items = [Item(id="a", equal="x", declared=TEST), Item(id="b", equal="y", declared=TRAIN)]
    rows = assign(items, [], key=KEY, share=SHARE)
    assert (rows["a"].side, rows["b"].side) == (TEST, TRAIN)
    both = [Item(id="c", equal="z", declared=TEST), Item(id="d", equal="z", declared=TRAIN)]
    assert {r.side for r in assign(both, [], key=KEY, share=SHARE).values()} == {ASIDE}


def test_the_share_is_about_what_was_asked_and_needs_the_key() -> None:
    equal = [f"item {i}" for i in range(4000)]
    sides = [hashed(e, key=KEY, share=0.2) for e in equal]
    assert 0.17 < sides.count(TEST) / len(sides) < 0.23
    assert sides != [hashed(e, key=bytes(32), share=0.2) for e in equal]
    assert 0.17 < sum(validating(equal, 0.2)) / len(equal) < 0.23
