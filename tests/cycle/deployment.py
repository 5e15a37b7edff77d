"""Deployment pipeline, and once more round."""

import json
import urllib.request

from cdl.deployment import stages
from cdl.deployment.gates import revised
from cdl.model.results import evaluated
from cdl.model.trials import trials
from cdl.registry.records import DeploymentHead, ModelHead, Package, Request
from cdl.registry.registry import MODEL_REFS
from cdl.workflow.workspace import Workspace
from tests.cycle.play import IMPLEMENTED, REQUESTS, Play, act, after, decided, model_by, only
from tests.projects import DATA, OPS, REVIEW, SCIENCE


@act
def implement(play: Play) -> None:
    workspace = play.switch("impl/side", "--create", who=OPS)
    play.write("model/side.py", IMPLEMENTED)
    play.commit(workspace, "a faster form")
    play.cdl(OPS, "model", "implement", "side", "--input", "row")


@after(implement)
def model_implementation(workspace: Workspace) -> None:
    identity, record = model_by(workspace, "implementation")
    assert record.schema is not None and record.schema["input"] == "row"
    kept = workspace.git.refs(MODEL_REFS)[MODEL_REFS + identity]
    assert workspace.git.read(kept, "model/side.py") == IMPLEMENTED.encode()


@act
def accept_implementation(play: Play) -> None:
    play.cdl(REVIEW, "approve", "implementation")
    play.switch("main", who=OPS)


@after(accept_implementation)
def implementation_review(workspace: Workspace) -> None:
    decided(workspace, "implementation")
    assert (workspace.root / "model/side.py").read_text() == IMPLEMENTED


@act
def revise(play: Play) -> None:
    play.cdl(OPS, "run", "deployment")


@after(revise)
def model_revision(workspace: Workspace) -> None:
    identity = model_by(workspace, "implementation")[0]
    found = revised(workspace, identity)  # its signature is checked
    assert found is not None and found["difference"][0] == 0 and found["latency_p95"][1] > 0
    assert [e.fields["result"] for e in workspace.journal.events("model.revised")] == [found["object"]]


@act
def accept_revision(play: Play) -> None:
    play.cdl(REVIEW, "approve")


@after(accept_revision)
def revision_gate(workspace: Workspace) -> None:
    decided(workspace, "revision")


@act
def package(play: Play) -> None:
    play.cdl(OPS, "run", "deployment")


@after(package)
def packaging(workspace: Workspace) -> None:
    identity, record = only(workspace, Package)
    assert {"package.json", "weights", "code/model/side.py"} <= {
        e.name for e in workspace.store.tree(record.tree).entries
    }
    assert [e.fields["package"] for e in workspace.journal.events("package.built")] == [identity]


@act
def deploy(play: Play) -> None:
    """The service answers, and is stopped again: what it was asked lies in its folder."""
    url = json.loads(play.cdl(OPS, "deploy", "apply", "staging", "--json"))["url"]
    for i in range(REQUESTS):
        body = json.dumps({"item": {"x": i - REQUESTS / 2, "y": 0.0}}).encode()
        asked = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert json.loads(answer.read())["category"] in ("left", "right")
    play.cdl(OPS, "deploy", "stop", "staging")


@after(deploy)
def manifest(workspace: Workspace) -> None:
    tip = workspace.registry.tip()
    assert tip is not None
    written = workspace.git.read(tip, "deploy/toy.staging.yaml")
    head = stages.declared(workspace, "staging")
    assert head is not None and workspace.store.get(head.manifest) == written


@after(deploy)
def deployment(workspace: Workspace) -> None:
    identity = only(workspace, Package)[0]
    head = workspace.registry.head(DeploymentHead, "staging")
    assert head is not None and head.package == identity
    assert [e.fields["package"] for e in workspace.journal.events("deployment.applied")] == [identity]
    assert list((stages.folder(workspace, "staging") / "scoring").glob("*.batch"))  # it answered


@act
def monitor(play: Play) -> None:
    play.cdl(OPS, "monitor", "run", "--once")


@after(monitor)
def monitoring(workspace: Workspace) -> None:
    assert sum(e.fields["rows"] for e in workspace.journal.events("scoring.collected")) == REQUESTS
    (window,) = workspace.journal.events("monitor.window")
    assert window.fields["measures"]["live.error_rate"] == 0


@act
def reopen(play: Play) -> None:
    play.cdl(SCIENCE, "reopen", "collection", "--because", "more points on the left")


@after(reopen)
def maintenance(workspace: Workspace) -> None:
    identity, record = only(workspace, Request)
    assert record.to == {"step": "collection", "role": "data_engineer"}
    assert [e.fields["request"] for e in workspace.journal.events("request.opened")] == [identity]


@act
def bring_more(play: Play) -> None:
    play.points(180)
    play.cdl(DATA, "data", "run")
    play.cdl(DATA, "approve", "data")
    play.cdl(DATA, "label", "import")
    play.cdl(DATA, "label", "release", "--no-triggers")


@act
def go_round(play: Play) -> None:
    play.cdl(DATA, "run")


@after(go_round)
def trigger(workspace: Workspace) -> None:
    (finished,) = workspace.journal.events("trigger.finished")
    identity, record = model_by(workspace, "retraining")
    assert identity in finished.fields["records"] and record.made.cause == finished.cause
    assert workspace.git.resolve(f"refs/heads/cdl/retrain-{identity[2:10]}") is not None
    assert evaluated(workspace, identity) is not None


@act
def promote_net(play: Play) -> None:
    """A network, promoted by hand: its way here is that of the other model."""
    play.cdl(SCIENCE, "experiment", "create", "net")
    play.cdl(SCIENCE, "train", "--model", "net")
    made = next(t for t in trials(play.become(SCIENCE)) if t.model == "net")
    play.cdl(SCIENCE, "model", "register", made.id)
    workspace = play.switch("main", who=SCIENCE)
    head = ModelHead(promoted=model_by(workspace, None, "net")[0])
    workspace.registry.commit(heads=[("net", head)], command="promote", line="net", branch="main")


@act
def compress(play: Play) -> None:
    play.keyless.add(OPS)  # what follows compression needs the key
    play.cdl(OPS, "run", "deployment")


@after(compress)
def compression(workspace: Workspace) -> None:
    identity, record = model_by(workspace, "compression", "net")
    assert record.output["format"] == "onnx" and workspace.store.has(record.weights)
    assert [e.fields["model"] for e in workspace.journal.events("model.compressed")] == [identity]
