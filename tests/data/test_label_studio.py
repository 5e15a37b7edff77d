import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cdl.cli.main import cli
from cdl.data import elsewhere, label_studio, labels, versions
from cdl.data.label_studio import Choice, choices
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import ConfigError, Refused
from cdl.workflow.workspace import Workspace

from .test_versions import CANARY, YAML, Again, again

__all__ = ["again"]
LENA = {"id": 7, "email": "lena@example.org", "first_name": "Lena", "last_name": "", "avatar": None}


def annotation(value: str, **others: Any) -> dict[str, Any]:
    """As Label Studio writes one: https://labelstud.io/guide/task_format"""
    result = {
        "id": "Dx_aB91ISN",
        "type": "choices",
        "from_name": "label",
        "to_name": "item",
        "origin": "manual",
        "value": {"choices": [value]},
    }
    given = {
        "id": 1001,
        "result": [result],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
        "result_count": 1,
        "task": 1,
        "completed_by": LENA,
    }
    return given | others


def exported(*tasks: tuple[Mapping[str, Any], list[dict[str, Any]]]) -> str:
    found = [
        {"id": i, "data": data, "annotations": made, "drafts": [], "predictions": [], "meta": {}, "project": 83}
        for i, (data, made) in enumerate(tasks)
    ]
    return json.dumps(found)


def test_an_export_names_item_class_labeler_and_time() -> None:
    numbered = annotation("b", completed_by=10, updated_at="2021-03-09T23:16:08+01:00")
    text = exported(
        ({"item": "3f2a", "text": "x"}, [annotation("a"), numbered]),
        ({"file": "y.txt", "text": "y"}, [annotation("b", completed_by=None, updated_at=None, created_at=None)]),
        ({"text": "z.txt"}, [annotation("a", was_cancelled=True)]),
        ({"text": "w.txt"}, []),
    )
    when = "2021-03-09T22:16:08Z"
    assert choices(text, where="e.json") == [
        Choice(item="y.txt", by_id=False, value="b", who=None, when=None),
        Choice(item="3f2a", by_id=True, value="a", who="lena@example.org", when=when),
        Choice(item="3f2a", by_id=True, value="b", who="label-studio/10", when=when),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "[1]",
        "[" * 100_000,
        '[{"data": {}, "annotations": []}]',
        '[{"data": {"a": "x", "b": "y"}, "annotations": []}]',
        '[{"data": {"file": "x"}, "annotations": [{}]}]',
        '[{"id": 1, "text": "x", "label": "a"}]',  # JSON-MIN
        exported(({"item": "x"}, [annotation("a") | {"result": 2 * annotation("a")["result"]}])),
        exported(({"item": "x"}, [annotation("a", updated_at="yesterday")])),
    ],
)
def test_what_is_no_export_is_refused(broken: str) -> None:
    with pytest.raises(ConfigError, match="not Label Studio's JSON"):
        choices(broken, where="e.json")


def test_tasks_show_pictures_and_texts_with_an_interface_that_fits() -> None:
    found = json.loads(
        label_studio.tasks([("i1", "caf\u00e9 \xa3".encode() + b"\xff"), ("i2", b"\x89PNG\r\n\x1a\nxx")])
    )
    assert found[0] == {"data": {"item": "i1", "text": "caf\u00e9 \xa3\ufffd"}}
    assert found[1]["data"]["image"].startswith("data:image/png;base64,iVBOR")
    shown = label_studio.interface(["a", 'b "<&'], picture=False)
    assert '<Text name="item" value="$text"/>' in shown and "<Choice value='b \"&lt;&amp;'/>" in shown
    assert '<Image name="item" value="$image"/>' in label_studio.interface(["a"], picture=True)


@pytest.fixture
def made(again: Again) -> Workspace:
    """A version of 40 items without a label."""
    workspace = again()
    versions.make(workspace, "words")
    return workspace


def answered(folder: Path, value: str = "a", **others: Any) -> Path:
    """What a labeler makes of the tasks in a folder."""
    tasks = json.loads((folder / "tasks.json").read_text())
    path = folder / "export.json"
    path.write_text(exported(*((task["data"], [annotation(value, **others)]) for task in tasks)))
    return path


def test_tasks_go_out_and_labels_come_back_as_rows_of_who_made_them(made: Workspace, tmp_path: Path) -> None:
    assert elsewhere.export(made, "words", tmp_path / "tasks.json").tasks == 40
    assert (tmp_path / "tasks.json").stat().st_mode & 0o777 == 0o600
    assert elsewhere.take_in(made, "words", answered(tmp_path)) == (40, 0)
    assert elsewhere.take_in(made, "words", answered(tmp_path)) == (0, 40)
    rows = {side: labels.rows(made, "words", side) for side in (TRAIN, TEST)}
    assert {len(found) for found in rows.values()} == {40 - len(rows[TEST]), len(rows[TEST])} and rows[TEST]
    for row in rows[TRAIN] + rows[TEST]:
        assert (row.value, row.who, row.when) == ("a", "lena@example.org", "2021-03-09T22:16:08Z")
    assert elsewhere.export(made, "words", tmp_path / "tasks.json").tasks == 0
    assert elsewhere.export(made, "words", tmp_path / "tasks.json", every=True).tasks == 40
    someone = {"id": 8, "email": "max@example.org"}
    assert elsewhere.take_in(made, "words", answered(tmp_path, "b", completed_by=someone)) == (40, 0)
    released = labels.release(made, "words")
    assert len(released.conflicts) == 40 and released.record.coverage == {"train": 1.0, "test": 1.0}


def test_labels_of_test_items_are_sealed_and_never_in_an_event(made: Workspace, tmp_path: Path) -> None:
    elsewhere.export(made, "words", tmp_path / "tasks.json")
    elsewhere.take_in(made, "words", answered(tmp_path))
    _, dataset = labels.current(made, "words")
    tested = [item for item, side in labels.sides(made, dataset).items() if side == TEST]
    opened = b"".join(p.read_bytes() for p in (made.folder / "store").rglob("*") if p.is_file())
    opened += b"".join(p.read_bytes() for p in (made.folder / "journal").rglob("*") if p.is_file())
    assert tested and not [item for item in tested if item.encode() in opened]
    assert b"lena@example.org" in opened  # the rows of training items are open


def test_tasks_are_not_written_where_git_would_keep_them(made: Workspace) -> None:
    with pytest.raises(Refused, match="git would keep this file"):
        elsewhere.export(made, "words", made.root / "tasks.json")
    assert not (made.root / "tasks.json").exists()
    assert elsewhere.export(made, "words", made.root / "incoming/tasks.json").tasks == 40  # ignored by git
    with pytest.raises(ConfigError, match="not written: No such file or directory"):
        elsewhere.export(made, "words", made.root / "incoming/nowhere/tasks.json")


@pytest.mark.parametrize(
    ("data", "value", "said"),
    [
        ({"item": "0" * 32}, "a", "no item 000000000000"),
        ({"file": "nowhere.txt"}, "a", "no item 'nowhere.txt' in the source"),
        ({"file": f"{CANARY}-name-1.txt"}, "c", "no class 'c'"),
    ],
)
def test_an_unknown_item_or_class_keeps_nothing(
    made: Workspace, tmp_path: Path, data: dict[str, str], value: str, said: str
) -> None:
    good = {"file": f"{CANARY}-name-0.txt"}
    (tmp_path / "e.json").write_text(exported((good, [annotation("a")]), (data, [annotation(value)])))
    with pytest.raises(ConfigError, match=said):
        elsewhere.take_in(made, "words", tmp_path / "e.json")
    assert made.journal.events("labels.recorded") == []


def test_the_commands(made: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.root)

    def cdl(*arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
        return done.stdout

    assert "40 tasks written" in cdl("label", "export", str(tmp_path / "tasks.json"))
    said = cdl("label", "import", str(answered(tmp_path)))
    assert said == "40 new labels kept; next: cdl label release\n"
    assert "0 new labels kept, 40 were kept before" in cdl("label", "import", str(answered(tmp_path)))
    assert json.loads(cdl("label", "import", "--json")) == {"dataset": "words", "labels": 0}  # no origin in cdl.yaml


def test_a_data_scientist_exports_and_imports_nothing(
    again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = again()
    versions.make(workspace, "words")
    elsewhere.export(workspace, "words", tmp_path / "tasks.json")
    people = "roles: {data_scientist: [a@example.org], data_labeler: [b@example.org], data_engineer: [b@example.org]}\n"
    (workspace.root / "cdl.yaml").write_text(YAML + people)
    workspace.git.run("commit", "--quiet", "--all", "--message", "roles")
    monkeypatch.chdir(workspace.root)
    CliRunner().invoke(cli, ["approve", "policy"], catch_exceptions=False, standalone_mode=False)
    with pytest.raises(Refused, match="label export"):
        elsewhere.export(again(), "words", tmp_path / "again.json")
    with pytest.raises(Refused, match="labeling"):
        elsewhere.take_in(again(), "words", answered(tmp_path))
    assert not (tmp_path / "again.json").exists()
