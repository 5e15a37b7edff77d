"""Which page a name means: ids, names with versions, experiments, stages; and what is said when it is not clear."""

import json

import pytest

from cdl.errors import Conflict, NotFound
from cdl.model import experiment
from cdl.pages.find import page_of
from cdl.registry.records import Labels, short
from tests.pages.project import Whole
from tests.projects import REVIEW, SCIENCE


def test_ids_and_names(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    model = short(whole.promoted)
    dataset = page_of(workspace, "points").name
    labels = workspace.registry.all(Labels)[-1]
    for what, name in {
        model: model,
        whole.candidate: short(whole.candidate),
        "side": model,
        "side@v1": model,
        "model:side": model,
        "dataset:points": dataset,
        "labels:points": dataset,
        labels[0]: f"points-{short(labels[1].dataset)}",
        "second": "experiment-second",
        "exp/second": "experiment-second",
        "experiment:second": "experiment-second",
        "production": "stage-production",
        "stage:production": "stage-production",
        short(whole.package): short(whole.package),
    }.items():
        assert page_of(workspace, what).name == name, what
    assert page_of(workspace, "points@~1").name != dataset and page_of(workspace, "points@v1") is not None


def test_what_is_not_there_is_named_with_what_is_near(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    for what, remedy in {
        "seconds": "did you mean second",
        "nothing-like-it": "there is: first, points",
        "branch:second": "dataset:second, model:second",
        "model:points": "did you mean points",
        "staging": "cdl deploy apply staging",
        "production@v1": "cdl log stage:production",
        "points@v9": "there is",
    }.items():
        with pytest.raises(NotFound) as caught:
            page_of(workspace, what)
        assert remedy in (caught.value.remedy or ""), (what, caught.value.remedy)
    decision = next(e.fields["decision"] for e in workspace.journal.events("decision.made"))
    with pytest.raises(NotFound, match="no page of a decision"):
        page_of(workspace, decision)


def test_a_name_of_several_things_asks_which(whole: Whole) -> None:
    copy = whole.toy.copy(whole.toy.root.parent / "several")
    experiment.create(copy.become(SCIENCE), "side", start="main")
    with pytest.raises(Conflict) as caught:
        page_of(copy.become(SCIENCE), "side")
    assert caught.value.remedy == "say which: model:side, experiment:side"
    assert page_of(copy.become(SCIENCE), "experiment:side").notices[0].commands == ("cdl train", "cdl search")


def test_the_command_writes_prints_and_lists(whole: Whole) -> None:
    said = whole.toy.cdl(REVIEW, "report", "side")
    assert said == f"written: reports/{short(whole.promoted)}.html\n"
    assert whole.toy.cdl(REVIEW, "report", "side", "--markdown").endswith(".md\n")
    printed = whole.toy.cdl(REVIEW, "report", "side", "--format", "md", "--print")
    assert printed.startswith(f"# Model side {short(whole.promoted)}\n")
    every = json.loads(whole.toy.cdl(REVIEW, "report", "--json"))
    assert every["page"].endswith("reports/index.html") and len(every["pages"]) == 9
    assert whole.toy.cdl(REVIEW, "report", "--print").startswith("<!doctype html>")
