"""Model pipeline."""

from cdl.model.current import promoted
from cdl.model.results import evaluated
from cdl.model.trials import trials
from cdl.registry.offers import offered
from cdl.registry.records import Model, short
from cdl.registry.registry import MODEL_REFS
from cdl.workflow.workspace import Workspace
from tests.cycle.play import Play, act, after, decided, only, page, trial
from tests.projects import REVIEW, SCIENCE, SIDE


@act
def experiment(play: Play) -> None:
    play.cdl(SCIENCE, "experiment", "create", "first")


@after(experiment)
def create_experiment(workspace: Workspace) -> None:
    (event,) = workspace.journal.events("experiment.created")
    assert workspace.git.resolve("refs/heads/exp/first") == event.fields["commit"]
    assert workspace.git.branch() == "exp/first"


@act
def analyze(play: Play) -> None:
    play.cdl(SCIENCE, "data", "analyze")


@after(analyze)
def data_analysis(workspace: Workspace) -> None:
    page(workspace, "points-d-*.html")


@act
def train(play: Play) -> None:
    play.cdl(SCIENCE, "train", "--model", "side")


@after(train)
def preprocessing(workspace: Workspace) -> None:
    record = trial(workspace).transformation_record()
    assert record is not None and [e.name for e in workspace.store.tree(record.state).entries]


@after(train)
def validation_splitting(workspace: Workspace) -> None:
    record = trial(workspace).transformation_record()
    assert record is not None and record.fitted_on["part"] == "training"
    assert 0.6 < trial(workspace).metrics["validation.accuracy"] <= 1


@after(train)
def model_building(workspace: Workspace) -> None:
    made = trial(workspace)
    assert workspace.git.read(made.code["commit"], "model/side.py") == SIDE.encode() and len(made.code["closure"]) == 64


@after(train)
def training(workspace: Workspace) -> None:
    made = trial(workspace)
    assert len(workspace.journal.events("trial.started")) == len(workspace.journal.events("trial.finished")) == 1
    assert made.status == "finished" and made.trained == 4
    assert all(workspace.store.has(o or "") for o in (made.weights, made.checkpoint, made.points, made.log))


@act
def search(play: Play) -> None:
    play.cdl(SCIENCE, "search", "--model", "side", "--yes")


@after(search)
def hyperparameter_optimization(workspace: Workspace) -> None:
    (event,) = workspace.journal.events("search.finished")
    found = [t for t in trials(workspace) if t.search == event.fields["search"]]
    assert len(found) == 2 and event.fields["best"] in {t.id for t in found}


@act
def compare(play: Play) -> None:
    play.cdl(SCIENCE, "trial", "compare", "e1", "e2", "--plot", "validation.accuracy")


@after(compare)
def experiment_evaluation(workspace: Workspace) -> None:
    picture = workspace.root / "reports/trials.png"
    assert picture.exists() and picture.read_bytes().startswith(b"\x89PNG")


@act
def register(play: Play) -> None:
    play.cdl(SCIENCE, "model", "register", "e1")


@after(register)
def registration(workspace: Workspace) -> None:
    identity, record = only(workspace, Model)
    assert record.weights == trial(workspace).weights
    assert [e.fields["model"] for e in workspace.journal.events("model.registered")] == [identity]
    assert workspace.git.read(workspace.git.refs(MODEL_REFS)[MODEL_REFS + identity], "model/side.py") == SIDE.encode()


@act
def evaluate(play: Play) -> None:
    play.cdl(REVIEW, "run")


@after(evaluate)
def model_evaluation(workspace: Workspace) -> None:
    found = evaluated(workspace, only(workspace, Model)[0])  # its signature is checked
    assert found is not None and found.measures()["test.accuracy"] > 0.6
    assert [e.fields["result"] for e in workspace.journal.events("model.evaluated")] == [found.object]


@act
def submit(play: Play) -> None:
    play.cdl(SCIENCE, "model", "submit")


@after(submit)
def submission_gate(workspace: Workspace) -> None:
    decided(workspace, "submission", "submit")


@after(submit)
def model_submission(workspace: Workspace) -> None:
    source = offered(workspace.git, only(workspace, Model)[0])
    assert source is not None and workspace.git.read(source, "model/side.py") == SIDE.encode()


@act
def review(play: Play) -> None:
    play.cdl(REVIEW, "report", short(only(play.become(REVIEW), Model)[0]))


@after(review)
def model_review(workspace: Workspace) -> None:
    page(workspace, "m-*.html")


@act
def promote(play: Play) -> None:
    play.cdl(REVIEW, "approve")
    play.switch("main", who=SCIENCE)


@after(promote)
def model_gate(workspace: Workspace) -> None:
    decided(workspace, "model")


@after(promote)
def promotion(workspace: Workspace) -> None:
    identity = only(workspace, Model)[0]
    assert promoted(workspace, "side") == identity
    assert [e.fields["model"] for e in workspace.journal.events("model.promoted")] == [identity]
    source = offered(workspace.git, identity)
    assert workspace.git.text("rev-parse", "main^2") == source
