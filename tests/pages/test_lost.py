"""A clone that lost objects still writes pages, and says what it could not read; trials of two clones are told apart."""

from pathlib import Path

import msgspec
import pytest

from cdl.model import compare, trials
from cdl.model.train import train
from cdl.pages.experiment import experiment_page
from cdl.report.html import html
from tests.projects import DATA, SCIENCE, make_toy, table


def test_an_experiment_without_its_results_is_a_page_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.data(table(120), DATA)
    workspace = toy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "-c", "exp/one")
    first, second = train(workspace, "side"), train(toy.become(SCIENCE), "side", sets={"rate": 1.0})
    workspace = toy.become(SCIENCE)
    assert "not in this clone" not in html(experiment_page(workspace, "exp/one"))
    told = {e.fields["trial"]: e.fields["result"] for e in workspace.journal.events("trial.finished")}
    workspace.store.path(told[first.id]).unlink()
    workspace.store.path(second.points or "").unlink()
    page = html(experiment_page(toy.become(SCIENCE), "exp/one"))
    assert "The results of 1 trial are not in this clone" in page and "cdl sync --whole" in page and "e2" in page


def test_trials_of_two_clones_with_one_number_are_called_by_their_whole_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trials.labels(["e1-aaaa", "e1-bbbb", "e2-aaaa"]) == {
        "e1-aaaa": "e1-aaaa",
        "e1-bbbb": "e1-bbbb",
        "e2-aaaa": "e2",
    }
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.data(table(120), DATA)
    toy.become(SCIENCE).git.run("switch", "--quiet", "-c", "exp/one")
    first = train(toy.become(SCIENCE), "side")
    workspace = toy.become(SCIENCE)
    twin = trials.keep(workspace, msgspec.structs.replace(first, id="e1-0000"))
    rows = compare.rows(trials.trials(workspace))
    assert {row["trial"] for row in rows} == {first.id, twin.id}
    page = html(experiment_page(workspace, "exp/one"))
    assert page.count(f"<code>{first.id}</code>") and page.count(f"<code>{twin.id}</code>")
