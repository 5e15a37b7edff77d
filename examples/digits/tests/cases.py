"""Test cases and a metric of the digits model: run by the sealed evaluation, on model and sealed images."""

import io

import numpy as np
from PIL import Image

WORST_RECALL = 0.8


def test_no_digit_is_neglected(cases) -> None:
    """Every digit is found more often than not."""
    for name in cases.classes:
        of_class = [p == name for t, p in zip(cases.truth, cases.predicted, strict=True) if t == name]
        assert np.mean(of_class) >= WORST_RECALL, name


def test_a_shift_by_one_pixel_changes_little(cases) -> None:
    """Pictures moved to the right are still read."""
    moved = [to_the_right(item) for item in cases.items[:100]]
    same = [a == b for a, b in zip(cases.predict(moved), cases.predicted[:100], strict=True)]
    assert np.mean(same) >= WORST_RECALL


def worst_recall(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> float:
    """The recall of the digit that is found least."""
    return float(min(np.mean(predicted[truth == c] == c) for c in np.unique(truth)))


def to_the_right(content: bytes) -> bytes:
    """The picture moved by one pixel."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        values = np.asarray(image.convert("L"))
    found = np.zeros_like(values)
    found[:, 1:] = values[:, :-1]
    buffer = io.BytesIO()
    Image.fromarray(found).save(buffer, "PNG")
    return buffer.getvalue()
