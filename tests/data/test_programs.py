"""Data steps that are programs: with folders, and of standard input."""

import os
import shutil

import pytest

from cdl.data.items.item import Content, Rejected
from cdl.errors import JobFailed
from tests.data.desk import EACH, FAILED_EXIT, C, Desk, data, reasons, sealed_log
from tests.jobs.steps import parent


def test_a_command_may_get_all_items_at_once(desk: Desk) -> None:
    script = 'ls "$CDL_IN" | grep -vc items; cp "$CDL_IN"/0* "$CDL_OUT"'
    assert len(data(desk.folders([b"x"] * 150, script, per="all"))) == 150
    assert sealed_log(desk).split() == ["150"]


def test_a_command_gets_batches_of_items_by_neutral_names(desk: Desk) -> None:
    script = EACH + 'tr a-z A-Z < "$f" > "$CDL_OUT/$n"; done; ls "$CDL_IN"; echo; cat "$CDL_IN/items.jsonl"'
    found = desk.work([b"a%d" % n for n in range(25)], ["sh", "-c", script], io="folders", batch=10)
    assert data(found) == [b"A%d" % n for n in range(25)]
    assert [o.fields for _, o in found if isinstance(o, Content)] == [{"n": n} for n in range(25)]
    log = sealed_log(desk)
    assert log.count('{"file": "000000", "fields"') == 3 and log.count("000009\n") == 2 and '{"n": 24}' in log


def test_outcomes_that_fit_no_message_come_in_several(desk: Desk) -> None:
    found = data(desk.folders([b"a", b"b", b"c"], EACH + 'head -c 40000000 /dev/zero > "$CDL_OUT/$n"; done'))
    assert [len(each) for each in found] == [40_000_000] * 3


def test_a_compiled_program_is_a_step(desk: Desk) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    (desk.root / "upper.c").write_text(C)
    assert os.system(f"{compiler} -o {desk.root}/upper {desk.root}/upper.c") == 0
    found = desk.work([b"abc\n"] * 7, ["./upper"], io="folders", batch=3)
    assert data(found) == [b"ABC\n"] * 7


def test_a_command_rejects_and_changes_fields(desk: Desk) -> None:
    script = (
        EACH + 'if grep -q no "$f"; then printf "has a no\\nand more" > "$CDL_OUT/$n.reject"; '
        'else cp "$f" "$CDL_OUT/$n"; fi; done; '
        'echo \'{"file": "000002", "fields": {"k": [1]}}\' > "$CDL_OUT/items.jsonl"'
    )
    found = dict(desk.folders([b"a", b"no", b"c"], script))
    assert found == {
        "i0": Content(b"a", {"n": 0}),
        "i1": Rejected(Content(b"no", {"n": 1}), "has a no"),
        "i2": Content(b"c", {"k": [1]}),
    }
    long = desk.folders([b"a"], "yes x | tr -d '\\n' | head -c 1000000 > $CDL_OUT/000000.reject")
    assert reasons(long) == {"i0": "x" * 200}


def test_of_a_batch_that_fails_only_the_guilty_item_does(desk: Desk) -> None:
    contents = [b"bad" if n == 3 else b"%d" % n for n in range(8)]
    script = EACH + '! grep -q bad "$f" || exit 9; cp "$f" "$CDL_OUT/$n"; done; echo CANARY-$$'
    found = desk.folders(contents, script, on_error="aside")
    assert reasons(found) == {"i3": FAILED_EXIT}
    assert sealed_log(desk).count("exit code 9") == 2, "of the batch and of the item alone"
    with pytest.raises(JobFailed, match="^step work: the program ended with an exit code"):
        desk.folders(contents, script)
    assert b"CANARY" not in desk.open_bytes()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("ln -s /etc/passwd $CDL_OUT/000000", "no plain file"),
        ("ln -s $CDL_IN/000000 $CDL_OUT/000000", "no plain file"),
        ("mkdir $CDL_OUT/000000", "no plain file"),
        ("mkfifo $CDL_OUT/000000", "no plain file"),
        ("true", "neither a result nor a rejection"),
        ("cp $CDL_IN/0* $CDL_OUT; echo SECRET > $CDL_OUT/SECRET", "named like no item"),
        ("cp $CDL_IN/0* $CDL_OUT; echo x > $CDL_OUT/000001", "named like no item"),
        ("cp $CDL_IN/0* $CDL_OUT; echo x > $CDL_OUT/000000.reject", "a result and a rejection"),
        ("cp $CDL_IN/0* $CDL_OUT; echo SECRET > $CDL_OUT/items.jsonl", "items.jsonl is not lines"),
        ('cp $CDL_IN/0* $CDL_OUT; echo \'{"file": [], "fields": {}}\' > $CDL_OUT/items.jsonl', "items.jsonl is not lines"),
        ('cp $CDL_IN/0* $CDL_OUT; echo \'{"file": "000000", "fields": 1}\' > $CDL_OUT/items.jsonl', "items.jsonl is not"),
        ('cp $CDL_IN/0* $CDL_OUT; echo \'{"file": "../x", "fields": {}}\' > $CDL_OUT/items.jsonl', "items.jsonl is not"),
        ('cp $CDL_IN/0* $CDL_OUT; echo \'{"file": "000000", "fields": {"a": NaN}}\' > $CDL_OUT/items.jsonl', "a field that"),
        ("rm -r $CDL_OUT", "FileNotFoundError"),
        ("chmod 0 $CDL_OUT/../..; rm -rf $CDL_IN; exit 1", "exit code that means an error"),
    ],
)  # fmt: skip
def test_output_that_was_not_agreed_is_named_without_a_word_of_the_item(desk: Desk, script: str, says: str) -> None:
    with pytest.raises(JobFailed) as caught:
        desk.folders([b"a"], script)
    assert says in caught.value.message and "SECRET" not in str(caught.value)
    assert b"SECRET" not in desk.open_bytes()


def test_a_command_that_hangs_is_killed_with_what_it_started(desk: Desk) -> None:
    started = desk.root / ".cdl" / "started"
    hang = f"sleep 600 & echo $! >> {started}; wait"
    script = EACH + f'if grep -q bad "$f"; then {hang}; fi; cp "$f" "$CDL_OUT/$n"; done'
    found = desk.folders([b"a", b"bad", b"c"], script, timeout=2.0, on_error="aside")
    assert reasons(found) == {"i1": "failed: no end after 2 s"}
    sleeping = [int(process) for process in started.read_text().split()]
    assert len(sleeping) == 2 and all(parent(process) is None for process in sleeping)


def test_what_a_command_leaves_behind_holds_nobody_up_and_ends_with_the_worker(desk: Desk) -> None:
    """It has the command's streams, and would end in ten minutes."""
    started = desk.root / ".cdl" / "started"
    left = f"sleep 600 & echo $! >> {started}; "
    assert data(desk.work([b"a", b"b"], ["sh", "-c", left + "cat"])) == [b"a", b"b"]
    assert data(desk.folders([b"c"], left + 'cp "$CDL_IN"/0* "$CDL_OUT"')) == [b"c"]
    sleeping = [int(process) for process in started.read_text().split()]
    assert len(sleeping) == 3 and all(parent(process) is None for process in sleeping)


def test_a_command_of_standard_input_fails_item_by_item(desk: Desk) -> None:
    script = 'read x; case $x in bad) echo CANARY >&2; exit 1;; no) echo said no >&2; exit 3;; esac; echo "$x"'
    found = desk.work([b"a\n", b"bad\n", b"no\n"], ["sh", "-c", script], on_error="aside")
    assert reasons(found) == {"i1": FAILED_EXIT, "i2": "said no"}
    assert b"CANARY" not in desk.open_bytes() and "CANARY" in sealed_log(desk)
