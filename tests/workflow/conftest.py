from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.config.load import load
from cdl.keys import Keyring
from cdl.project import open_workspace
from cdl.workflow import start
from cdl.workflow.workspace import Workspace

Person = Callable[[str], Workspace]
TEAM = """\
cdl: 1
project: toy
requirements: [test.accuracy >= 0.80]
roles:
  data_engineer: [data@example.org]
  model_validator: [review@example.org, other@example.org]
"""


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Makes the tests run as somebody, with no configuration of the machine's."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "keyring"))
    monkeypatch.delenv("CDL_KEY", raising=False)

    def become(email: str) -> None:
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_NAME", email.partition("@")[0])
            monkeypatch.setenv(f"GIT_{role}_EMAIL", email)

    return become


@pytest.fixture
def as_person(tmp_path: Path, identity: Callable[[str], None]) -> Person:
    """A solo project, opened as somebody."""
    root = tmp_path / "toy"
    identity("data@example.org")
    laid = start.lay_out(root, name="toy")
    start.draw_keys(load(root), Keyring())
    start.first_policy(open_workspace(root), laid.written)

    def become(email: str) -> Workspace:
        identity(email)
        return open_workspace(root)

    return become


@pytest.fixture
def team(as_person: Person) -> Person:
    """The same with roles, whose policy the first person approved while alone."""
    workspace = as_person("data@example.org")
    (workspace.root / "cdl.yaml").write_text(TEAM)
    workspace.git.run("commit", "--quiet", "--all", "--message", "roles")
    from cdl.cycle import CYCLE  # noqa: PLC0415
    from cdl.workflow.decide import decide, meant  # noqa: PLC0415

    opened = meant(workspace, CYCLE, "policy")
    decide(workspace, CYCLE, "policy", opened.subject, "approve")
    return as_person
