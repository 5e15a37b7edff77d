"""Windows of requests, as a service writes them: no alarm while nothing changed, one after exactly two that differ."""

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cdl.cycle import CYCLE, TRIGGERS
from cdl.data import labels, versions
from cdl.data.dataset import training
from cdl.data.ready import released
from cdl.deployment import stages
from cdl.deployment.serve.scoring import FEEDBACK, FORMAT, SCORING
from cdl.errors import Corrupt, NotFound, Unavailable
from cdl.model.loading import Predictor, with_predictor
from cdl.model.source import model_record
from cdl.monitoring import scoring, select
from cdl.monitoring.window import live, monitor, raised
from cdl.pages.deployment import deployment_page
from cdl.registry.records import DeploymentHead, Package
from cdl.report.write import text_of
from cdl.workflow.run import plan, run
from cdl.workflow.trigger import waiting
from tests.projects import DATA, OPS, SCIENCE, YAML, Toy, make_toy, table

MONITORED = (
    YAML.replace("[test.accuracy >= 0.60]", "[test.accuracy >= 0.60, live.error_rate <= 0.2]").replace(
        "window: 20", "window: 40"
    )
    + "triggers:\n  - {when: monitor.drift, run: collect, of: points, count: 12}\n"
)


class Service:
    """Writes what the service of a stage writes."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        workspace = toy.become(OPS)
        head = stages.declared(workspace, "production")
        assert head is not None
        package = workspace.registry.get(head.package).record
        assert isinstance(package, Package)
        self.model = package.model
        self.folder = stages.folder(workspace, "production")
        self.count = 0

    def asked(self, points: list[tuple[float, float]], *, error: str | None = None) -> list[str]:
        """Requests with the answers of a sure model; their ids."""
        return self.sent([json.dumps({"x": f"{x:.3f}", "y": f"{y:.3f}"}).encode() for x, y in points], error=error)

    def sent(self, items: list[bytes], *, error: str | None = None) -> list[str]:
        """The same for items as they are."""
        values = self._probabilities(items)
        rows = []
        for item, given in zip(items, values, strict=True):
            self.count += 1
            category, sure = ("left", "right")[int(np.argmax(given))], float(max(given))
            at = f"2026-01-01T00:00:00.{self.count:06d}Z"
            rows.append((f"q-{self.count:06d}", at, item, category, sure, list(given), 0.001, error))
        ids = [row[0] for row in rows]
        self._write("scoring", SCORING, rows)
        return ids

    def told(self, ids: list[str], truth: str) -> None:
        """Truths that came later."""
        self._write("feedback", FEEDBACK, [(i, "2026-01-02T00:00:00Z", truth) for i in ids])

    def _probabilities(self, items: list[bytes]) -> list[list[float]]:
        workspace = self.toy.become(OPS)
        found: list[list[float]] = []

        def use(predictor: Predictor) -> None:
            found.extend(predictor.probabilities(items).tolist())

        with_predictor(workspace, model_record(workspace, self.model), use)
        return found

    def _write(self, kind: str, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
        columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        content = {"format": FORMAT, "model": self.model, "columns": columns}
        path = self.folder / kind / f"{time.time_ns()}-{os.getpid()}-1.batch"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.msgpack.encode(content))
        return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True, yaml=MONITORED)
    made.data(table(400))
    made.promote()
    package = made.package()
    workspace = made.become(OPS)
    head = DeploymentHead(package=package, manifest=workspace.store.put(b"{}"))
    workspace.registry.commit(heads=[("production", head)], command="deploy apply", line="a stage", branch="main")
    return made


def draw(count: int, seed: int, shift: float = 0.0) -> list[tuple[float, float]]:
    """Points like those that the model learned from."""
    generator = np.random.default_rng(seed)
    x, y = generator.integers(-50, 51, count) / 10 + shift, generator.integers(-48, 49, count) / 10
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_fifty_windows_like_the_reference_raise_nothing_and_a_shift_after_exactly_two(toy: Toy) -> None:
    service = Service(toy)
    service.asked(draw(50 * 40, seed=1))
    workspace = toy.become(OPS)
    started = workspace.journal.events()[-1].count
    found = monitor(workspace, "production")
    assert len(found) == 50 and [w.alarms for w in found] == [()] * 50
    assert len([e for e in workspace.journal.events("job.finished") if e.count > started]) == 1, "one process for all"
    service.asked(draw(40, seed=2, shift=30))
    assert [w.alarms for w in monitor(workspace, "production")] == [()]
    service.asked(draw(40, seed=3, shift=30))
    (second,) = monitor(workspace, "production")
    assert "drift.input" in second.alarms and second.number == 52 and second.event is not None
    service.asked(draw(80, seed=4, shift=30))
    assert [w.alarms for w in monitor(workspace, "production")] == [(), ()]  # it is raised once
    assert [e.fields["window"] for e in workspace.journal.events("monitor.drift")] == [52]
    assert monitor(workspace, "production") == []


def test_an_alarm_selects_asks_collects_and_brings_back(toy: Toy) -> None:
    service = Service(toy)
    service.asked(draw(80, seed=3, shift=30))
    done = [p.step.name for p in run(toy.become(OPS), CYCLE, None)]
    assert done[:2] == ["monitoring", "trigger"]
    workspace = toy.become(DATA)
    (request,) = [e.fields["request"] for e in workspace.journal.events("request.opened")][-1:]
    (event,) = workspace.journal.events("monitor.drift")
    assert waiting(workspace, TRIGGERS) == [] and event.fields["selected"].startswith("s:")
    before = len(training(workspace, *released(workspace, "points")).ids)
    names = select.bring_back(workspace, request, "points")
    assert names == [f"{request[:10]}.csv"]
    rows = (toy.root / "incoming" / names[0]).read_text().splitlines()
    assert rows[0] == "id,x,y,side" and len(rows) == 13
    # rows of another file of the folder: nothing of them is labeled, and the key gives each a side
    made = versions.make(workspace, "points", answers=request)
    toy.approve(DATA, "data")
    workspace = toy.become(DATA)
    assert len(labels.unlabeled(workspace, "points")) == 12
    counts = workspace.registry.get(made).record
    assert before > 100 and counts is not None
    asked = {i: "right" for i, _ in labels.unlabeled(workspace, "points")}
    labels.record(workspace, "points", asked)
    assert min(labels.release(workspace, "points").record.coverage.values()) == 1.0
    with pytest.raises(NotFound, match="is no request"):
        select.bring_back(workspace, made, "points")


def test_requirements_on_live_measures_and_truths_that_come_later(toy: Toy) -> None:
    service = Service(toy)
    ids = service.asked(draw(30, seed=5))
    service.asked(draw(10, seed=6), error="Unavailable")
    service.asked(draw(5, seed=6), error="BadRequest")  # a client's error counts for nothing
    service.told(ids, "right")
    workspace = toy.become(OPS)
    (window,) = monitor(workspace, "production")
    assert window.measures["live.error_rate"] == 0.25 and "failing.live.error_rate" in window.measures
    assert 0.3 < window.measures["live.accuracy"] < 0.7
    service.asked(draw(40, seed=7), error="Unavailable")
    assert monitor(workspace, "production")[0].alarms == ("live.error_rate",)
    (alarm,) = workspace.journal.events("monitor.alarm")
    assert alarm.fields["measure"] == "live.error_rate"
    written = text_of(deployment_page(workspace, "production"))
    assert "live.error_rate" in written and "<script" not in written


def test_what_was_kept_and_not_removed_counts_once(toy: Toy) -> None:
    service = Service(toy)
    service.asked(draw(40, seed=5))
    (path,) = (service.folder / "scoring").glob("*.batch")
    data = path.read_bytes()
    workspace = toy.become(OPS)
    scoring.collect(workspace, "production")
    path.write_bytes(data)  # as after a kill between keeping and removing
    assert len(monitor(workspace, "production")) == 1 and not path.exists()
    assert len(scoring.rows(workspace, "production", service.model)) == 40


def test_who_holds_no_key_and_what_is_no_scoring_file(toy: Toy, tmp_path: Path) -> None:
    service = Service(toy)
    service.asked(draw(40, seed=5))
    (tmp_path / "keyring").rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        monitor(toy.become(SCIENCE), "production")
    (tmp_path / "away").rename(tmp_path / "keyring")
    (service.folder / "scoring/1-1-1.batch").write_bytes(b"\x00nothing")
    with pytest.raises(Corrupt, match="not a scoring file") as caught:
        monitor(toy.become(OPS), "production")
    assert caught.value.remedy and "remove" in caught.value.remedy


def test_monitoring_is_pending_while_requests_wait(toy: Toy) -> None:
    assert "monitoring" not in [p.step.name for p in plan(toy.become(OPS), CYCLE, None)]
    Service(toy).asked(draw(3, seed=1))
    assert "monitoring" in [p.step.name for p in plan(toy.become(OPS), CYCLE, None)]


def test_alarms_need_two_windows_in_a_row() -> None:
    a, b, none = frozenset({"a"}), frozenset({"b"}), frozenset[str]()
    assert raised([a]) == () and raised([a, none, a]) == () and raised([a, a]) == ("a",)
    assert raised([a, a, a]) == () and raised([a, a, none, a, a]) == ("a",)
    assert raised([a | b, a]) == ("a",) and raised([a, a | b, a | b]) == ("b",)
    assert live([]) == {"live.error_rate": 0.0}


def test_requests_that_come_late_are_measured_and_none_twice(toy: Toy) -> None:
    """Of another worker, or by a clock that was set back: what was collected last is the next window."""
    service = Service(toy)
    service.asked(draw(40, 1))
    assert [w.measures["live.error_rate"] for w in monitor(toy.become(OPS), "production")] == [0.0]
    service.count = -1000
    service.asked(draw(40, 2), error="RuntimeError")
    assert [w.measures["live.error_rate"] for w in monitor(toy.become(OPS), "production")] == [1.0]
    assert monitor(toy.become(OPS), "production") == []
