from pathlib import Path

import pytest

from cdl.config.load import load, parse
from cdl.config.policy import policy_entries, policy_parts
from cdl.config.reference import reference
from cdl.config.requirement import parse_requirement
from cdl.errors import ConfigError, NotFound

GOOD = """
cdl: 1
project: toy
requirements: [test.accuracy >= 0.80]
roles: {data_engineer: [a@example.org]}
data:
  words:
    source: {path: incoming}
    items: {files: "*.txt"}
    split: {test: 0.2, by: "data.clean:body"}
    steps:
    - clean: {run: "data.clean:strip"}
    - check: {run: [grep, -v, x]}
    labels: {classes: [no, on, 0777123]}
model:
  toy: {data: words, train: "model.toy:train", predict: "model.toy:predict", metrics: ["metrics:worst"], tests: tests/test_toy.py}
"""


def test_a_good_file_is_read_as_written() -> None:
    config = parse(GOOD.encode(), where="cdl.yaml")
    labels = config.data["words"].labels
    assert labels is not None and labels.classes == ["no", "on", "0777123"]
    assert [name for name, _ in config.data["words"].named_steps()] == ["clean", "check"]
    assert config.branches.integration == "main"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("requirements:", "requirments:", 4, "did you mean 'requirements'"),
        ("split: {test: 0.2,", "split: {tst: 0.2,", 10, "did you mean 'test'"),
        ("- clean: {run:", "- clean: {rum:", 12, "did you mean 'run'"),
        ("test: 0.2", "test: much", 10, "expected float"),
        ("cdl: 1", "cdl: 2", 2, "cdl"),
        ("data_engineer", "data_engineeer", 5, "did you mean 'data_engineer'? roles: data_engineer, data_labeler"),
        ("project: toy", "project: toy\nsync: alto", 4, "did you mean 'auto'"),
        ("data: words,", "data: word,", 16, "did you mean 'words'"),
        ('"data.clean:strip"', '"data.clean strip"', 12, "module:function"),
        ('items: {files: "*.txt"}', "items: {}", 9, "exactly one of: files, rows, arrays"),
        ("source: {path: incoming}", 'source: {url: "https://example.org/x"}', 8, "sha256"),
        ("test.accuracy >= 0.80", "accuracy is good", 4, "not a requirement"),
        ("test.accuracy >= 0.80", "test.acuracy >= 0.80", 4, "did you mean 'test.accuracy'"),
        ("test: 0.2", "test: 20", 10, "0 to 1"),
        ("tests: tests/test_toy.py}", "tests: tests/test_toy.py, epochs: 0}", 16, "at least 1"),
        ("project: toy", "project: Toy", 3, "not a name"),
        ("  words:", "  Words:", 7, "not a name"),
        ('"data.clean:strip"}', '"data.clean:strip", io: folders}', 12, "leave it out, or run a program"),
        ('"data.clean:strip"}', '"data.clean:strip", batch: 7}', 12, "io: folders"),
        ('"data.clean:strip"}', '"data.clean:strip", batch: 0}', 12, "at least 1"),
        ('"data.clean:strip"}', '"data.clean:strip", retries: -1}', 12, "at least 0"),
        ('"data.clean:strip"}', '"data.clean:strip", timeout: 0}', 12, "seconds, more than 0"),
        ('"data.clean:strip"}', '"data.clean:strip", timeout: 10000000}', 12, "seconds, more than 0"),
        ('"data.clean:strip"}', '"data.clean:strip", on_error: sayd}', 12, "cdl reference"),
        ('"data.clean:strip"}', '"data.clean:strip", parameters: {a-b: 1}}', 12, "no name of an argument"),
        ('"data.clean:strip"}', '"data.clean:strip", per: all, on_error: aside}', 12, "it would set all aside"),
        ('"data.clean:strip"}', '"data.clean:strip", resources: {cpus: 0}}', 12, "at least 1"),
        ('"data.clean:strip"}', '"data.clean:strip", per: group}', 12, "`group` names a field"),
        ('"data.clean:strip"}', '"data.clean:strip", group: patient}', 12, "`group` names a field"),
        ('"data.clean:strip"}', '"data.clean:strip", resources: {gpus: 1, memory: 9}}', 12, "0 to 0"),
        ("[grep, -v, x]}", "[grep, -v, x], per: all}", 13, "standard input holds one item"),
        ("[grep, -v, x]}", "[grep, -v, x], per: all, io: folders, batch: 5}", 13, "leave it out"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_remedy(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new, 1).encode(), where="cdl.yaml")
    assert says in str(caught.value)
    assert caught.value.where is not None and caught.value.where.startswith(f"cdl.yaml:{line}")


def test_an_empty_file_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        parse(b"", where="cdl.yaml")
    with pytest.raises(NotFound):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("revision.latency_p95 <= 20 ms", 0.02),
        ("revision.size <= 20 MB", 2e7),
        ("live.error_rate <= 1 %", 0.01),
        ("items >= 2000", 2000),
    ],
)
def test_requirements_have_units(text: str, value: float) -> None:
    assert parse_requirement(text).value == value


def test_a_requirement_compares_at_its_edge() -> None:
    found = parse_requirement("test.accuracy >= 0.80")
    assert found.holds(0.8) and not found.holds(0.7999)
    with pytest.raises(ConfigError, match="unit"):
        parse_requirement("a <= 3 parsec")


def test_the_policy_holds_what_decides_and_nothing_else() -> None:
    config = parse(GOOD.encode(), where="cdl.yaml")
    parts = policy_parts(config)
    assert parts["roles"] == {"data_engineer": ["a@example.org"]} and "steps" not in parts["data"]["words"]
    changed = parse(GOOD.replace("data.clean:strip", "data.clean:other").encode(), where="cdl.yaml")
    assert policy_parts(changed) == parts
    assert policy_parts(parse(GOOD.replace("0.80", "0.70").encode(), where="x")) != parts
    assert policy_entries(config) == {
        "split:words": "data.clean:body",
        "metrics:toy:metrics:worst": "metrics:worst",
        "tests:toy": "tests/test_toy.py",
    }


def test_the_reference_page_is_the_schema() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "cdl.yaml.md"
    assert page.read_text() == reference(), "python -m cdl.config.reference > docs/reference/cdl.yaml.md"


def test_the_keys_of_parameters_are_the_project_s_own() -> None:
    text = GOOD.replace('"data.clean:strip"}', '"data.clean:strip", parameters: {by: length, run: {predict: x y}}}')
    [(_, step), _] = parse(text.encode(), where="cdl.yaml").data["words"].named_steps()
    assert step.parameters == {"by": "length", "run": {"predict": "x y"}}
