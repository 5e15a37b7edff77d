"""A project that two people share: a bare git remote and a shared folder, a clone each."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cdl.git.repository import Git
from cdl.project import clone
from tests.projects import DATA, OPS, REVIEW, SCIENCE, YAML, Toy, make_toy, table


@dataclass(frozen=True)
class Team:
    """Clone `a` of data@ and review@, clone `b` of science@, and what they share."""

    a: Toy
    b: Toy
    origin: Path
    store: Path

    def another(self, folder: Path, who: str) -> Toy:
        """A further clone, trusted and synced."""
        return _clone(self.a, self.origin, folder, who)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Labels are released and shared; nothing is trained."""
    (tmp_path / "shared").mkdir()
    yaml = YAML.replace("project: toy\n", "project: toy\nstore: ../shared\nbranches: {integration: main}\n")
    a = make_toy(tmp_path / "a", monkeypatch, tmp_path / "keys-a" / "keyring", yaml=yaml, roles=True)
    a.data(table(120), DATA)
    origin = tmp_path / "origin.git"
    Git(tmp_path).run("init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    a.become(DATA).git.run("remote", "add", "origin", str(origin))
    a.cdl(DATA, "trust", "--yes")
    a.cdl(DATA, "sync")
    return Team(a, _clone(a, origin, tmp_path / "b", SCIENCE), origin, tmp_path / "shared")


def _clone(a: Toy, origin: Path, folder: Path, who: str) -> Toy:
    toy = Toy(folder, a._patch, keyring=folder.parent / f"keys-{folder.name}" / "keyring")
    toy.sign(who)
    clone(str(origin), folder)
    toy.cdl(who, "trust", "--yes")
    toy.cdl(who, "sync")
    return toy


__all__ = ["DATA", "OPS", "REVIEW", "SCIENCE", "Team"]
