"""Whether requests still look like what the model saw in validation: three two-sample tests, each with its size of effect.

    input        maximum mean discrepancy of transformed inputs (Gretton et al., 2012), Gaussian kernel, median distance
    confidence   Kolmogorov-Smirnov on the highest probability
    category     chi-squared on the counts of predicted classes

A measure has drifted when its p value is below ALPHA *and* its effect is large: a finite reference differs from everything
a little, and with many requests every little difference is significant. What is large is calibrated in docs/benchmarks.md.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.errors import Corrupt
from cdl.model.arrays import array
from cdl.optional import optional

DRIFT, FAILING = "drift.", "failing."  # what measures of a window, and those that failed, begin with
ALPHA = 1e-3
ROWS = 250  # of each sample that the kernel is computed for
PERMUTATIONS = 2000
SEED = 2022
LARGE = {"input": 0.05, "confidence": 0.25, "category": 0.3}
SMALLEST_EXPECTED = 5  # rarer categories are pooled, as the chi-squared approximation asks
Floats = NDArray[np.float64]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What the model saw and said in validation: inputs (m, d), confidence (m,), counts of categories."""

    inputs: NDArray[np.float32]
    confidence: Floats
    categories: Mapping[str, int]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One test: its effect (MMD^2, KS distance, Cramer's V) and p value."""

    name: str
    effect: float
    p_value: float

    @property
    def drifted(self) -> bool:
        """Significant and large."""
        return self.p_value < ALPHA and self.effect > LARGE[self.name]


def load(files: Mapping[str, bytes]) -> Reference:
    """The reference in a package's files. Corrupt."""
    try:
        return Reference(
            inputs=array(files["reference/inputs.npy"]),
            confidence=array(files["reference/confidence.npy"]),
            categories=json.loads(files["reference/categories.json"]),
        )
    except (KeyError, ValueError) as error:
        raise Corrupt(f"the package holds no reference: {error!r}", remedy="cdl deploy apply") from error


def measure(
    reference: Reference, inputs: NDArray[Any], confidence: Sequence[float], categories: Sequence[str]
) -> list[Measure]:
    """Every test of a window of requests against the reference; `inputs` has the shape (n, d)."""
    flat = np.asarray(inputs, dtype=np.float32).reshape(len(inputs), -1)
    return [
        _input(reference.inputs, flat),
        _confidence(reference.confidence, np.asarray(confidence, dtype=np.float64)),
        _category(reference.categories, Counter(categories)),
    ]


def _input(first: NDArray[np.float32], second: NDArray[np.float32]) -> Measure:
    generator = np.random.default_rng(SEED)
    first, second = (_sample(part, generator) for part in (first, second))
    both = np.concatenate([first, second]).astype(np.float64)
    squares = (both**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * both @ both.T, 0)
    own = distances[: len(first), : len(first)]
    width = float(np.median(own[np.triu_indices(len(first), 1)])) or 1.0
    kernel = np.exp(-distances / width)
    np.fill_diagonal(kernel, 0)
    found = _mmd(kernel, np.arange(len(both)) < len(first))
    sides = np.arange(len(both)) < len(first)
    beaten = sum(_mmd(kernel, generator.permutation(sides)) >= found for _ in range(PERMUTATIONS))
    return Measure(name="input", effect=round(found, 5), p_value=(beaten + 1) / (PERMUTATIONS + 1))


def _sample(part: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    return part if len(part) <= ROWS else part[generator.choice(len(part), ROWS, replace=False)]


def _mmd(kernel: Floats, first: NDArray[np.bool_]) -> float:
    """The unbiased estimate of MMD^2 from a kernel without diagonal."""
    sums = kernel @ first
    m, n = int(first.sum()), int((~first).sum())
    within, total = float(sums[first].sum()), float(kernel.sum())
    between = float(sums[~first].sum())
    other = total - within - 2 * between
    return within / (m * (m - 1)) + other / (n * (n - 1)) - 2 * between / (m * n)


def _confidence(first: Floats, second: Floats) -> Measure:
    found = optional("scipy.stats").ks_2samp(first, second, method="asymp")
    return Measure(name="confidence", effect=round(float(found.statistic), 5), p_value=float(found.pvalue))


def _category(first: Mapping[str, int], second: Mapping[str, int]) -> Measure:
    names = sorted(first.keys() | second.keys())
    table = np.asarray([[first.get(n, 0), second.get(n, 0)] for n in names], dtype=np.float64)
    table = _pooled(table)
    if len(table) < 2:
        return Measure(name="category", effect=0.0, p_value=1.0)
    found = optional("scipy.stats").chi2_contingency(table, correction=False)
    effect = float(np.sqrt(found.statistic / table.sum()))  # Cramer's V of a table with two columns
    return Measure(name="category", effect=round(effect, 5), p_value=float(found.pvalue))


def _pooled(table: Floats) -> Floats:
    """Rows whose expected count is too small become one."""
    table = table[table.sum(axis=1) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(table.sum(), 1)
    rare = expected.min(axis=1) < SMALLEST_EXPECTED
    if not rare.any():
        return table
    return np.concatenate([table[~rare], table[rare].sum(axis=0, keepdims=True)])
