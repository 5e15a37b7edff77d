"""Data steps over items, in real workers."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdl.config.schema import Step, WorkerResources
from cdl.data.items.item import Content, Rejected
from cdl.data.workers import batches, crew, hand
from cdl.data.workers.crew import Crew
from cdl.errors import ConfigError, JobFailed
from cdl.git.repository import Git
from cdl.git.snapshot import snapshot
from cdl.jobs.closure import Closure, closure
from cdl.jobs.environment import environment
from cdl.jobs.local import Jobs
from cdl.jobs.slots import Need
from cdl.journal.journal import Journal
from cdl.store.seal import Vault
from cdl.store.store import Store
from tests.jobs.steps import parent

CODE = """
import os, sys, time
from cdl.data.reject import Reject

def upper(content): return content.upper()
def takes(content): return str(len(bytearray(int(content)))).encode()
def slow(content): time.sleep(0.1); return str(os.getpid()).encode()
def whose(content): return str(os.getpid()).encode()
def repeat(content, fields, times, mark="-"): return mark.join([content.decode()] * times).encode(), {**fields, "times": times}
def says(content): return content.decode()
def large(content): return bytes(1_000_000_001)
C = 1
def alone(content, times): return content * times
def odd(content):
    if content == b"bad":
        raise ValueError("CANARY " + content.decode())
    if content == b"no":
        raise Reject("said no")
    return content
def dies(content):
    if content == b"bad":
        os._exit(int(content == b"bad") + 6)
    return content
def hangs(content):
    if content == b"bad":
        time.sleep(600)
    return content
def ranks(items, unit=""):
    order = sorted(content for content, _ in items)
    if b"bad" in order:
        raise ValueError("CANARY")
    for content, fields in items:
        if content == b"no":
            yield Reject("said no")
        elif content != b"lost":
            yield str(order.index(content)).encode() + unit.encode(), {**fields, "of": len(items)}
def second(content, folder):
    with open(folder + "/tries", "a") as file:
        file.write(content.decode() + chr(10))
    if open(folder + "/tries").read().split().count(content.decode()) < 3:
        raise OSError("not yet")
    return content
"""
C = r"""
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
/* upper TO FROM NAME...: each named file of a folder in capitals */
int main(void) {
    char from[4096], to[4096];
    for (int n = 0; ; n++) {
        snprintf(from, sizeof from, "%s/%06d", getenv("CDL_IN"), n);
        snprintf(to, sizeof to, "%s/%06d", getenv("CDL_OUT"), n);
        FILE *in = fopen(from, "rb");
        if (!in) return 0;
        FILE *out = fopen(to, "wb");
        for (int c; (c = getc(in)) != EOF; ) putc(toupper(c), out);
        fclose(in);
        fclose(out);
    }
}
"""
EACH = 'for f in "$CDL_IN"/0*; do n=${f##*/}; '  # a loop over the items of a batch; `f` is the file, `n` its name
FAILED_EXIT = "failed: the program ended with an exit code that means an error"
Outcomes = list[tuple[str, Content | Rejected]]


class Desk:
    """A project with steps.py, and steps run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        Git.init(root)
        (root / "steps.py").write_text(CODE)
        (root / ".gitignore").write_text(".cdl/\n")
        self.jobs = Jobs(Store(root / ".cdl" / "store"), Journal(root / ".cdl"), Git(root), who="a@example.org")
        self.vault = Vault(self.jobs.store, bytes(32), "k-1", identity=bytes(32))

    def closure(self, step: Step) -> Closure:
        git = self.jobs.git
        return closure(
            git.files(snapshot(git).tree), git.cat, [step.run or []], declared=step.files, section=step.identity()
        )

    def begin(
        self, items: Iterable[tuple[str, Content]], run: str | list[str], **options: Any
    ) -> Generator[tuple[str, Content | Rejected]]:
        step = Step(run=run, **options)
        crew = Crew(
            self.jobs,
            self.vault,
            name="work",
            step=step,
            code=self.closure(step),
            environment=environment(None),
            tell=self.said.append,
        )
        return crew.outcomes(items)

    def work(self, contents: Iterable[bytes], run: str | list[str], **options: Any) -> Outcomes:
        return list(self.begin(named(contents), run, **options))

    def folders(self, contents: Iterable[bytes], script: str, **options: Any) -> Outcomes:
        return self.work(contents, ["sh", "-c", script], io="folders", **options)

    def workers(self) -> int:
        return len(self.jobs.journal.events("job.finished"))

    def open_bytes(self) -> bytes:
        return b"".join(p.read_bytes() for p in (self.root / ".cdl").rglob("*") if p.is_file())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    monkeypatch.setenv("CDL_CPUS", "2")
    return Desk(tmp_path)


def named(contents: Iterable[bytes]) -> Iterator[tuple[str, Content]]:
    for number, content in enumerate(contents):
        yield f"i{number}", Content(content, {"n": number})


def hands() -> list[threading.Thread]:
    """The threads in front of workers; other tests may have others."""
    return [thread for thread in threading.enumerate() if thread.name == "step"]


def data(outcomes: Outcomes) -> list[bytes]:
    assert all(isinstance(outcome, Content) for _, outcome in outcomes), outcomes
    return [outcome.data for _, outcome in outcomes if isinstance(outcome, Content)]


def reasons(outcomes: Outcomes) -> dict[str, str]:
    return {identity: outcome.reason for identity, outcome in outcomes if isinstance(outcome, Rejected)}


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


def test_a_command_of_standard_input_fails_item_by_item(desk: Desk) -> None:
    script = 'read x; case $x in bad) echo CANARY >&2; exit 1;; no) echo said no >&2; exit 3;; esac; echo "$x"'
    found = desk.work([b"a\n", b"bad\n", b"no\n"], ["sh", "-c", script], on_error="aside")
    assert reasons(found) == {"i1": FAILED_EXIT, "i2": "said no"}
    assert b"CANARY" not in desk.open_bytes() and "CANARY" in sealed_log(desk)


def line(text: str) -> int:
    return 1 + next(n for n, each in enumerate(CODE.splitlines()) if text in each)


def sealed_log(desk: Desk) -> str:
    """What all workers printed."""
    found = ""
    for event in desk.jobs.journal.events("job.finished"):
        claim = desk.jobs.store.claimed(f"jobs/{event.fields['job']}") or b""
        found += desk.vault.get(claim.decode().partition('"log": "')[2].partition('"')[0]).decode()
    return found
