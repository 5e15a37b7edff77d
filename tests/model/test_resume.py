"""A stopped training goes on as if it had never stopped: paused or killed, at every epoch, also between report and save."""

from pathlib import Path
from shutil import rmtree

import pytest
from msgspec.structs import replace

from cdl.model import trials
from cdl.model.train import Plan, Trained, execute, plan
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, YAML
from tests.standing import STOPPING, WAIT_SECONDS, Standing, standing

EPOCHS = 3
SHORTER = ("epochs: 4\n", f"epochs: {EPOCHS}\n")
NETWORK = '"model.net:network"\n    train: "model.net:train"'
NET = '''
"""Dropout, shuffling, noise from three generators, and a rate that falls."""

import random

import numpy as np
import torch
from torch.nn import functional


def network(hyperparameters):
    return torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)
    )


def train(context):
    net = context.network()
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=context.epochs * 8)
    x, y = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
    for epoch in context.loop(model=net, optimizer=optimizer, scheduler=scheduler):
        stand(f"began-{epoch}")
        net.train()
        for places in torch.randperm(len(y)).chunk(8):
            noise = np.random.normal(0, 0.01) + random.gauss(0, 0.01)
            loss = functional.cross_entropy(net(x[places] + noise), y[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        net.eval()
        found = net(torch.tensor(context.validation.inputs)).argmax(1).numpy()
        context.report(accuracy=float((found == context.validation.labels).mean()), rate=scheduler.get_last_lr()[0])
        stand(f"reported-{epoch}")
'''


@pytest.fixture
def torch_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    yaml = YAML.replace('train: "model.side:train"', f"network: {NETWORK}").replace(
        '    predict: "model.side:predict"\n', ""
    )
    return standing(tmp_path, monkeypatch, yaml.replace(*SHORTER), {"model/net.py": NET})


@pytest.fixture
def plain_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    return standing(tmp_path, monkeypatch, YAML.replace(*SHORTER), {"model/side.py": STOPPING})


def straight(workspace: Workspace) -> Trained:
    """The training in one go, with neither cache nor checkpoint."""
    what = plan(workspace, "side")
    return execute(workspace, workspace.jobs, what, fresh=True)


def objects(done: Trained) -> tuple[str, str, str]:
    """Weights; weights, optimizer, scheduler and generators; every report."""
    return done.weights, done.checkpoint, done.points


def resumed(workspace: Workspace, what: Plan, *stops: int) -> tuple[str, str, str]:
    """Trains up to each stop in turn, each time in another process that has nothing but the last checkpoint."""
    rmtree(what.folder(workspace), ignore_errors=True)
    jobs = workspace.jobs.with_empty_cache()
    for until in stops:
        done = execute(workspace, jobs, replace(what, until=until))
    return objects(done)


@pytest.mark.parametrize(
    "stops", [(1, 2, 3), pytest.param((1, 3), marks=pytest.mark.long), pytest.param((2, 3), marks=pytest.mark.long)]
)
def test_paused_at_every_epoch_a_torch_training_ends_the_same(torch_project: Standing, stops: tuple[int, ...]) -> None:
    workspace = torch_project.become(DATA)
    assert resumed(workspace, plan(workspace, "side"), *stops) == objects(straight(workspace))


def killed_everywhere(made: Standing) -> None:
    for epoch in range(1, EPOCHS + 1):
        made.kill_at(f"began-{epoch}", "train")
        made.kill_at(f"reported-{epoch}", "train")
    assert made.start("train").wait(WAIT_SECONDS) == 0
    workspace = made.become(DATA)
    [trial] = trials.trials(workspace)
    expected = straight(workspace)
    assert (trial.weights, trial.checkpoint, trial.points) == objects(expected)
    assert [e for e, _ in trials.points(workspace, trial)["validation.accuracy"]] == [1, 2, 3], (
        "no epoch reported twice"
    )
    assert trial.trained == EPOCHS and expected.differs is None


def test_killed_at_every_epoch_also_between_report_and_save(plain_project: Standing) -> None:
    killed_everywhere(plain_project)


@pytest.mark.long
def test_killed_at_every_epoch_a_torch_training_ends_the_same(torch_project: Standing) -> None:
    killed_everywhere(torch_project)


def test_two_that_go_on_from_one_checkpoint_at_once_end_the_same(plain_project: Standing) -> None:
    plain_project.kill_at("began-2", "train")
    both = [plain_project.start("train") for _ in range(2)]
    assert [process.wait(WAIT_SECONDS) for process in both] == [0, 0]
    workspace = plain_project.become(DATA)
    first, second = trials.trials(workspace)
    expected = objects(straight(workspace))
    assert (
        (first.weights, first.checkpoint, first.points)
        == (second.weights, second.checkpoint, second.points)
        == expected
    )
    assert first.id != second.id
