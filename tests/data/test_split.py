import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cdl.data.pipeline.columns import from_hex
from cdl.data.pipeline.split import ASIDE, CODES, NAMES, TEST, TRAIN, Known, assign, hashed, validating

KEY = bytes(range(32))
SHARE = 0.4
STEP = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("uvwxyz"), max_size=8)
SETS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([TRAIN, TEST]), max_size=3)


@dataclass(frozen=True)
class Row:
    """An item there ever was; `before` is the side that it had before it was set aside."""

    id: str
    equal: str
    side: str
    before: str | None = None


def hexed(text: str) -> str:
    return text.encode().hex()


def columns(rows: Iterable[Row]) -> Known:
    """Rows as the split knows them; one value has four bytes."""
    every = list(rows)
    return Known(
        ids=from_hex([hexed(row.id.ljust(4)) for row in every], 4),
        equals=from_hex([hexed(row.equal.ljust(16)) for row in every], 16),
        sides=np.array([CODES[row.side] for row in every], dtype="|u1"),
        befores=np.array([CODES[row.before] for row in every], dtype="|u1"),
    )


def assigned(
    content: dict[str, str], ledger: Iterable[Row], declared: dict[str, str] | None = None, key: bytes = KEY
) -> dict[str, Row]:
    """The rows of items (id -> what they are equal by)."""
    given_ = columns(Row(i, e, TRAIN) for i, e in content.items())
    sets = np.array([CODES[(declared or {}).get(i)] for i in content], dtype="|u1")
    sides, befores = assign(given_.ids, given_.equals, sets, columns(ledger), key=key, share=SHARE)
    return {
        i: Row(i, e, str(NAMES[s]), NAMES[b])
        for (i, e), s, b in zip(content.items(), sides.tolist(), befores.tolist(), strict=True)
    }


def merged(ledger: Iterable[Row], rows: dict[str, Row]) -> list[Row]:
    """The next ledger: every item there ever was; an edited one also keeps what it was equal to before."""
    return list(({(r.id, r.equal): r for r in ledger} | {(r.id, r.equal): r for r in rows.values()}).values())


def version(
    content: dict[str, str], ledger: list[Row], declared: dict[str, str] | None = None
) -> tuple[dict[str, Row], list[Row]]:
    rows = assigned(content, ledger, declared)
    return rows, merged(ledger, rows)


def expected(content: dict[str, str], ledger: list[Row], declared: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """The rule as it is written: an equal item's side, else one's own before, else the declared one, else the hash."""
    own = {r.id: side for r in ledger if (side := r.before if r.side == ASIDE else r.side)}
    found = {}
    for item, equal in content.items():
        group = [i for i, e in content.items() if e == equal]
        standing = {r.side for r in ledger if r.equal == equal and r.side != ASIDE}
        before, said = {own[i] for i in group if i in own}, {declared[i] for i in group if i in declared}
        sides = standing or before or said or {hashed(hexed(equal.ljust(16)), key=KEY, share=SHARE)}
        met = sides | {own[item] for _ in "x" if item in own} | {declared[item] for _ in "x" if item in declared}
        found[item] = (next(iter(met)), None) if len(met) == 1 else (ASIDE, own.get(item))
    return found


@given(st.lists(st.tuples(STEP, SETS), max_size=6))
def test_sides_are_those_of_the_rule(history: list[tuple[dict[str, str], dict[str, str]]]) -> None:
    ledger: list[Row] = []
    for content, declared in history:
        wanted = expected(content, ledger, declared)
        rows, ledger = version(content, ledger, declared)
        assert {i: (r.side, r.before) for i, r in rows.items()} == wanted


@given(st.lists(STEP, max_size=6), st.randoms(use_true_random=False))
def test_items_that_stay_as_they_are_need_no_second_look(history: list[dict[str, str]], drawn: random.Random) -> None:
    """Whether unchanged items are given again makes no difference, unless they are set aside."""
    ledger: list[Row] = []
    for content in history:
        known = {(r.id, r.equal) for r in ledger if r.side != ASIDE}
        looked = {i: e for i, e in content.items() if (i, e) not in known or drawn.random() < 0.5}
        rows = assigned(content, ledger)
        assert {i: rows[i] for i in looked} == assigned(looked, ledger)
        ledger = merged(ledger, rows)


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
    turned = dict(reversed(second.items()))
    assert assigned(second, ledger) == assigned(turned, ledger[::-1])


def find(side: str, but: str = "") -> str:
    return next(
        t
        for n in range(100)
        if hashed(hexed((t := f"content {n}").ljust(16)), key=KEY, share=SHARE) == side and t != but
    )


def test_an_edited_item_keeps_its_side_and_an_equal_newcomer_follows() -> None:
    train, test = find(TRAIN), find(TEST)
    _, ledger = version({"a": train}, [])
    rows, _ = version({"a": test, "b": test}, ledger)
    assert rows["a"].side == TRAIN and rows["b"].side == TRAIN


def test_an_item_edited_into_one_of_the_other_side_is_set_aside() -> None:
    train, test = find(TRAIN), find(TEST)
    _, ledger = version({"a": train, "b": test}, [])
    rows, ledger = version({"a": test, "b": test}, ledger)
    assert rows["a"] == Row("a", test, ASIDE, TRAIN) and rows["b"].side == TEST
    rows, _ = version({"a": find(TEST, but=test), "b": test}, ledger)
    assert rows["a"].side == TRAIN, "edited again, it is on the side where it was"


def test_a_removed_item_comes_back_to_its_side() -> None:
    test = find(TEST)
    _, ledger = version({"a": test}, [])
    _, ledger = version({}, ledger)
    others = [t for n in range(50) if (t := f"other {n}")]
    rows = assigned({"z": test} | {f"i{n}": t for n, t in enumerate(others)}, ledger, key=bytes(32))
    assert rows["z"].side == TEST


def test_declared_sets_win_and_what_stands_in_both_is_set_aside() -> None:
    rows = assigned({"a": "x", "b": "y"}, [], {"a": TEST, "b": TRAIN})
    assert (rows["a"].side, rows["b"].side) == (TEST, TRAIN)
    assert {r.side for r in assigned({"c": "z", "d": "z"}, [], {"c": TEST, "d": TRAIN}).values()} == {ASIDE}


def test_the_share_is_about_what_was_asked_and_needs_the_key() -> None:
    equal = [f"item {i}" for i in range(4000)]
    sides = [hashed(e, key=KEY, share=0.2) for e in equal]
    assert 0.17 < sides.count(TEST) / len(sides) < 0.23
    assert sides != [hashed(e, key=bytes(32), share=0.2) for e in equal]
    assert 0.17 < sum(validating(equal, 0.2)) / len(equal) < 0.23
