"""A toy project where every page has something to say: experiments, an open review, a service with windows and an alarm."""

import json
from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.deployment import stages
from cdl.model import experiment
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.monitoring.window import monitor
from cdl.registry.records import DeploymentHead
from cdl.workflow.decide import decide
from cdl.workflow.run import run
from tests.monitoring.test_window import MONITORED, Service, draw
from tests.projects import DATA, OPS, REVIEW, SCIENCE, SIDE, Toy, make_toy, table

HOSTILE = "<img src=x onerror=alert(1)> | @all `x` [go](http://example.org) /approve"
HIDDEN = "SECRETNOTE"  # begins a note that every row has, in a masked column
YAML = (
    MONITORED.replace("live.error_rate <= 0.2]", "live.error_rate <= 0.2, test.accuracy >= 0.999]")
    .replace("    require:", "    mask: [note]\n    require:")
    .replace("  side:\n    data:", "  side:\n    use: 'tells left from right; not up from down <b>'\n    data:")
    .replace("project: toy", "project: toy\nfeasibility: a line divides them\nrisks: ['points of another scale <i>']")
)
BROKEN = SIDE.replace(
    "def train(context):\n",
    "def train(context):\n    if context.hyperparameters['rate'] > 7:\n        raise ValueError('rate')\n",
)


def rows(count: int, *, first: int = 0) -> str:
    """Points, each with a note that training does not see."""
    lines = table(count, first=first).splitlines()
    noted = [f"{line.rpartition(',')[0]},{HIDDEN}{i},{line.rpartition(',')[2]}" for i, line in enumerate(lines[1:])]
    return "\n".join(["id,x,y,note,side", *noted]) + "\n"


class Whole:
    """The project, and the ids of what its pages are about."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        toy.data(rows(200))
        self.rejected = self._rejected()
        self.promoted = toy.promote("exp/first", seed=1, despite=HOSTILE)
        self.package = toy.package(despite="good enough")
        self._deploy(self.package)
        service = Service(toy)
        service.told(service.asked(draw(40, seed=1)), "right")
        service.asked(draw(80, seed=2, shift=30))
        monitor(toy.become(OPS), "production")
        toy.data(rows(260))
        self.candidate = self._candidate()
        toy.become(SCIENCE).git.run("switch", "--quiet", "main")

    def _rejected(self) -> str:
        """A model that was sent back, for a reason that a page must not believe."""
        model = self.toy.model("exp/zeroth", seed=5)
        self.toy.submit(model)
        run(self.toy.become(DATA), CYCLE, None)
        decide(self.toy.become(REVIEW), CYCLE, "model", model, "reject", because=HOSTILE, to="training")
        self.toy.become(SCIENCE).git.run("switch", "--quiet", "main")
        return model

    def _deploy(self, package: str) -> None:
        workspace = self.toy.become(OPS)
        manifest = workspace.store.put(json.dumps({"name": "toy", "replicas": 2, "port": 0}).encode())
        for because in (None, HOSTILE):
            head = DeploymentHead(package=package, manifest=manifest, because=because)
            workspace.registry.commit(
                heads=[("production", head)], command="deploy apply", line="a stage", branch="main"
            )
        assert stages.declared(workspace, "production") is not None

    def _candidate(self) -> str:
        """A model of changed code on new data, which waits for a decision."""
        workspace = self.toy.become(SCIENCE)
        experiment.create(workspace, "second", start="main")
        self.toy.write("model/side.py", BROKEN + "\n# the second try <u>\n")
        self.toy.write("notes/a|b<c>.txt", HOSTILE + "\n")
        self.toy.commit(workspace, HOSTILE)
        for rate in (1.0, 2.0, 4.0):
            trial = train(self.toy.become(SCIENCE), "side", sets={"rate": rate})
        with pytest.raises(Exception, match="ValueError"):
            train(self.toy.become(SCIENCE), "side", sets={"rate": 7.5})
        model = register(self.toy.become(SCIENCE), trial)
        evaluate(self.toy.become(DATA), model)
        offer(self.toy.become(SCIENCE), model)
        decide(self.toy.become(SCIENCE), CYCLE, "submission", model, "submit")
        run(self.toy.become(DATA), CYCLE, None)
        return model


def make(root: Path, patch: pytest.MonkeyPatch) -> Whole:
    """The project in a folder."""
    return Whole(make_toy(root / "toy", patch, root / "keyring", roles=True, yaml=YAML))
