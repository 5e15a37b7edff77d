"""Nobody approves a policy that is his own, however he came to change it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.errors import Refused
from cdl.workflow.policy import authors
from tests.projects import DATA, REVIEW, SCIENCE, YAML, Toy, make_toy

CASES = "from checks.limit import LIMIT\n\n\ndef test_enough(cases):\n    assert len(cases.items) > LIMIT\n"
ASKED = "requirements: [test.accuracy >= 0.60]"
LESS = "requirements: [test.accuracy >= 0.10]"
OTHER = "other@example.org"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    yaml = YAML.replace("    epochs: 4\n", "    epochs: 4\n    tests: checks/side.py\n")
    files = {"checks/side.py": CASES, "checks/limit.py": "LIMIT = 3\n"}
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True, yaml=yaml, files=files)
    change(made, DATA, "cdl.yaml", f"model_validator: [{REVIEW}]", f"model_validator: [{REVIEW}, {OTHER}]")
    made.approve(REVIEW, "policy")
    return made


def change(toy: Toy, who: str, path: str, old: str, new: str) -> None:
    text = (toy.root / path).read_text()
    assert old in text
    toy.write(path, text.replace(old, new))
    toy.commit(toy.become(who), f"{path}: {new}")


def by_an_import(toy: Toy) -> None:
    """A file that the policy's code imports."""
    change(toy, REVIEW, "checks/limit.py", "3", "0")


def hidden_by_another_edit(toy: Toy) -> None:
    """Somebody else is the last to touch the file."""
    change(toy, REVIEW, "cdl.yaml", ASKED, LESS)
    change(toy, DATA, "cdl.yaml", "epochs: 4\n", "epochs: 5\n")


def by_other_letters(toy: Toy) -> None:
    """The same address in capitals."""
    change(toy, "Review@Example.ORG", "cdl.yaml", ASKED, LESS)


def on_a_branch(toy: Toy) -> None:
    """Merged by somebody else."""
    toy.become(REVIEW).git.run("switch", "--quiet", "-c", "easier")
    change(toy, REVIEW, "cdl.yaml", ASKED, LESS)
    toy.become(DATA).git.run("switch", "--quiet", "main")
    change(toy, DATA, "cdl.yaml", "window: 20", "window: 30")
    toy.become(DATA).git.run("merge", "--quiet", "--no-edit", "easier")


def inside_a_merge(toy: Toy) -> None:
    """In the merge commit, of two branches that say nothing of it."""
    toy.become(SCIENCE).git.run("switch", "--quiet", "-c", "side")
    change(toy, SCIENCE, "model/side.py", "Logistic", "A logistic")
    toy.become(REVIEW).git.run("switch", "--quiet", "main")
    change(toy, DATA, "cdl.yaml", "window: 20", "window: 30")
    toy.become(REVIEW).git.run("merge", "--quiet", "--no-commit", "--no-ff", "side")
    change(toy, REVIEW, "cdl.yaml", ASKED, LESS)


@pytest.mark.parametrize("way", [by_an_import, hidden_by_another_edit, by_other_letters, on_a_branch, inside_a_merge])
def test_the_author_of_a_policy_does_not_approve_it(toy: Toy, way: Callable[[Toy], None]) -> None:
    way(toy)
    with pytest.raises(Refused, match="author"):
        toy.approve(REVIEW, "policy")
    toy.approve(OTHER, "policy")


def test_who_only_merges_or_changes_something_else_is_no_author(toy: Toy) -> None:
    toy.become(DATA).git.run("switch", "--quiet", "-c", "easier")
    change(toy, DATA, "cdl.yaml", ASKED, LESS)
    toy.become(REVIEW).git.run("switch", "--quiet", "main")
    change(toy, REVIEW, "cdl.yaml", "window: 20", "window: 30")
    toy.become(REVIEW).git.run("merge", "--quiet", "--no-edit", "easier")
    assert authors(toy.become(REVIEW)) == (DATA,)
    toy.approve(REVIEW, "policy")
    assert authors(toy.become(REVIEW)) == ()
