"""Test cases and a metric of the news model: run by the sealed evaluation, on model and sealed articles."""

import numpy as np

WORST_RECALL = 0.85
SHORT = 60  # words
STILL_RIGHT = 0.85


def test_no_class_is_neglected(cases) -> None:
    """Articles of every class are found."""
    for name in cases.classes:
        of_class = [p == name for t, p in zip(cases.truth, cases.predicted, strict=True) if t == name]
        assert np.mean(of_class) >= WORST_RECALL, name


def test_the_beginning_is_enough(cases) -> None:
    """Most articles are placed by their first words."""
    short = [b" ".join(item.split()[:SHORT]) for item in cases.items]
    same = [a == b for a, b in zip(cases.predict(short), cases.predicted, strict=True)]
    assert np.mean(same) >= STILL_RIGHT


def test_case_does_not_matter(cases) -> None:
    """Capital letters say nothing about a class."""
    loud = [item.decode("utf-8", "replace").upper().encode() for item in cases.items[:100]]
    assert cases.predict(loud) == list(cases.predicted[:100])


def worst_recall(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> float:
    """The recall of the class that is found least."""
    return float(min(np.mean(predicted[truth == c] == c) for c in np.unique(truth)))
