"""Start and data pipeline."""

import json

from cdl.keys import Keyring
from cdl.registry.offers import offered
from cdl.registry.records import Dataset, DatasetHead, Decision, Labels, LabelsHead
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace
from tests.cycle.play import CYCLE_YAML, NET, SHORTER, STEPS, Play, act, after, decided, only
from tests.projects import DATA, FEATURES, OPS, REVIEW, SIDE


@act
def init(play: Play) -> None:
    play.root.mkdir(parents=True)
    play.cdl(OPS, "init", ".", "--name", "toy")


@after(init)
def initial_setup(workspace: Workspace) -> None:
    tip = workspace.registry.tip()
    assert tip is not None
    files = workspace.git.files(tip)
    assert {"cdl.yaml", ".gitlab-ci.yml", ".github/workflows/cdl.yml", ".gitignore", "requirements.lock"} <= set(files)
    assert len(workspace.journal.events("project.initialized")) == 1
    assert in_force(workspace).solo


@act
def require(play: Play) -> None:
    workspace = play.become(DATA)
    source = {"steps/points.py": STEPS, "model/side.py": SIDE, "model/features.py": FEATURES, "model/net.py": NET}
    for path, text in {"cdl.yaml": CYCLE_YAML, **source}.items():
        play.write(path, text)
    play.commit(workspace, "what the model must reach")
    Keyring().create("toy", "points", secret=b"a key of 32 bytes, always equal.")
    play.cdl(DATA, "key", "create")
    play.cdl(OPS, "approve", "policy")


@after(require)
def define_requirements(workspace: Workspace) -> None:
    decided(workspace, "policy")
    policy = in_force(workspace)
    assert [r.text for r in policy.requirements()] == ["test.accuracy >= 0.60"]
    assert policy.holders("model_validator") == (REVIEW,)


@act
def bring(play: Play) -> None:
    play.points(120)
    play.cdl(DATA, "data", "run")


@after(bring)
def collection(workspace: Workspace) -> None:
    (source,) = only(workspace, Dataset)[1].sources
    assert workspace.vault("points", by="data").tree(source.raw).names == ["points.csv"]


@after(bring)
def splitting(workspace: Workspace) -> None:
    record = only(workspace, Dataset)[1]
    assert record.split.ledger.startswith("s:") and min(record.items.values()) > 20


@after(bring)
def ingestion(workspace: Workspace) -> None:
    first = only(workspace, Dataset)[1].steps[0]
    train, test = workspace.store.tree(first.train), workspace.vault("points", by="data").tree(first.test)
    assert first.name == "ingest" and len(train) + len(test) == 121


@after(bring)
def versioning(workspace: Workspace) -> None:
    identity, record = only(workspace, Dataset)
    assert workspace.registry.head(DatasetHead, "points") == DatasetHead(version=identity)
    assert [e.fields["version"] for e in workspace.journal.events("dataset.versioned")] == [identity]
    assert record.skipped == ["double"]


@after(bring)
def cleaning(workspace: Workspace) -> None:
    stage = only(workspace, Dataset)[1].steps[1]
    rows = [json.loads(data) for data in workspace.store.tree(stage.train).contents().values()]
    assert stage.name == "clean" and not any(value.endswith("0") for row in rows for value in row.values())


@after(bring)
def validation(workspace: Workspace) -> None:
    record = only(workspace, Dataset)[1]
    assert record.rejected["reasons"] == {"not a number": 1} and record.rejected["tree"].startswith("s:")


@act
def release_for_labeling(play: Play) -> None:
    play.cdl(DATA, "approve")


@after(release_for_labeling)
def data_gate(workspace: Workspace) -> None:
    decided(workspace, "data")
    ((_, decision),) = [(i, d) for i, d in workspace.registry.all(Decision) if d.gate == "data"]
    assert decision.requirements == [{"require": "items >= 10", "value": 120, "held": True}]


@act
def offer_steps(play: Play) -> None:
    workspace = play.switch("steps/shorter", "--create", who=DATA)
    play.write("steps/points.py", SHORTER)
    play.commit(workspace, "shorter numbers")
    play.cdl(DATA, "data", "run")
    play.cdl(DATA, "data", "submit")
    play.cdl(DATA, "approve")
    play.switch("main", who=DATA)


@after(offer_steps)
def pipeline_submission(workspace: Workspace) -> None:
    tip = workspace.registry.tip()
    head = workspace.registry.head(DatasetHead, "points", at=tip)
    assert tip is not None and head is not None and offered(workspace.git, head.version)
    assert workspace.git.read(tip, "steps/points.py") == SHORTER.encode()


@act
def label(play: Play) -> None:
    play.cdl(DATA, "label", "import")
    play.cdl(DATA, "label", "next", given="left\n1\n")
    play.cdl(DATA, "label", "release")


@after(label)
def labeling(workspace: Workspace) -> None:
    identity, record = only(workspace, Labels)
    assert record.coverage == {"train": 1.0, "test": 1.0}
    assert workspace.registry.head(LabelsHead, "points") == LabelsHead(version=identity)
    assert sum(e.fields["count"] for e in workspace.journal.events("labels.recorded")) == 120
    assert len(workspace.journal.events("labels.released")) == len(workspace.journal.events("dataset.ready")) == 1
