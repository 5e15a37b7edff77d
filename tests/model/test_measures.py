import numpy as np
import pytest

from cdl.model.measures import classification, confusion, paired, wilson


def test_wilson_agrees_with_published_values() -> None:
    low, high = wilson(15, 20)
    assert [low, high] == pytest.approx([0.5313, 0.8881], abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_confusion_counts_truth_by_row() -> None:
    assert confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2) == [[1, 1], [0, 1]]


def test_classification_reports_each_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    found = classification(np.array([0, 0, 0, 1]), probabilities, ["a", "b"])
    assert found["measures"]["test.accuracy"]["value"] == 0.75
    assert found["classes"]["a"]["recall"]["value"] == pytest.approx(0.6667)
    assert found["classes"]["b"]["precision"]["value"] == 0.5
    assert found["confusion"] == [[2, 1], [0, 1]]


def test_paired_counts_only_disagreement() -> None:
    truth = np.zeros(10, dtype=np.int64)
    first = np.array([0] * 5 + [1] * 5)
    second = np.array([0] * 4 + [1] + [0] * 5)
    found = paired(truth, first, second)
    assert (found["won"], found["lost"]) == (5, 1)
    assert found["difference"] == pytest.approx(0.4)
    assert found["p"] == pytest.approx(0.2188, abs=1e-4)
    assert paired(truth, first, first)["p"] == 1.0
