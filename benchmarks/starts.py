"""Trials that note when their first optimizer step is done, for `scripts/bench trials`."""

import os
import resource
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cdl.git.repository import Git
from cdl.git.snapshot import snapshot
from cdl.jobs.closure import closure
from cdl.jobs.environment import environment
from cdl.jobs.job import Job
from cdl.jobs.local import Jobs, Worker
from cdl.journal.journal import Journal
from cdl.model.arrays import array_bytes
from cdl.model.transform import LOOP
from cdl.model.warm import STEP
from cdl.store.store import Store

CODE = """
import os
import time
import torch
from torch import nn

def network(hyperparameters):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10))

def train(context):
    model = context.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    for _ in context.loop(model=model, optimizer=optimizer):
        x, y = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        context.report(cpu=time.process_time() * 1000, parent=os.getppid())
"""
ITEMS, SIDE, CLASSES = 64, 8, 10


class Trials:
    """A project in a folder, and its jobs both ways."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        Git.init(folder)
        (folder / "one.py").write_text(CODE)
        self.store = Store(folder / ".cdl" / "store")
        self.git = Git(folder)
        jobs = Jobs(self.store, Journal(folder / ".cdl"), self.git, who="a")
        self.systems = {"new interpreter": jobs, "template": jobs}
        self._plain = jobs
        self._open = ExitStack()
        self.template: int | None = None
        generator = np.random.default_rng(0)
        inputs = generator.random((ITEMS, 1, SIDE, SIDE), dtype=np.float32)
        labels = generator.integers(0, CLASSES, ITEMS)
        self.arrays = {
            f"{part}_{name}": self.store.put(array_bytes(array))
            for part in ("training", "validation")
            for name, array in (("inputs", inputs), ("labels", labels))
        }

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def open(self) -> None:
        """Ends the template that runs, if one does; the next job starts another."""
        self._open.close()
        self.systems["template"] = self._open.enter_context(self._plain.warmed())
        self.template = None

    def start(self, system: str) -> tuple[float, float]:
        """CPU milliseconds of all processes, and wall milliseconds, until the first step is done."""
        seen: list[tuple[float, float]] = []
        tree = self.git.files(snapshot(self.git).tree)
        code = closure(tree, self.git.cat, ["one:train"], declared=(), section=None)
        job = Job(loop=LOOP, closure=code, inputs=self.arrays, parameters={}, environment=environment(None), warm=STEP)
        forked = system == "template"
        before = own_cpu() + (scheduled(self.template) if forked else 0.0)
        start = time.perf_counter()

        def drive(worker: Worker) -> Mapping[str, str]:
            worker.tell(self.message())
            while "done" not in (message := worker.receive()):
                if "report" in message:
                    wall = (time.perf_counter() - start) * 1000
                    self.template = int(message["report"]["validation.parent"]) if forked else self.template
                    spent = own_cpu() + (scheduled(self.template) if forked else 0.0) - before
                    seen.append((spent + message["report"]["validation.cpu"], wall))
                else:
                    worker.tell({"stop": True})
            return {}

        self.systems[system].run(job, drive, fresh=True)
        return seen[0]

    def message(self) -> dict[str, Any]:
        """What the trainer is told."""
        return {
            "op": "train",
            "call": "one:train",
            "network": "one:network",
            "hyperparameters": {},
            "classes": [str(n) for n in range(CLASSES)],
            "epochs": 1,
            "until": 1,
            "seed": 0,
            "threads": 1,
            "device": "cpu",
            "start": None,
            "paths": {name: str(self.store.path(found)) for name, found in self.arrays.items()},
        }


def own_cpu() -> float:
    """CPU milliseconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used) * 1000


def scheduled(process: int | None) -> float:
    """CPU milliseconds of a process that runs."""
    if process is None:
        return 0.0
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6
