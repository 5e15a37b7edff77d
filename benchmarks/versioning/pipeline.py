"""An incremental pipeline with a step of 5 ms an item: as a Python function, a shell command, and a compiled program in batches.

Each writes a byte for every item that it works into a file outside, so that what is worked is counted and not believed.
"""

import os
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from versioning import material
from versioning.systems import CDL, declare
from versioning.taking import Found, run, take

STEP_SECONDS = 0.005
BATCH = 100
SECTION = """
data:
  items:
    source: {path: incoming}
    items: {files: "*"}
    split: {test: 0.2}
    steps:
    - work: STEP
"""
PYTHON = """
import os, time

COUNT = os.open("COUNTED", os.O_WRONLY | os.O_APPEND)

def work(content):
    time.sleep(0.005)
    os.write(COUNT, b".")
    return content + b"!"
"""
SHELL = """
for file in "$CDL_IN"/0*; do
  sleep 0.005
  { cat "$file"; printf '!'; } > "$CDL_OUT/${file##*/}"
  printf . >> COUNTED
done
"""
C = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void) {
  char path[4096], data[65536];
  struct timespec wait = {0, 5000000};
  int count = open("COUNTED", O_WRONLY | O_APPEND);
  DIR *in = opendir(getenv("CDL_IN"));
  for (struct dirent *e; (e = readdir(in));) {
    if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
    nanosleep(&wait, NULL);
    snprintf(path, sizeof path, "%s/%s", getenv("CDL_IN"), e->d_name);
    int from = open(path, O_RDONLY);
    ssize_t size = read(from, data, sizeof data - 1);
    close(from);
    data[size] = '!';
    snprintf(path, sizeof path, "%s/%s", getenv("CDL_OUT"), e->d_name);
    int to = open(path, O_WRONLY | O_CREAT, 0644);
    if (write(to, data, size + 1) != size + 1 || write(count, ".", 1) != 1) return 1;
    close(to);
  }
  return 0;
}
"""
STEPS: Mapping[str, str] = {
    "python": '{run: "steps:work"}',
    "shell": f"{{run: [sh, work.sh], files: [work.sh], io: folders, batch: {BATCH}}}",
    "compiled": f"{{run: [./work], files: [work], io: folders, batch: {BATCH}}}",
}


def pipeline(found: Found, folder: Path, items: int) -> None:
    """First run, nothing changed, one item changed: pieces worked, and seconds over the start of a process."""
    for kind, step in STEPS.items():
        compiler = shutil.which("cc") or shutil.which("gcc")
        if kind == "compiled" and compiler is None:
            continue
        root, counted = folder / "root", folder / "counted"
        counted.write_bytes(b"")
        root.mkdir()
        _write(root, kind, counted, compiler or "")
        declare(root, SECTION.replace("STEP", step))
        material.files(root / "incoming", range(items))
        over = statistics.median(take(root, [CDL, "--help"]).wall for _ in range(3))
        cores = len(os.sched_getaffinity(0))
        found.note(f"{kind} step: first run", "least", "s wall", _alone(root, kind) * items / cores)
        _run(found, f"{kind} step: first run", root, counted, over)
        _run(found, f"{kind} step: nothing changed", root, counted, over)
        (root / "incoming/000/0000000.txt").write_bytes(b"changed")
        _run(found, f"{kind} step: one changed", root, counted, over)
        shutil.rmtree(root)


def _run(found: Found, work: str, root: Path, counted: Path, over: float) -> None:
    before = counted.stat().st_size
    taken = found.take(work, "cdl", root, [CDL, "data", "run"])
    found.note(work, "cdl", "s wall over start-up", taken.wall - over)
    found.note(work, "cdl", "pieces worked", counted.stat().st_size - before)


def _alone(root: Path, kind: str) -> float:
    """Seconds an item that a program takes by itself, in one process for a batch; of a function what it sleeps."""
    if kind == "python":
        return STEP_SECONDS
    command = {"shell": ["sh", "work.sh"], "compiled": ["./work"]}[kind]
    with TemporaryDirectory() as name:
        places = {what: Path(name) / what for what in ("CDL_IN", "CDL_OUT")}
        for place in places.values():
            place.mkdir()
        for number in range(BATCH):
            (places["CDL_IN"] / f"{number:06d}").write_bytes(b"x" * 600)
        start = time.perf_counter()
        run(root, "env", *(f"{what}={place}" for what, place in places.items()), *command)
        return (time.perf_counter() - start) / BATCH


def _write(root: Path, kind: str, counted: Path, compiler: str) -> None:
    """The step's code."""
    name, code = {"python": ("steps.py", PYTHON), "shell": ("work.sh", SHELL), "compiled": ("work.c", C)}[kind]
    (root / name).write_text(code.replace("COUNTED", str(counted)))
    if kind == "compiled":
        run(root, compiler, "-O2", "-o", "work", name)
