"""Each page of a whole project: what it says, that it says it in both forms, and what it must never say."""

import json
import shutil
from pathlib import Path

import pytest

from cdl.config.requirement import in_unit
from cdl.cycle import CYCLE
from cdl.data.dataset import class_counts, dataset_record, training
from cdl.data.ready import released
from cdl.model.results import compared, evaluated
from cdl.model.source import model_record
from cdl.pages.dataset import dataset_page
from cdl.pages.deployment import deployment_page, package_page
from cdl.pages.experiment import experiment_page
from cdl.pages.model import model_page
from cdl.pages.overview import overview, write_all
from cdl.registry.records import short
from cdl.report.page import Page, Table, plain
from cdl.report.write import text_of
from cdl.workflow.run import run
from tests.pages.project import HIDDEN, HOSTILE, Whole
from tests.projects import DATA, OPS, REVIEW, SCIENCE
from tests.report import pages


def lines(page: Page, title: str) -> list[list[str]]:
    """The rows of a section's tables in words."""
    (section,) = [s for s in page.written() if s.title.startswith(title)]
    tables = [part for part in section.parts if isinstance(part, Table)]
    return [[plain(cell) for cell in row] for table in tables for row in table.rows]


def rows(page: Page, title: str) -> dict[str, list[str]]:
    """The same by the first cell; of several that begin alike the first."""
    found: dict[str, list[str]] = {}
    for line in lines(page, title):
        found.setdefault(line[0], line[1:])
    return found


def titles(page: Page) -> list[str]:
    """The headings."""
    return [section.title for section in page.written()]


def test_the_review_page_says_what_the_validator_decides_from(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    page = model_page(workspace, whole.candidate)
    name, rival = short(whole.candidate), short(whole.promoted)
    assert titles(page) == [
        "At a glance",
        "Requirements",
        "Comparison",
        "Sealed test",
        "Training",
        f"What changed since {rival}, in production",
        "What approval merges into main",
        "Decisions and requests",
        "Model card",
    ]
    (notice,) = page.notices
    assert "review@example.org (model validator)" in notice.text and "Not held: test.accuracy >= 0.999" in notice.text
    assert notice.commands == (f"cdl approve {name} --despite TEXT", f"cdl reject {name} --to STEP --because TEXT")
    found, theirs = evaluated(workspace, whole.candidate), evaluated(workspace, whole.promoted)
    assert found is not None and theirs is not None
    accuracy = found.result["measures"]["test.accuracy"]
    (requirements,) = [s for s in page.written() if s.title == "Requirements"]
    table = next(p for p in requirements.parts if isinstance(p, Table) and p.columns)
    assert [plain(row[0]) for row in table.rows] == ["NOT held", "held", "later"], "what failed stands first"
    assert plain(table.rows[0][2]) == in_unit("test.accuracy >= 0.999", accuracy["value"])
    paired = compared(workspace, theirs, found)
    assert paired is not None
    against = rows(page, "Comparison")[rival]
    assert against[0] == "in production" and against[3:6] == [
        str(paired["won"]),
        str(paired["lost"]),
        f"{paired['p']:.3f}",
    ]
    assert against[2].startswith(f"{paired['difference']:+.4f} [") and against[1] == "no clear difference"
    low, high = accuracy["interval"]
    assert rows(page, "Comparison")["test.accuracy"][0] == f"{accuracy['value']:.3f} [{low:.3f}, {high:.3f}]"
    classes = rows(page, "Sealed test")
    for i, (label, of) in enumerate(found.result["classes"].items()):
        assert classes[label][0] == str(sum(found.result["confusion"][i]))
        assert classes[label][1].startswith(f"{of['recall']['value']:.3f} [")


def test_the_review_page_shows_what_changed(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    page = model_page(workspace, whole.candidate)
    markdown = text_of(page, "md")
    assert "+        raise ValueError('rate')" in markdown and "+# the second try <u>" in markdown
    assert markdown.count("raise ValueError('rate')") == 1, "one difference is shown once"
    changed = rows(page, "What changed since")
    assert changed["seed"] == ["1 -> 0"] and changed["model/side.py"] == ["changed", "4", "0"]
    assert "notes/a|b<c>.txt" not in changed and "notes/a|b<c>.txt" in rows(page, "What approval merges")
    new, old = (model_record(workspace, m).data for m in (whole.candidate, whole.promoted))
    before, after = (class_counts(workspace, d["dataset"], d["labels"]) for d in (old, new))
    assert before != after
    for label in after:
        assert changed[label] == [str(before[label]), str(after[label]), f"{after[label] - before[label]:+d}"]
    first, second = (dataset_record(workspace, d["dataset"]) for d in (old, new))
    growth = second.items["test"] - first.items["test"]
    assert changed["test items (sealed)"] == [str(first.items["test"]), str(second.items["test"]), f"{growth:+d}"]


def test_the_card_holds_what_was_declared_and_measured(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    card = rows(model_page(workspace, whole.candidate), "Model card")
    assert card["intended use"] == ["tells left from right; not up from down <b>"]
    assert card["declared risk"] == ["points of another scale <i>"] and card["fields that training does not see"] == [
        "note"
    ]
    model = model_record(workspace, whole.candidate)
    assert card["training"] == [f"trial {model.trial['id'].partition('-')[0]}: 4 epochs of 4, seed 0, 1 thread"]
    assert model.weights[:12] in card["weights"][0] and model.code["commit"][:12] in card["source"][0]
    counts = class_counts(workspace, model.data["dataset"], model.data["labels"])
    assert card["classes"] == [f"left ({counts['left']} training items), right ({counts['right']})"]
    assert "evaluation 1 of 20" in card["sealed test"][0] and "sockets" in card["evaluated behind"][0]


def test_a_decided_model_shows_what_was_seen_then(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    page = model_page(workspace, whole.rejected)
    assert page.subtitle.startswith("rejected") and page.notices[0].text.startswith(
        "The numbers are of an earlier test"
    )
    decided = [row for row in rows(page, "Decisions and requests").values() if row[:2] == ["model", "rejected"]]
    assert len(decided) == 1 and decided[0][4] == HOSTILE
    asked = [row for row in rows(page, "Decisions and requests").values() if row[0] == "training"]
    assert asked == [["training", "data scientist", HOSTILE, REVIEW, "open"]]
    promoted = model_page(workspace, whole.promoted)
    assert promoted.subtitle.startswith("in production")
    assert f"despite: {HOSTILE}" in [row[4] for row in rows(promoted, "Decisions and requests").values()]


def test_the_experiment_page(whole: Whole) -> None:
    workspace = whole.toy.become(SCIENCE)
    page = experiment_page(workspace, "exp/second")
    assert titles(page) == ["Best trial", "Trials", "Learning curves", "Hyperparameters", "Failed trials", "Code"]
    trials = rows(page, "Trials")
    measured = [float(row[1]) for row in trials.values() if row[0] == "finished"]
    assert len(trials) == 4 and measured == sorted(measured, reverse=True) and list(trials.values())[-1][0] == "failed"
    (failed,) = rows(page, "Failed trials").values()
    assert "ValueError: rate" in failed[1]
    assert rows(page, "Best trial")["trial"][0].partition("-")[0] == next(iter(trials))
    assert rows(page, "Code")["model/side.py"] == ["changed", "4", "0"]
    html = text_of(page)
    assert html.count("<svg") == 3 and "exp/first" not in html


def test_the_dataset_page(whole: Whole) -> None:
    workspace = whole.toy.become(SCIENCE)
    dataset, labels = released(workspace, "points")
    page, record = dataset_page(workspace, dataset), dataset_record(workspace, dataset)
    glance = rows(page, "At a glance")
    assert glance["training items"] == [str(record.items["train"])] and glance["masked fields"] == ["note"]
    assert glance["test items"] == [f"{record.items['test']}, sealed"]
    assert rows(page, "What the data gate asks")["held"] == ["items >= 10", str(sum(record.items.values()))]
    assert short(whole.candidate) in rows(page, "Models that learned from it")
    figures = text_of(page, "md")
    for name in ("items of each class", "size of an item", "**x**", "**y**"):
        assert name in figures
    counts = class_counts(workspace, dataset, labels)
    assert f"| left | {counts['left']} |" in figures


def test_the_stage_page(whole: Whole) -> None:
    workspace = whole.toy.become(OPS)
    page = deployment_page(workspace, "production")
    assert titles(page) == ["At a glance", "Package", "Revision", "Alarms", "Live windows", "Drift", "History"]
    assert [n.tone for n in page.notices] == ["bad", "warn"] and "drift.input" in page.notices[0].text
    assert rows(page, "At a glance")["replicas"] == ["2"]
    assert list(rows(page, "Live windows")) == ["1", "2", "3"]
    back, first = lines(page, "History")
    assert back[1:3] == first[1:3] == [short(whole.package), short(whole.promoted)]
    assert back[3:] == [OPS, "rolled back", HOSTILE] and first[3:] == [OPS, "deployed", "–"]
    parts = rows(package_page(workspace, whole.package), "Package")
    assert {"code", "reference", "weights"} <= parts.keys()
    assert rows(package_page(workspace, whole.package), "Where it should run") == {"production": []}


def test_the_overview_says_who_must_decide_and_links_to_what_was_written(whole: Whole) -> None:
    workspace = whole.toy.become(REVIEW)
    waiting = lines(overview(workspace), "What waits")
    assert [line[1:3] for line in waiting if line[0] == "model gate"] == [[short(whole.candidate), REVIEW]]
    asked = [line[2:] for line in waiting if line[0] == "request"]
    assert [SCIENCE, f"at training: {HOSTILE}", "cdl request list"] in asked and len(asked) == 2
    for form in ("html", "md"):
        paths = write_all(workspace, form=form)
        assert paths[0].name == f"index.{form}" and all(p.parent == whole.toy.root / "reports" for p in paths)
        text = paths[0].read_text()
        for path in paths[1:]:
            assert f'href="{path.name}"' in text or f"]({path.name})" in text, path.name
    assert workspace.git.text("status", "--porcelain") == "", "git ignores the pages"


def every_page(whole: Whole) -> list[Page]:
    workspace = whole.toy.become(REVIEW)
    models = [model_page(workspace, m) for m in (whole.rejected, whole.promoted, whole.candidate)]
    experiments = [experiment_page(workspace, f"exp/{name}") for name in ("zeroth", "first", "second")]
    data = [
        dataset_page(workspace, model_record(workspace, m).data["dataset"]) for m in (whole.promoted, whole.candidate)
    ]
    others = [deployment_page(workspace, "production"), package_page(workspace, whole.package), overview(workspace)]
    return [*models, *experiments, *data, *others]


def test_every_page_is_alone_says_the_same_twice_and_takes_foreign_text_as_text(whole: Whole) -> None:
    hostile = 0
    for page in every_page(whole):
        html, markdown = text_of(page), text_of(page, "md")
        first, second = pages.check_alone(html), pages.read_markdown(markdown)
        one, two = ([pages.plain(c) for c in read.cells if c] for read in (first, second))
        assert one == two, page.name
        assert not {"img", "a"} & set(second.tags) and "<img src=x" not in html
        assert not [line for line in markdown.splitlines() if line.startswith("/")]
        hostile += HOSTILE in "".join(first.said)
    assert hostile >= 5


def test_nothing_sealed_or_masked_stands_on_any_page(whole: Whole) -> None:
    workspace = whole.toy.become(DATA)
    dataset, labels = released(workspace, "points")
    tree = workspace.vault("points", by="test").tree(dataset_record(workspace, dataset).test)
    sealed = [json.loads(data) for data in tree.contents().values()]
    seen = {(row["x"], row["y"]) for row in map(json.loads, training(workspace, dataset, labels).contents)}
    alone = [row for row in sealed if (row["x"], row["y"]) not in seen]
    assert len(alone) > 20 and all(row["note"].startswith(HIDDEN) for row in alone)
    opened = len(workspace.journal.events("sealed.opened"))
    pairs = [(text_of(page), text_of(page, "md")) for page in every_page(whole)]
    assert len(workspace.journal.events("sealed.opened")) == opened, "no page opens anything"
    given = {(label, *map(float, point)) for label in ("left", "right") for point in seen}
    hidden = {(label, float(row["x"]), float(row["y"])) for label in ("left", "right") for row in alone}
    shown = set()
    for html, markdown in pairs:
        for text in (html, markdown):
            assert HIDDEN not in text and not [name for name in tree.names if name in text]
        for cells in (pages.read_html(html).cells, pages.read_markdown(markdown).cells):
            for label, x, y in zip(cells, cells[1:], cells[2:], strict=False):
                if label in ("left", "right") and _is_number(x) and _is_number(y):
                    shown.add((label, float(x), float(y)))
    assert len(shown & given) >= 24 and not shown & hidden


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def test_no_page_runs_anything_of_the_project_or_needs_a_key(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = whole.toy.copy(tmp_path / "copy")
    for path in copy.root.rglob("*.py"):
        path.write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nraise SystemExit(13)\n")
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "none"))
    jobs = len(copy.become(REVIEW).journal.events("job.finished"))
    paths = write_all(copy.become(REVIEW)) + write_all(copy.become(REVIEW), form="md")
    assert len(paths) == 18 and not (tmp_path / "trace").exists()
    assert len(copy.become(REVIEW).journal.events("job.finished")) == jobs


def test_in_a_clone_without_a_store_every_page_says_what_is_missing(whole: Whole, tmp_path: Path) -> None:
    clone = whole.toy.clone(tmp_path / "clone")
    shutil.rmtree(clone.root / ".cdl/store")
    workspace = clone.become(REVIEW)
    workspace.git.run("branch", "--quiet", "exp/second", "origin/exp/second")
    page = model_page(workspace, whole.candidate)
    card = rows(page, "Model card")
    assert "not in this clone" in card["weights"][0] and card["classes"] == ["left, right"]
    assert card["sealed test"] == ["not evaluated yet"] and page.notices[-1].commands == ("cdl run",)
    assert "raise ValueError('rate')" in text_of(page, "md"), "code is git's"
    data = text_of(dataset_page(workspace, model_record(workspace, whole.candidate).data["dataset"]), "md")
    assert "not in this clone" in data and "| training items | 177 |" in data
    assert len(write_all(workspace)) == 9  # of every experiment, also those of others


def test_a_source_that_somebody_put_under_git_is_not_in_a_difference(whole: Whole, tmp_path: Path) -> None:
    copy = whole.toy.copy(tmp_path / "copy")
    workspace = copy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "exp/second")
    workspace.git.run("add", "--force", "incoming/points.csv")
    workspace.git.run("commit", "--quiet", "--message", "by mistake")
    page = experiment_page(copy.become(SCIENCE), "exp/second")
    assert rows(page, "Code")["incoming/points.csv"][0] == "added"
    assert "raise ValueError('rate')" in text_of(page, "md") and HIDDEN not in text_of(page) + text_of(page, "md")


def test_while_a_gate_is_open_it_judges_and_not_the_decision_before(whole: Whole, tmp_path: Path) -> None:
    copy = whole.toy.copy(tmp_path / "copy")
    copy.approve(REVIEW, whole.candidate, despite="the second is simpler")
    run(copy.become(OPS), CYCLE, "deployment")
    page = model_page(copy.become(REVIEW), whole.candidate)
    assert "Waits at the revision gate" in page.notices[0].text and "Revision" in titles(page)
    assert "when it was" not in text_of(page, "md").partition("## Comparison")[0]
