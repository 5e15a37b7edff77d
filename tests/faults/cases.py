"""The commands that are killed, each with the state before it. States are made one from the other, when they are asked for."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cdl.data.labels import current
from cdl.store.store import digest
from tests.faults.around import opened
from tests.faults.world import World, begin, exported
from tests.projects import table
from tests.team import Person

DONE = re.compile(  # what is answered where it was decided already
    r"no decision waits for you|already (approve|submit)|waits for no decision|not revised on the current test|"
    r"no model of this branch is left to submit"
)
Way = Callable[[World], None]


@dataclass(frozen=True)
class Case:
    """A command, the state before it, and what follows it before contents are compared.

    `twice`: typed again after it was done, it does it again, as it should (a person labels once more, trains once more).
    `at` is the clone where it is typed, `then` what is done before comparing; with `objects` the stores are compared too.
    `meanwhile`: after the kill the other clone syncs first, and must not see what is half sent.
    """

    name: str
    before: str
    command: tuple[str, ...]
    at: str = "a"
    twice: bool = False
    then: tuple[tuple[str, ...], ...] = ()
    clones: tuple[str, ...] = ("a",)
    objects: bool = False
    meanwhile: bool = False

    def person(self, world: World) -> Person:
        """Who types it."""
        return world.b if self.at == "b" else world.a


GC_SHARED = ("gc", "--shared", "--remove", "--trials", "--older-than", "0s", "--wait", "0s")
SYNCED = (("a", "sync"), ("b", "sync"), ("a", "sync"))
CASES = (
    Case("data run", "begun", ("data", "run")),
    Case("approve data", "collected", ("approve",)),
    Case("label import", "approved", ("label", "import", "../export.json")),
    Case("label set", "labeled", ("label", "set", "ITEM", "left"), twice=True),
    Case("label release", "labeled", ("label", "release")),
    Case("train", "experiment", ("train",), twice=True),
    Case("search", "trained", ("search", "--yes"), twice=True),
    Case("model register", "searched", ("model", "register", "e1")),
    Case("model submit", "registered", ("model", "submit")),
    Case("approve model", "submitted", ("approve",)),
    Case("deploy apply", "packaged", ("deploy", "apply", "staging")),
    Case("trigger", "due", ("label", "release")),
    Case("gc", "searched", ("gc", "--remove", "--trials", "--older-than", "0s"), objects=True),
    Case("gc shared", "littered", (*GC_SHARED,), then=(("a", *GC_SHARED), ("a", *GC_SHARED)), objects=True),
    Case("sync sends", "packaged", ("sync",), then=SYNCED, clones=("a", "b"), meanwhile=True),
    Case("sync fetches", "sent", ("sync",), at="b", then=SYNCED, clones=("a", "b")),
    Case("sync both ways", "both", ("sync",), at="b", then=SYNCED, clones=("a", "b")),
)


@dataclass
class States:
    """Worlds in the state before each command, made on the way to it and kept below a folder."""

    folder: Path
    store: str = "../shared"
    around: tuple[tuple[str, str], ...] = ()
    _made: dict[str, World] = field(default_factory=dict)

    def before(self, case: Case) -> World:
        """The world before a case's command."""
        return self.state(case.before)

    def state(self, name: str) -> World:
        """A state by its name."""
        if name not in self._made:
            earlier, way = WAYS[name]
            place = self.folder / name
            if earlier is None:
                self._made[name] = begin(place, store=self.store, around=self.around)
            else:
                self._made[name] = self.state(earlier).copy(place)
            way(self._made[name])
        return self._made[name]


def typed(world: World, case: Case) -> tuple[str, ...]:
    """The command with the item that it names."""
    if "ITEM" not in case.command:
        return case.command
    return tuple(item(world) if word == "ITEM" else word for word in case.command)


def item(world: World) -> str:
    """An item of the training set."""
    with opened(world.a) as workspace:
        return workspace.store.tree(current(workspace, "points")[1].train).names[0]


def _types(*commands: str) -> Way:
    def way(world: World) -> None:
        for command in commands:
            world.a.cdl(*command.split())

    return way


def _second_clone(world: World) -> None:
    """Labels are released; a second clone has everything."""
    world.a.cdl("label", "release")
    world.a.cdl("sync")
    world.b.root.mkdir()
    world.b.cdl("clone", "--yes", "../origin.git", ".")
    world.b.git("remote", "set-url", "origin", "../origin.git")
    world.a.cdl("experiment", "create", "first")


def _both(world: World) -> None:
    """Both clones moved the integration branch, and labeled."""
    world.b.cdl("label", "set", item(world), "right")
    world.b.cdl("label", "release")


def _due(world: World) -> None:
    """More data and their labels, and a trigger in force that their release fires."""
    a = world.a
    a.git("switch", "--quiet", "main")
    with (a.root / "cdl.yaml").open("a") as written:
        written.write("triggers: [{when: dataset.ready, run: [evaluate, train], of: side}]\n")
    a.commit("a trigger")
    a.cdl("approve", "policy")
    a.write("incoming/points.csv", table(30))
    (world.folder / "export.json").write_text(exported(30))
    for command in ("data run", "approve --no-triggers", "label import ../export.json"):
        a.cdl(*command.split())


def _litter(world: World) -> None:
    """Objects in the shared store that nothing names."""
    for number in range(12):
        name = digest(b"%d" % number)
        place = world.folder / "shared/objects" / name[:2]
        place.mkdir(exist_ok=True)
        (place / name[2:]).write_bytes(b"%d" % number)


def _nothing(world: World) -> None:
    """Nothing more."""


WAYS: dict[str, tuple[str | None, Way]] = {
    "begun": (None, _nothing),
    "collected": ("begun", _types("data run")),
    "approved": ("collected", _types("approve")),
    "labeled": ("approved", _types("label import ../export.json")),
    "experiment": ("labeled", _second_clone),
    "trained": ("experiment", _types("train")),
    "searched": ("trained", _types("search --yes")),
    "registered": ("searched", _types("model register e1")),
    "submitted": ("registered", _types("model submit")),
    "promoted": ("submitted", _types("approve")),
    "packaged": ("promoted", _types("run deployment --yes", "approve", "run deployment --yes")),
    "sent": ("packaged", _types("sync")),
    "both": ("sent", _both),
    "due": ("promoted", _due),
    "littered": ("sent", _litter),
}
