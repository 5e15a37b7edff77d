"""The project that two people share, with one model that is trained, registered, evaluated and sent."""

import pytest

from cdl.model.evaluate import evaluate
from tests.projects import DATA, SCIENCE
from tests.sharing.conftest import Team, team

__all__ = ["team"]


@pytest.fixture
def shared(team: Team) -> Team:
    """Both clones hold the model, its trial and its evaluation; nothing waits to be sent."""
    model = team.b.model()
    team.b.cdl(SCIENCE, "sync")
    team.a.cdl(DATA, "sync")
    evaluate(team.a.become(DATA), model)
    team.a.cdl(DATA, "sync")
    team.b.cdl(SCIENCE, "sync")
    return team
