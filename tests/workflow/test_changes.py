"""What a changed policy changes is said before anybody approves it."""

from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.workflow.changes import LONGEST, changes
from cdl.workflow.decide import waiting
from cdl.workflow.policy import name_policy
from tests.projects import DATA, OPS, REVIEW, make_toy


def test_keys_code_and_files_that_differ_are_named_and_nothing_else() -> None:
    before = name_policy(
        {
            "parts": {
                "roles": {"devops": ["a"]},
                "requirements": ["x >= 1"],
                "data": {"d": {"mask": ["name"]}},
                "model": {},
            },
            "code": {"tests:m": "1", "split:d": "1"},
            "files": {".gitlab-ci.yml": "1"},
        }
    )
    now = name_policy(
        {
            "parts": {"roles": {"devops": ["a", "b"]}, "requirements": ["x >= 1"], "data": {"d": {}}, "model": {}},
            "code": {"tests:m": "2", "split:d": "1"},
            "files": {},
        }
    )
    assert changes(before, before) == []
    assert changes(before, now) == [
        'data.d.mask: ["name"] -> nothing',
        'roles.devops: ["a"] -> ["a","b"]',
        "code of tests:m",
        ".gitlab-ci.yml",
    ]


def test_a_long_value_is_cut() -> None:
    parts = {"notify": "x" * 1000, "data": {}, "model": {}}
    empty = name_policy({"parts": {"data": {}, "model": {}}, "code": {}, "files": {}})
    (line,) = changes(empty, name_policy({"parts": parts, "code": {}, "files": {}}))
    assert line.startswith("notify: nothing -> xxx") and len(line) < LONGEST + 40


def test_the_validator_is_told_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    text = (toy.root / "cdl.yaml").read_text().replace(f"devops: [{OPS}]", f"devops: [{OPS}, {DATA}]")
    toy.write("cdl.yaml", text.replace("test.accuracy >= 0.60", "test.accuracy >= 0.10"))
    toy.commit(toy.become(DATA), "softer")
    (opened,) = waiting(toy.become(REVIEW), CYCLE)
    assert opened.gate == "policy"
    assert 'requirements: ["test.accuracy >= 0.60"] -> ["test.accuracy >= 0.10"]' in opened.title
    assert f'roles.devops: ["{OPS}"] -> ["{OPS}","{DATA}"]' in opened.title


def test_a_request_goes_to_a_role_that_somebody_holds() -> None:
    policy = name_policy({"parts": {"roles": {"data_engineer": ["a"]}}, "code": {}, "files": {}})
    assert policy.asked(("data_labeler", "data_engineer")) == "data_engineer"
    assert policy.asked(("devops",)) == "devops"
    assert name_policy({"parts": {}, "code": {}, "files": {}}).asked(("data_labeler", "x")) == "data_labeler"
