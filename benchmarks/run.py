"""Benchmarks: whole processes, CPU and wall time, medians; one record for each work and system.

{"work": "help", "system": "cdl", "unit": "ms cpu", "median": 81.2, "min": 79.9, "max": 90.3, "runs": 9}
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import news
import syncs
from service import service as service_at_load
from starts import Trials
from versioning import page, systems
from versioning.material import MANY, Sizes
from versioning.measure import measure

CDL = str(Path(sys.executable).with_name("cdl"))
REQUESTS = 50  # records of a project that is not new
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
DOCS_HELP = "of data: where its section is written; left out, docs/benchmarks.md, unless --quick or --scale"


def timed(command: list[str], folder: Path, runs: int) -> tuple[list[float], list[float]]:
    """CPU and wall milliseconds of each run, after one that is not counted."""
    cpu, wall = [], []
    for number in range(runs + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        took = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if number:
            cpu.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
            wall.append(took * 1000)
    return cpu, wall


def record(work: str, system: str, unit: str, values: list[float]) -> dict[str, object]:
    """One record of the result."""
    rounded = [round(v, 1) for v in (statistics.median(values), min(values), max(values))]
    return {
        "work": work,
        "system": system,
        "unit": unit,
        "median": rounded[0],
        "min": rounded[1],
        "max": rounded[2],
        "runs": len(values),
    }


def startup(runs: int) -> list[dict[str, object]]:
    """`import cdl`, `cdl --help` and `cdl status` on a warm project, beside a bare interpreter."""
    os.environ |= {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CDL_KEYRING"] = str(Path(folder) / "keyring")
        root = Path(folder) / "p"
        subprocess.run([CDL, "init", str(root)], check=True, capture_output=True)
        old = Path(folder) / "old"
        subprocess.run([CDL, "init", str(old)], check=True, capture_output=True)
        for number in range(REQUESTS):
            again = [CDL, "reopen", "training", "--because", f"reason {number}"]
            subprocess.run(again, cwd=old, check=True, capture_output=True)
        works = {
            ("import", "python"): [sys.executable, "-c", "pass"],
            ("import", "cdl"): [sys.executable, "-c", "import cdl"],
            ("help", "cdl"): [CDL, "--help"],
            ("status", "cdl"): [CDL, "status"],
            (f"status, {REQUESTS} open requests", "cdl"): [CDL, "status"],
        }
        for (work, system), command in works.items():
            cpu, wall = timed(command, old if "requests" in work else root, runs)
            found += [record(work, system, "ms cpu", cpu), record(work, system, "ms wall", wall)]
    return found


def digits(runs: int) -> list[dict[str, object]]:
    """Sealed accuracy of the example digits, all its images but the stream: with its published key, and with keys drawn anew."""
    os.environ |= {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
    keys = ["published"] + ["drawn"] * max(5, runs // 2)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, key in enumerate(keys):
            os.environ["CDL_KEYRING"] = str(Path(folder) / f"keyring-{number}")
            root = Path(folder) / f"digits-{number}"
            own = ["--own-key"] if key == "drawn" else []
            subprocess.run([CDL, "init", "--example", "digits", *own, str(root)], check=True, capture_output=True)
            for part in ("first", "later"):
                making = [sys.executable, "make_data.py", "--part", part]
                subprocess.run(making, cwd=root, check=True, capture_output=True)
            for command in (["run", "--yes"], ["approve"], ["experiment", "create", "one"], ["train"]):
                subprocess.run([CDL, *command], cwd=root, check=True, capture_output=True)
            said = subprocess.run([CDL, "model", "register", "e1", "--json"], cwd=root, check=True, capture_output=True)
            found.setdefault(key, []).append(json.loads(said.stdout)["measures"]["test.accuracy"] * 100)
    records = [record("sealed accuracy", f"digits, {key} key", "% of test items", v) for key, v in found.items()]
    for row, values in zip(records, found.values(), strict=True):
        row["mean"] = round(statistics.mean(values), 2)
    return records


def articles(runs: int) -> list[dict[str, object]]:
    """Sealed accuracy of the example news: with its published key, and with as many others as runs, the same for everybody."""
    found = {"published key": [news.measure(None)], "other keys": [news.measure(key) for key in range(runs)]}
    records = []
    for which, measured in found.items():
        work = f"news, {which}"
        row = record("sealed accuracy", work, "% of test items", [100 * m.accuracy for m in measured])
        row |= {"mean": round(statistics.mean(100 * m.accuracy for m in measured), 2)}
        row |= {"each": [round(100 * m.accuracy, 2) for m in measured], "test items": [m.test for m in measured]}
        records += [row, record("data, search, evaluation", work, "s wall", [m.seconds for m in measured])]
    return records


def trials(runs: int) -> list[dict[str, object]]:
    """From a job asked for to the end of its first optimizer step: a new interpreter beside a fork of a warmed template.

    Alone, a trial waits for its template to get warm; in a search only the first does.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def measure(work: str, measured: Trials) -> None:
        for system in measured.systems:
            found.setdefault((work, system), []).append(measured.start(system))

    with tempfile.TemporaryDirectory() as folder, Trials(Path(folder)) as measured:
        for number in range(max(3, runs // 2) + 1):
            measured.open()
            measure("start of one torch trial alone" if number else "not counted", measured)
        for _ in range(runs):
            measure("start of a torch trial", measured)
    found = {of: times for of, times in found.items() if of[0] != "not counted"}
    return [
        record(work, system, unit, [t[place] for t in times])
        for (work, system), times in found.items()
        for place, unit in enumerate(("ms cpu", "ms wall"))
    ]


def service(runs: int) -> list[dict[str, object]]:
    """CPU, latency and failures of a service at load: undisturbed, with swaps, with killed workers, in turn."""
    found = service_at_load(max(3, runs // 2))
    return [record(work, system, unit, values) for (work, system, unit), values in found.items()]


def sharing(runs: int) -> list[dict[str, object]]:
    """Objects to and from a shared store, and a sync with nothing to do; each a process with its start-up."""
    return [record(*found) for found in syncs.measure(max(3, runs // 3))]


def data(sizes: Sizes, docs: Path | None) -> list[dict[str, object]]:
    """Versioning and an incremental pipeline, beside DVC, git, a copy and Lance, where they are installed."""
    found = list(measure(sizes))
    if docs is not None:
        page.write(docs, found, sizes)
    return [record(*each) for each in found]


def main() -> None:
    """Runs one benchmark by name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["startup", "digits", "news", "trials", "service", "sharing", "data"])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="three runs instead of eleven; of news three keys instead of five; of data a hundredth of it, once",
    )
    parser.add_argument("--scale", type=float, metavar="SHARE", help="of data only such a share, once")
    parser.add_argument("--full", action="store_true", help="of data 1,000,000 files too")
    parser.add_argument("--docs", type=Path, metavar="FILE", help=DOCS_HELP)
    parser.add_argument("--json", metavar="FILE", help="write the records there too")
    parser.add_argument(
        "--install-peers",
        action="store_true",
        help="make the environments of what is compared with, where they are not there",
    )
    given = parser.parse_args()
    runs = 3 if given.quick else 5 if given.name == "news" else 11
    share = given.scale or (0.01 if given.quick else None)
    sizes = Sizes(many=MANY if given.full else 0)
    sizes = sizes if share is None else sizes.scaled(share)
    if given.install_peers:
        systems.install()
    works = {
        "startup": startup,
        "digits": digits,
        "news": articles,
        "trials": trials,
        "service": service,
        "sharing": sharing,
        "data": lambda _: data(sizes, given.docs or (DOCS if share is None else None)),
    }
    found = works[given.name](runs)
    for row in found:
        sys.stdout.write(json.dumps(row) + "\n")
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
