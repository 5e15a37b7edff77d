import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdl.cycle import CYCLE
from cdl.deployment import apply, control, stages
from cdl.deployment.gates import revised
from cdl.deployment.implement import implement
from cdl.deployment.predict import predict
from cdl.deployment.reproduce import reproduce
from cdl.errors import CdlError, JobFailed, NotFound, Refused
from cdl.journal import batch
from cdl.model.current import deployed
from cdl.model.source import model_record
from cdl.registry.records import DeploymentHead, Package
from cdl.workflow.decide import decide
from cdl.workflow.run import plan, run
from tests.projects import DATA, OPS, REVIEW, SCIENCE, SIDE, YAML, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(160))
    yield made
    for stage in ("staging", "production"):
        place = made.root / ".cdl/services" / stage
        if control.running(place):
            control.stop(place)


def ask(port: int, x: float) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST", "/predict", json.dumps({"item": {"x": x, "y": 0.0}}), {"Content-Type": "application/json"}
    )
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_revision_package_deployment_and_rollback(toy: Toy) -> None:
    first = toy.promote()
    with pytest.raises(Refused, match="has not passed the revision gate"):
        apply.apply(toy.become(OPS), "staging")
    package = toy.package()
    result = revised(toy.become(REVIEW), first)
    assert result is not None and result["difference"][0] == 0 and result["latency_p95"][1] > 0
    with pytest.raises(Refused, match="deployment is for devops"):
        apply.apply(toy.become(SCIENCE), "production")
    assert toy.become(REVIEW).journal.events("decision.refused")[-1].fields["gate"] == "deployment"
    found = apply.apply(toy.become(OPS), "production")
    assert found.running == found.declared == package and found.port and found.workers == 1
    assert ask(found.port, 4.0)["category"] == "right"
    workspace = toy.become(OPS)
    assert deployed(workspace, "side") == first and (toy.root / "deploy/toy.production.yaml").exists()
    assert apply.apply(workspace, "production") == found  # nothing is done twice
    with pytest.raises(NotFound, match="ran nothing before"):
        apply.rollback(workspace, "production", "why not")

    toy.promote("exp/second", seed=4, sets={"rate": 1.0})
    second = toy.package()
    assert second != package
    swapped = apply.apply(toy.become(OPS), "production")
    assert swapped.running == second and swapped.port == found.port
    back = apply.rollback(toy.become(OPS), "production", "for the test")
    assert back.running == back.declared == package and back.port == found.port
    head = toy.become(OPS).registry.head(DeploymentHead, "production")
    assert head is not None and (head.before, head.because) == (second, "for the test")
    with pytest.raises(Refused, match="rolled back from .*: for the test") as refused:
        apply.apply(toy.become(OPS), "production")
    assert "--again" in str(refused.value.remedy)
    apply.stop(toy.become(OPS), "production")
    assert apply.apply(toy.become(OPS), "production").running == package  # what is declared starts again
    assert apply.apply(toy.become(OPS), "production", again=True).running == second
    apply.rollback(toy.become(OPS), "production", "for the test")
    applied = [e.fields["package"] for e in toy.become(OPS).journal.events("deployment.applied")]
    assert applied == [package, second, package, second, package]


def test_equal_models_give_equal_packages(toy: Toy) -> None:
    toy.promote()
    package = toy.package()
    workspace = toy.become(OPS)
    record = workspace.registry.record(Package, package)
    assert record.skipped == ["model_implementation", "implementation_review", "compression"]
    found = {f.what: f.identical for f in reproduce(workspace, package)}
    assert found == {
        "data, split": True,
        "data, train": True,
        "data, test": True,
        "labels": True,
        "transformation": True,
        "weights": True,
        "package": True,
    }


def test_what_was_killed_between_is_finished(toy: Toy) -> None:
    toy.promote()
    first = toy.package()
    apply.apply(toy.become(OPS), "production")
    toy.promote("exp/second", seed=4, sets={"rate": 1.0})
    second = toy.package()
    workspace = toy.become(OPS)
    place = stages.folder(workspace, "production")
    target = apply.checkout(workspace, "production", second)
    control.ask(place, op="swap", package=str(target), replicas=1)  # killed before the commit
    assert stages.status(workspace, "production").running == first
    assert control.ask(place, op="status")["next"] is None
    control.ask(place, op="swap", package=str(target), replicas=1)  # killed after the commit
    head = stages.declared(workspace, "production")
    assert head is not None
    moved = DeploymentHead(package=second, manifest=head.manifest, before=first)
    workspace.registry.commit(heads=[("production", moved)], command="deploy apply", line="killed", branch="main")
    assert stages.status(workspace, "production").running == second


def test_a_package_that_does_not_load_changes_nothing(toy: Toy) -> None:
    toy.promote()
    first = toy.package()
    apply.apply(toy.become(OPS), "production")
    toy.become(SCIENCE).git.run("switch", "--quiet", "-c", "exp/second")
    toy.write("model/side.py", SIDE + "\n\nimport sys\n\nassert 'cdl.deployment.serve.package' not in sys.modules\n")
    toy.commit(toy.become(SCIENCE), "does not load where it is served")
    toy.become(SCIENCE).git.run("switch", "--quiet", "main")
    toy.become(SCIENCE).git.run("merge", "--quiet", "exp/second")
    toy.promote("exp/third", seed=4)
    toy.package()
    workspace = toy.become(OPS)
    before = workspace.registry.tip()
    with pytest.raises(JobFailed, match="did not become ready"):
        apply.apply(workspace, "production")
    found = stages.status(toy.become(OPS), "production")
    assert found.declared == found.running == first
    subjects = workspace.git.text("log", "--format=%s", f"{before}..main")
    assert "deploy apply" not in subjects


def test_two_commands_at_once_start_one_service(toy: Toy) -> None:
    toy.promote()
    package = toy.package()
    toy.sign(OPS)
    command = [sys.executable, "-m", "cdl", "deploy", "apply", "staging", "--json"]
    both = [subprocess.Popen(command, cwd=toy.root, stdout=subprocess.PIPE) for _ in range(2)]
    said = [json.loads(process.communicate()[0]) for process in both]
    assert [s["running"] for s in said] == [package, package] and said[0]["port"] == said[1]["port"]
    log = (toy.root / ".cdl/services/staging/service.log").read_text()
    assert len(supervisors(toy.root)) == 1, log


def test_a_command_that_looks_leaves_a_swap_alone_that_is_under_way(toy: Toy) -> None:
    toy.promote()
    apply_first = toy.package()
    apply.apply(toy.become(OPS), "staging")
    workspace = toy.become(OPS)
    place = stages.folder(workspace, "staging")
    target = apply.checkout(workspace, "staging", apply_first)
    with stages.alone(workspace, "staging"):  # as another command does while it deploys
        control.ask(place, op="swap", package=str(target), replicas=1)
        assert stages.status(toy.become(OPS), "staging").running == apply_first
        assert control.ask(place, op="status")["next"] == str(target)
    stages.status(toy.become(OPS), "staging")
    assert control.ask(place, op="status")["next"] is None


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_package_that_was_changed_on_disk_is_not_served(toy: Toy) -> None:
    toy.promote()
    package = toy.package()
    workspace = toy.become(OPS)
    target = apply.checkout(workspace, "staging", package)
    before = files_below(target)
    for path in (target / "code/model/side.py", target / "code/numpy.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text("raise SystemExit('planted')\n")
        found = apply.apply(toy.become(OPS), "staging")
        assert found.running == package and files_below(target) == before
        assert found.port and ask(found.port, 4.0)["category"] == "right"
        apply.stop(toy.become(OPS), "staging")


def test_a_service_whose_folder_was_removed_ends(toy: Toy) -> None:
    toy.promote()
    toy.package()
    apply.apply(toy.become(OPS), "staging")
    (first,) = supervisors(toy.root)
    shutil.rmtree(toy.root / ".cdl/services/staging")
    found = apply.apply(toy.become(OPS), "staging")
    assert found.port and ask(found.port, 4.0)["category"] == "right"
    end = time.monotonic() + 60
    while first in supervisors(toy.root) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(supervisors(toy.root)) == 1 and first not in supervisors(toy.root)


def supervisors(root: Path) -> list[int]:
    """The processes that keep a service of a project."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"cdl.deployment.supervisor" in words and any(w.startswith(os.fsencode(root)) for w in words):
            found.append(int(place.name))
    return found


SLOW = SIDE.replace("def predict(weights, inputs):\n", "def predict(weights, inputs):\n    time.sleep(0.05)\n", 1)


def test_a_model_that_sleeps_50_ms_fails_a_requirement_of_20_ms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = YAML.replace("[test.accuracy >= 0.60]", "[test.accuracy >= 0.60, revision.latency_p95 <= 20 ms]")
    source = {"model/side.py": SLOW.replace("import numpy as np", "import time\n\nimport numpy as np", 1)}
    toy = make_toy(tmp_path / "slow", monkeypatch, tmp_path / "keys", roles=True, yaml=yaml, files=source)
    toy.data(table(120))
    toy.promote()
    run(toy.become(OPS), CYCLE, "deployment")
    with pytest.raises(Refused, match="revision.latency_p95 <= 20 ms: 0.05"):
        toy.approve(REVIEW, "revision")
    toy.approve(REVIEW, "revision", despite="only for a demonstration")


def test_an_implementation_predicts_alike_or_is_refused(toy: Toy) -> None:
    model = toy.promote()
    workspace = toy.become(OPS)
    with pytest.raises(Refused, match="is that of the model already"):
        implement(workspace, model, input="row")
    toy.write("model/side.py", SIDE + "\n# a faster form would stand here\n")
    toy.commit(workspace, "refactored")
    made = implement(toy.become(OPS), model, input="row")
    record = model_record(toy.become(OPS), made)
    assert record.origin == {"model": model, "by": "implementation"} and record.schema is not None
    with pytest.raises(Refused, match="held by model_validator"):
        toy.approve(OPS, made)
    toy.approve(REVIEW, made)
    run(toy.become(OPS), CYCLE, "deployment")
    toy.approve(REVIEW, "revision")
    run(toy.become(OPS), CYCLE, "deployment")
    assert [p.model for _, p in toy.become(OPS).registry.all(Package)] == [made]
    toy.write("model/side.py", SIDE.replace("return np.stack([1 - p, p]", "return np.stack([p, 1 - p]"))
    toy.commit(toy.become(OPS), "turned round")
    with pytest.raises(Refused, match="validation items otherwise"):
        implement(toy.become(OPS), model, input="row")


def test_a_rejected_candidate_goes_back_to_a_named_step(toy: Toy) -> None:
    model = toy.promote()
    run(toy.become(OPS), CYCLE, "deployment")
    workspace = toy.become(REVIEW)
    with pytest.raises(Refused, match="does not send back to 'collection'"):
        decide(workspace, CYCLE, "revision", model, "reject", to="collection", because="no")
    made = decide(workspace, CYCLE, "revision", model, "reject", to="model_building", because="too slow for us")
    assert made.request and plan(toy.become(OPS), CYCLE, "deployment") == []


def test_batches_are_predicted_and_kept(toy: Toy, tmp_path: Path) -> None:
    model = toy.promote()
    workspace = toy.become(SCIENCE)
    made = predict(workspace, model, dataset="points")
    columns = batch.read(workspace.store.get(made.object), where="test")
    assert len(columns["item"]) == len(made.rows) > 50 and set(columns["category"]) == {"left", "right"}
    (tmp_path / "one").write_bytes(b'{"x": 4.0, "y": 0.0}')
    assert predict(workspace, model, files=[tmp_path / "one"]).rows[0]["category"] == "right"
    assert len(workspace.journal.events("prediction.made")) == 2
    with pytest.raises(CdlError, match="no such file"):
        predict(workspace, model, files=[tmp_path / "two"])


def test_nothing_is_pending_twice(toy: Toy) -> None:
    toy.promote()
    toy.package()
    for who in (DATA, OPS, REVIEW):
        assert [p.step.name for p in plan(toy.become(who), CYCLE, None)] == []
