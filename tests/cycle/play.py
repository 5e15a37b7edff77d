"""The whole cycle played with the toy project, act by act, as people type it; and what each row of the table must leave.

An act is a few commands. A row is checked on the project as its act left it, opened by somebody who only looks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from cdl.model.trials import Trial, trials
from cdl.registry.records import (
    Decision,
    Model,
    Record,
)
from cdl.workflow.workspace import Workspace
from tests.projects import ROLES, SCIENCE, SIDE, YAML, Toy, table

R = TypeVar("R", bound=Record)
CYCLE_YAML = (
    YAML.replace(
        "    require: [items >= 10]\n",
        "    require: [items >= 10]\n"
        "    steps:\n"
        '    - clean: {run: "steps.points:clean"}\n'
        '    - validate: {run: "steps.points:validate"}\n'
        '    - double: {run: "steps.points:double", off: true}\n',
    )
    .replace(
        "deploy:\n",
        '  net: {data: points, train: "model.net:train", network: "model.net:network", '
        'transform: "model.features:Columns", epochs: 1}\n'
        "deploy:\n"
        "  net: {model: net, compress: [{quantize: int8}]}\n",
    )
    .replace("max_trials: 6", "max_trials: 2")
    + "triggers:\n- {when: dataset.ready, run: [evaluate, train], of: side}\n"
    + ROLES
)
STEPS = '''
"""Steps of points: shorter numbers; what is no number is set aside."""

import json

from cdl.data.reject import Reject


def clean(content):
    row = json.loads(content)
    return json.dumps({name: value.rstrip("0") for name, value in row.items()}, sort_keys=True).encode()


def validate(content):
    try:
        [float(value) for value in json.loads(content).values()]
    except ValueError as error:
        raise Reject("not a number") from error
    return content
'''
NET = '''
"""One layer in torch."""

import torch


def network(hyperparameters):
    return torch.nn.Linear(2, 2)


def train(context):
    network = context.network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    x, y = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
    for _ in context.loop(model=network, optimizer=optimizer):
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        context.report(loss=float(loss.detach()))
'''
REQUESTS = 20
IMPLEMENTED = SIDE + "\n# a faster form would stand here\n"
SHORTER = STEPS.replace('.rstrip("0")', '.rstrip("0").rstrip(".")')


class Play(Toy):
    """The project in `folder`, with its keyring beside it. Whoever is in `keyless` holds no key."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder / "toy", patch)
        self.folder = folder
        self.keyless = {SCIENCE}
        self.typed: list[str] = []
        for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
            patch.setenv(name, "/dev/null")
        patch.delenv("CDL_KEY", raising=False)

    def sign(self, email: str) -> None:
        """Acts as somebody, with his keyring."""
        super().sign(email)
        self._patch.setenv("CDL_KEYRING", str(self.folder / ("nothing" if email in self.keyless else "keyring")))

    def cdl(self, email: str, *arguments: str, given: str = "") -> str:
        """A command, which is noted."""
        self.typed.append(" ".join(("cdl", *arguments)))
        return super().cdl(email, *arguments, given=given)

    def switch(self, branch: str, *options: str, who: str) -> Workspace:
        """Checks a branch out."""
        workspace = self.become(who)
        workspace.git.run("switch", "--quiet", *options, branch)
        return workspace

    def points(self, count: int) -> None:
        """The source: two rows without a label, and one that is no point."""
        lines = table(count).splitlines()
        lines[1:3] = [line.rpartition(",")[0] + "," for line in lines[1:3]]
        self.write("incoming/points.csv", "\n".join([*lines, "broken,none,0.1,left"]) + "\n")


Act = Callable[[Play], None]
Check = Callable[[Workspace], None]


@dataclass(frozen=True)
class Left:
    """What a row must leave after an act."""

    act: Act
    check: Check


ACTS: list[Act] = []
LEFT: dict[str, Left] = {}


def act(play: Act) -> Act:
    """The next act of the cycle."""
    ACTS.append(play)
    return play


def after(played: Act) -> Callable[[Check], Check]:
    """The row of the function's name is done by an act, and the function asserts what it left."""

    def add(check: Check) -> Check:
        LEFT[check.__name__] = Left(played, check)
        return check

    return add


def only(workspace: Workspace, kind: type[R]) -> tuple[str, R]:
    """The one record of a kind."""
    (found,) = workspace.registry.all(kind)
    return found


def model_by(workspace: Workspace, by: str | None, name: str = "side") -> tuple[str, Model]:
    """The model of a name that was made in a way."""
    every = workspace.registry.all(Model, name)
    (found,) = [(i, m) for i, m in every if (m.origin or {}).get("by") == by]
    return found


def trial(workspace: Workspace) -> Trial:
    """The first trial."""
    return trials(workspace)[0]


def decided(workspace: Workspace, gate: str, verdict: str = "approve") -> None:
    """A decision at a gate stands on the integration branch, and the journal was told."""
    tip = workspace.registry.tip()
    found = {i for i, d in workspace.registry.all(Decision, at=tip) if (d.gate, d.verdict) == (gate, verdict)}
    assert found and found <= {e.fields["decision"] for e in workspace.journal.events("decision.made")}


def page(workspace: Workspace, pattern: str) -> None:
    """A page stands under reports/."""
    (found,) = (workspace.root / "reports").glob(pattern)
    assert found.read_bytes().startswith(b"<!doctype html>")
