"""What an evaluation may say: declared numbers, per class, class by class, each with its interval.

Intervals of shares are Wilson's (E. B. Wilson, 1927) at 95 %. The difference of two models on the same items is paired:
only items on which they disagree count (McNemar), its interval is the normal one of the paired difference, and the
p value the exact binomial one.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `total`; (0, 1) for none."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = hits / total, Z95 * Z95
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: int, total: int) -> dict[str, Any]:
    """A share with its interval, rounded to four decimals."""
    return {"value": round(hits / total, 4) if total else 0.0, "interval": [round(v, 4) for v in wilson(hits, total)]}


def confusion(truth: Ints, predicted: Ints, classes: int) -> list[list[int]]:
    """Counts by true class (rows) and predicted class (columns)."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, predicted), 1)
    return [[int(v) for v in row] for row in table]


def classification(truth: Ints, probabilities: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, mean log loss, and per class recall and precision, from probabilities of shape (n, classes)."""
    predicted = np.argmax(probabilities, axis=1).astype(np.int64)
    table = confusion(truth, predicted, len(classes))
    hits = sum(table[i][i] for i in range(len(classes)))
    chosen = np.clip(probabilities[np.arange(len(truth)), truth], 1e-12, 1.0)
    per_class = {}
    for i, name in enumerate(classes):
        of_class, called = sum(table[i]), sum(row[i] for row in table)
        per_class[name] = {"recall": share(table[i][i], of_class), "precision": share(table[i][i], called)}
    loss = float(-np.mean(np.log(chosen))) if len(truth) else 0.0
    return {
        "measures": {"test.accuracy": share(hits, len(truth)), "test.loss": {"value": round(loss, 4)}},
        "classes": per_class,
        "confusion": table,
    }


def paired(truth: Ints, first: Ints, second: Ints) -> dict[str, Any]:
    """Accuracy of `second` minus `first` on the same items: difference, 95 % interval, exact p value, counts."""
    won = int(np.sum((second == truth) & (first != truth)))
    lost = int(np.sum((second != truth) & (first == truth)))
    total = len(truth)
    difference = (won - lost) / total if total else 0.0
    variance = (won + lost - (won - lost) ** 2 / total) / (total * total) if total else 0.0
    half = Z95 * math.sqrt(max(variance, 0.0))
    return {
        "difference": round(difference, 4),
        "interval": [round(difference - half, 4), round(difference + half, 4)],
        "p": round(_exact(min(won, lost), won + lost), 4),
        "won": won,
        "lost": lost,
    }


def _exact(fewer: int, total: int) -> float:
    """The two-sided exact binomial p value of `fewer` of `total` at one half."""
    if total == 0:
        return 1.0
    tail: float = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    return min(1.0, 2.0 * tail)
