"""A service at load, undisturbed, with swaps and with killed workers, for `scripts/bench service`."""

import itertools
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.deployment.test_load import BIASES, Told, swap, under_load, workers_of
from tests.deployment.test_serve import package

from cdl.deployment import control

SECONDS = 10.0  # of one run
EVERY_SECONDS = 2.5  # a swap, or a kill
TICKS = os.sysconf("SC_CLK_TCK")
Found = dict[tuple[str, str, str], list[float]]


@dataclass
class Bench:
    """One service, and what is done to it."""

    folder: Path
    packages: list[Path]
    port: int

    def steady(self) -> None:
        """Nothing."""

    def swapped(self) -> None:
        """New workers of another package."""
        self.packages = [*self.packages[1:], self.packages[0]]
        swap(self.folder, self.packages[0])

    def killed(self) -> None:
        """A worker killed by -9."""
        for worker in control.ask(self.folder, op="status")["workers"][:1]:
            os.kill(worker, signal.SIGKILL)

    def run(self, act: Callable[[], None]) -> tuple[Told, float]:
        """The load for SECONDS; what clients saw, and the CPU microseconds of all processes of the service for one request."""
        before = self.cpu()
        with under_load(self.port, self.folder) as told:
            end = time.monotonic() + SECONDS
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(EVERY_SECONDS, left))
                if time.monotonic() < end:
                    act()
        return told, (self.cpu() - before) * 1e6 / len(told.answered)

    def cpu(self) -> float:
        """Seconds of the supervisor, of workers that ended, and of those that live."""
        supervisor = control.ask(self.folder, op="status")["pid"]
        return sum(_used(supervisor)) + sum(sum(_used(w)[:2]) for w in workers_of(self.folder))


def _used(process: int) -> list[float]:
    """User and system seconds of a process, and those of its children that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return []
    return [int(ticks) / TICKS for ticks in fields[11:15]]


def _memory(process: int) -> float:
    """Megabytes that a process has, shared ones divided."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def service(runs: int) -> Found:
    """Values by (work, system, unit); the three in turn, so that each has the same neighbours on the machine."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        packages = [package(root / model, model=model, bias=bias) for model, bias in BIASES.items()]
        spec = {"package": str(packages[0]), "name": "toy", "port": 0, "replicas": 1}
        bench = Bench(root / "service", packages, control.start(root / "service", spec)["port"])
        works = {"undisturbed": bench.steady, "a swap": bench.swapped, "a kill": bench.killed}
        try:
            for number, (work, act) in itertools.product(range(runs), works.items()):
                told, cpu = bench.run(act)
                system = work if act == bench.steady else f"{work} every {EVERY_SECONDS} s"
                times = sorted(told.latencies)
                values = {
                    "us cpu a request": cpu,
                    "ms p50": 1000 * statistics.median(times),
                    "ms p95": 1000 * times[int(len(times) * 0.95)],
                    "ms longest": 1000 * times[-1],
                    "requests a second": len(told.answered) / SECONDS,
                    "failed": float(len(told.failed) + len(told.wrong)),
                }
                for unit, value in values.items():
                    found.setdefault(("16 connections", system, unit), []).append(value)
                if number == 0 and work == "undisturbed":
                    status = control.ask(bench.folder, op="status")
                    for kind, processes in (("worker", status["workers"]), ("spare", status["spares"])):
                        found["memory", kind, "MB"] = [_memory(p) for p in processes]
                    found["memory", "supervisor", "MB"] = [_memory(status["pid"])]
        finally:
            control.stop(bench.folder)
    return found
