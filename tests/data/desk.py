"""A data step over items in real workers, as tests ask it: the code, and a project for it to run in."""

import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from cdl.config.schema import Step
from cdl.data.items.item import Content, Rejected
from cdl.data.workers.crew import Crew
from cdl.git.repository import Git
from cdl.git.snapshot import snapshot
from cdl.jobs.closure import Closure, closure
from cdl.jobs.environment import environment
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.store.seal import Vault
from cdl.store.store import Store

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


def sealed_log(desk: Desk) -> str:
    """What all workers printed."""
    found = ""
    for event in desk.jobs.journal.events("job.finished"):
        claim = desk.jobs.store.claimed(f"jobs/{event.fields['job']}") or b""
        found += desk.vault.get(claim.decode().partition('"log": "')[2].partition('"')[0]).decode()
    return found
