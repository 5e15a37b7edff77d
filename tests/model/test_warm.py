"""Trials forked from a warmed template: nothing of it is seen in what they leave."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdl.errors import ConfigError
from cdl.jobs.local import Jobs
from cdl.model import warm
from cdl.model.train import Plan, Trained, execute, plan, train
from cdl.model.trials import trials
from cdl.model.tune import search
from cdl.workflow.workspace import Workspace
from tests.jobs.steps import asking, make
from tests.projects import YAML, Toy, make_toy, table

NETWORK = '''
"""A dense network, wide enough that its tensors are worth two threads."""

import ctypes
import os
import random

import numpy as np
import torch
from torch import nn


def network(hyperparameters):
    layers = [nn.Linear(2, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 512), nn.Dropout(0.2), nn.Linear(512, 2)]
    return nn.Sequential(*layers)


def train(context):
    model = context.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001 * context.hyperparameters["rate"])
    x, y = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
    for epoch in context.loop(model=model, optimizer=optimizer):
        order = torch.randperm(len(x))
        loss = nn.functional.cross_entropy(model(x[order]), y[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        product = np.random.random((600, 600)) @ np.random.random((600, 600))
        found = model(torch.tensor(context.validation.inputs)).argmax(1).numpy() == context.validation.labels
        context.report(accuracy=float(found.mean()), product=float(product.sum()), random=random.random())
    context.report(threads=torch.get_num_threads(), blas=blas_threads(), parent=os.getppid())


def blas_threads():
    """The threads of numpy's OpenBLAS; 0 where numpy has another library."""
    for line in open("/proc/self/maps"):
        if "openblas" in line.rpartition("/")[2]:
            library = ctypes.CDLL(line.split()[-1])
            names = ("openblas_get_num_threads", "scipy_openblas_get_num_threads64_")
            return next((getattr(library, n)() for n in names if hasattr(library, n)), 0)
    return 0
'''
TORCH = YAML.replace('train: "model.side:train"', 'train: "model.net:train"').replace(
    'predict: "model.side:predict"', 'network: "model.net:network"'
)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    files = {"model/net.py": NETWORK}
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=TORCH, files=files)
    made.data(table(160))
    return made


PARENT = "validation.parent"  # a measure that says which process started a trial


def trained(workspace: Workspace, jobs: Jobs, what: Plan) -> Trained:
    return execute(workspace, jobs, what, fresh=True)


def same(one: Trained, other: Trained) -> bool:
    """Whether all that they left is equal; the process that they were started by is not."""
    measures = [{k: v for k, v in t.metrics.items() if k != PARENT} for t in (one, other)]
    left = [(t.weights, t.checkpoint, t.job, t.format) for t in (one, other)]
    return left[0] == left[1] and measures[0] == measures[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_weights_of_a_fork_and_of_a_new_process_are_equal_to_the_bit(toy: Toy, threads: int) -> None:
    workspace = toy.become("data@example.org")
    what = replace(plan(workspace, "side"), threads=threads)
    assert what.job().warm == warm.STEP
    fresh = trained(workspace, workspace.jobs, what)
    with workspace.jobs.warmed() as jobs:
        forked = [trained(workspace, jobs, what) for _ in range(2)]
    assert all(same(fresh, f) for f in forked)
    assert {t.metrics["validation.threads"] for t in (fresh, *forked)} == {threads}
    assert fresh.metrics[PARENT] == os.getpid() != forked[0].metrics[PARENT] == forked[1].metrics[PARENT]


def test_a_fork_goes_on_from_what_a_new_process_left(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    what = plan(workspace, "side")
    execute(workspace, workspace.jobs, replace(what, until=2))
    with workspace.jobs.warmed() as jobs:
        went_on = execute(workspace, jobs, what)
        straight = trained(workspace, jobs, what)
    assert (went_on.weights, went_on.checkpoint) == (straight.weights, straight.checkpoint)


def test_a_search_forks_all_its_trials_from_one_template_and_a_training_needs_none(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    alone = train(workspace, "side")
    assert alone.metrics[PARENT] == os.getpid()
    found = search(workspace, "side", changes={"max_trials": 3, "max_epochs": 2})
    parents = {t.metrics[PARENT] for t in found.trials}
    assert len(found.trials) == 3 and len(parents) == 1 and parents != {os.getpid()}
    assert {t.status for t in found.trials} <= {"finished", "paused"}
    assert not Path(f"/proc/{int(parents.pop())}").exists()


UNSEEDED = """
import random
import numpy, torch
def work(channel):
    channel.receive()
    channel.send({"answer": [torch.initial_seed(), float(numpy.random.random()), random.random(), hash("news")]})
    channel.receive()
"""


def test_no_random_number_comes_from_the_template(toy: Toy) -> None:
    toy.write("steps.py", UNSEEDED)
    workspace = toy.become("data@example.org")
    found: list[list[float]] = []
    with workspace.jobs.warmed() as jobs:
        for number in range(3):
            job = make(jobs, n=number, warm=warm.STEP if number else None)
            jobs.run(job, asking(found, "work"))
    drawn = [set(column) for column in zip(*found, strict=True)]
    assert [len(column) for column in drawn] == [3, 3, 3, 1]


def test_what_asks_for_too_much_is_refused_before_it_is_a_trial(toy: Toy) -> None:
    toy.write("cdl.yaml", TORCH.replace("    epochs: 4\n", "    epochs: 4\n    resources: {cpus: 4096}\n"))
    workspace = toy.become("data@example.org")
    for does in (train, search):
        with pytest.raises(ConfigError, match="asks for 4096") as caught:
            does(workspace, "side")
        assert caught.value.where == "cdl.yaml: model.side.resources.cpus"
    assert trials(workspace) == [] and not workspace.journal.events("search.started")


def test_accelerators_make_other_work_and_cores_do_not(toy: Toy) -> None:
    def planned(resources: str) -> Plan:
        toy.write("cdl.yaml", TORCH.replace("    epochs: 4\n", f"    epochs: 4\n    resources: {resources}\n"))
        return plan(toy.become("data@example.org"), "side")

    one, two, accelerated = planned("{cpus: 1}"), planned("{cpus: 2}"), planned("{gpus: 1}")
    assert one.job().id == two.job().id != accelerated.job().id
    assert (accelerated.device, accelerated.job().warm, accelerated.need().gpus) == ("cuda", None, 1)
    assert (one.device, two.need().cpus) == ("cpu", 2)


def test_a_search_runs_as_many_as_fit(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_CPUS", "3")
    toy.write("cdl.yaml", TORCH.replace("    epochs: 4\n", "    epochs: 4\n    resources: {cpus: 2}\n"))
    told: list[str] = []
    workspace = replace(toy.become("data@example.org"), tell=told.append)
    search(workspace, "side", changes={"max_trials": 2, "max_epochs": 1, "workers": 4})
    assert told[0] == "1 of 4 workers: more do not fit what this machine has"
    assert not [line for line in told if "waits" in line]
