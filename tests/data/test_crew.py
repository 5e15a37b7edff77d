"""Data steps over items, in real workers side by side."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cdl.config.schema import Step, WorkerResources
from cdl.data.items.item import Content
from cdl.data.workers import batches, crew, hand
from cdl.errors import ConfigError, JobFailed
from cdl.jobs.local import Jobs
from cdl.jobs.slots import Need
from tests.data.desk import CODE, EACH, FAILED_EXIT, Desk, data, hands, named, reasons
from tests.jobs.steps import parent


def test_outcomes_come_in_the_order_of_the_items(desk: Desk) -> None:
    contents = [f"item {n}".encode() for n in range(3000)]
    found = desk.work(contents, "steps:upper")
    assert [identity for identity, _ in found] == [f"i{n}" for n in range(3000)]
    assert data(found) == [content.upper() for content in contents]
    assert {tuple(o.fields.items()) for _, o in found[:2] if isinstance(o, Content)} == {(("n", 0),), (("n", 1),)}


def test_work_that_waits_gets_a_second_worker(desk: Desk) -> None:
    assert len(set(data(desk.work([b"x"] * 30, "steps:slow")))) == 2 == desk.workers()


def test_one_core_is_one_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_CPUS", "1")
    assert len(set(data(desk.work([b"x"] * 12, "steps:slow")))) == 1 == desk.workers()


def test_a_worker_that_takes_all_cores_is_the_only_one_and_waits_for_them(desk: Desk) -> None:
    found = desk.begin(named([b"x"] * 12), "steps:slow", resources=WorkerResources(cpus=2))
    first = next(found)
    held = {path.name for path in (desk.root / ".cdl" / "slots").iterdir()}
    assert len({*data([first, *found])}) == 1 and {"cpu-0", "cpu-1"} <= held
    with pytest.raises(ConfigError, match="asks for 3, this machine has 2") as caught:
        desk.work([b"x"], "steps:upper", resources=WorkerResources(cpus=3))
    assert caught.value.where == "cdl.yaml: steps: work.resources.cpus"


def test_one_item_starts_one_worker_and_none_starts_none(desk: Desk) -> None:
    assert desk.work([], "steps:upper") == [] and desk.workers() == 0
    assert data(desk.work([b"a"], "steps:upper")) == [b"A"] and desk.workers() == 1
    assert len(set(data(desk.work([b"a"] * 400, "steps:whose")))) == 1 and desk.workers() == 2


def test_items_are_drawn_a_bounded_number_ahead_in_the_callers_thread(desk: Desk) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            assert threading.current_thread() is threading.main_thread()
            drawn.append(len(drawn))
            yield b"x"

    found = desk.begin(named(endless()), "steps:upper")
    for given in range(1, 20_001):
        next(found)
        assert len(drawn) - given <= crew.AHEAD * 2 * batches.BATCH_ITEMS
    assert hands()
    found.close()
    assert not hands(), "its workers ended"


def test_large_items_are_not_drawn_by_the_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 1000)
    monkeypatch.setattr(crew, "AHEAD_BYTES", 5000)
    drawn: list[int] = []

    def large() -> Iterator[bytes]:
        for n in range(300):
            drawn.append(n)
            yield b"x" * 400

    for given, _ in enumerate(desk.begin(named(large()), "steps:upper"), 1):
        assert (len(drawn) - given) * 400 <= 5000 + 2 * 1400


def children() -> set[int]:
    return {int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) == os.getpid()}


def test_closing_early_kills_a_worker_at_work(desk: Desk) -> None:
    others = children()  # of this process, for other tests
    found = desk.begin(named([b"a", b"bad"]), "steps:hangs")
    assert next(found)[0] == "i0"
    workers = children() - others
    start = time.monotonic()
    found.close()
    assert workers and time.monotonic() - start < 60 and all(parent(worker) is None for worker in workers)


def test_closing_early_ends_what_is_tried_again(desk: Desk) -> None:
    found = desk.begin(named([b"a", b"bad"]), "steps:dies", retries=1_000_000)
    assert next(found)[0] == "i0"
    found.close()
    assert not hands()


def test_a_command_that_leaves_the_outcomes_half_read_ends(desk: Desk) -> None:
    child = os.fork()
    if child == 0:
        found = desk.begin(named([b"x"] * 2000), "steps:upper")
        next(found)
        globals()["held"] = found  # as a traceback would
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter waits for at its end
        os._exit(0)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_parameters_are_given_by_name(desk: Desk) -> None:
    [(_, found)] = desk.work([b"a"], "steps:repeat", parameters={"times": 3, "mark": "+"})
    assert found == Content(b"a+a+a", {"n": 0, "times": 3})
    assert data(desk.work([b"a"], "steps:alone", parameters={"times": 2})) == [b"aa"]
    with pytest.raises(JobFailed, match="does not take these parameters"):
        desk.work([b"a"], "steps:alone", parameters={"tims": 2}, on_error="aside")
    show = 'cat > /dev/null; cat "$CDL_PARAMETERS"'
    assert data(desk.work([b"a"], ["sh", "-c", show], parameters={"a": [1, "ä"]})) == ['{"a": [1, "ä"]}'.encode()]


def test_what_it_computes_is_its_identity_and_not_how(desk: Desk) -> None:
    def made(**options: Any) -> str:
        return desk.closure(Step(run="steps:upper", **options)).id

    how: dict[str, Any] = {
        "retries": 3,
        "timeout": 5.0,
        "on_error": "aside",
        "resources": WorkerResources(cpus=2),
        "batch": 7,
    }
    assert made() == made(**how) and made() == made(parameters={})
    assert len({made(), made(parameters={"a": 1}), made(parameters={"a": 2}), made(io="folders")}) == 4


def test_an_item_that_fails_stops_the_run_and_tells_nothing_of_itself(desk: Desk) -> None:
    with pytest.raises(JobFailed) as caught:
        desk.work([b"a", b"bad", b"c"], "steps:odd")
    assert caught.value.message == "ValueError" and caught.value.where == f"steps.py:{line('CANARY')}"
    assert b"CANARY bad" in desk.vault.get((caught.value.remedy or "").split()[-1])
    assert b"CANARY" not in desk.open_bytes()


def test_an_item_that_fails_is_set_aside_and_its_log_is_named(desk: Desk) -> None:
    found = desk.work([b"a", b"bad", b"no", b"c"], "steps:odd", on_error="aside")
    assert reasons(found) == {"i1": "failed: ValueError", "i2": "said no"}
    assert [identity for identity, _ in found] == ["i0", "i1", "i2", "i3"] and desk.workers() == 1
    [said] = desk.said
    assert said.startswith("work: items failed and were set aside")
    assert b"ValueError: CANARY bad" in desk.vault.get(said.split()[-1]) and b"CANARY" not in desk.open_bytes()


@pytest.mark.parametrize(("run", "options"), [("steps:dies", {}), ("steps:hangs", {"timeout": 2.0})])
def test_a_worker_that_dies_or_hangs_is_the_guilty_items_failure(desk: Desk, run: str, options: dict[str, Any]) -> None:
    contents = [b"bad" if n == 41 else b"%d" % n for n in range(60)]
    found = desk.work(contents, run, on_error="aside", **options)
    why = "no end after 2 s" if options else "the worker ended before it answered: the other side ended"
    assert reasons(found) == {"i41": "failed: " + why}
    assert data([pair for pair in found if pair[0] != "i41"]) == [c for c in contents if c != b"bad"]
    with pytest.raises(JobFailed, match=why):
        desk.work(contents, run, **options)


def test_a_failing_item_is_tried_again(desk: Desk) -> None:
    where = {"folder": str(desk.root / ".cdl")}
    found = desk.work([b"a", b"b", b"c"], "steps:second", parameters=where, retries=2)
    assert data(found) == [b"a", b"b", b"c"]
    assert sorted((desk.root / ".cdl/tries").read_text().split()) == sorted("abc" * 3)
    (desk.root / ".cdl/tries").unlink()
    found = desk.work([b"a"], "steps:second", parameters=where, retries=1, on_error="aside")
    assert reasons(found) == {"i0": "failed: OSError"} and (desk.root / ".cdl/tries").read_text().split() == ["a", "a"]


def test_code_that_cannot_be_opened_is_no_items_fault(desk: Desk) -> None:
    (desk.root / "steps.py").write_text("raise KeyError('x')\n")
    with pytest.raises(JobFailed, match="KeyError"):
        desk.work([b"a"], "steps:upper", on_error="aside", retries=3)


def test_a_function_may_get_all_items_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    found = desk.work([b"c", b"a", b"no", b"b"], "steps:ranks", per="all", parameters={"unit": "."})
    assert reasons(found) == {"i2": "said no"}
    assert [o for _, o in found if isinstance(o, Content)] == [
        Content(b"2.", {"n": 0, "of": 4}),
        Content(b"0.", {"n": 1, "of": 4}),
        Content(b"1.", {"n": 3, "of": 4}),
    ]
    monkeypatch.setattr(hand, "PART_BYTES", 50)
    many = [b"%04d" % n for n in range(2000)]
    assert data(desk.work(many, "steps:ranks", per="all")) == [b"%d" % n for n in range(2000)]
    assert desk.work([], "steps:ranks", per="all") == [] and desk.workers() == 2


@pytest.mark.parametrize(("guilty", "says"), [(b"bad", "ValueError"), (b"lost", "another number of outcomes")])
def test_of_a_step_over_all_items_the_whole_fails(desk: Desk, guilty: bytes, says: str) -> None:
    with pytest.raises(JobFailed, match=says) as caught:
        desk.work([b"a", guilty, b"b"], "steps:ranks", per="all", retries=1)
    log = desk.vault.get((caught.value.remedy or "").split()[-1])
    assert log.count(b"Traceback") == 2, "tried twice"
    assert b"CANARY" not in desk.open_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are Linux's")
def test_what_takes_more_memory_than_its_worker_may_fails_alone(desk: Desk) -> None:
    memory = {"resources": WorkerResources(memory=400), "on_error": "aside"}
    contents = [b"1", b"900000000", b"2"]
    assert reasons(desk.work(contents, "steps:takes", **memory)) == {"i1": "failed: MemoryError"}
    script = EACH + 'python3 -c "bytearray($(cat $f))" || exit 9; cp "$f" "$CDL_OUT/$n"; done'
    assert reasons(desk.folders(contents, script, **memory)) == {"i1": FAILED_EXIT}
    assert reasons(desk.work(contents, "steps:takes")) == {}


def test_a_worker_that_waits_for_a_slot_holds_nobody_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has one of two slots for ever: who got the other one gives it back when it has nothing to do."""
    monkeypatch.setenv("CDL_CPUS", "2")
    found: list[bytes] = []

    def work() -> None:
        found.extend(data(desk.work([b"x"] * 12, ["sh", "-c", "sleep 0.2; cat"], resources=WorkerResources(cpus=1))))

    with Jobs(desk.jobs.store, desk.jobs.journal, desk.jobs.git, who="b").slots.taken(Need(cpus=1, key="held")):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(60)
        assert found == [b"x"] * 12, "it waits for ever"


@pytest.mark.parametrize(
    ("run", "parameters", "says"),
    [
        (["./steps.py"], {}, "could not be started"),
        ("steps:says", {}, "neither bytes nor"),
        ("steps:nowhere", {}, "no such function"),
        ("steps:C", {}, "no such function"),
        ("steps:alone", {"content": 1}, "or it does not take these parameters"),
        ("steps:large", {}, "larger than 1 GB"),
    ],
)
def test_a_step_that_does_not_do_what_was_agreed_is_told_in_words(
    desk: Desk, run: str | list[str], parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(JobFailed, match=f"^step work: .*{says}"):
        desk.work([b"a"], run, parameters=parameters)


def test_a_reason_is_a_text_that_can_be_printed(desk: Desk) -> None:
    found = desk.work([b"a"], ["sh", "-c", "head -c 300 /dev/zero >&2; exit 3"])
    assert reasons(found) == {"i0": "\ufffd" * 200}


def line(text: str) -> int:
    return 1 + next(n for n, each in enumerate(CODE.splitlines()) if text in each)
