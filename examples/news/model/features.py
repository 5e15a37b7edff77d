"""Articles as numbers: how often each stem of a vocabulary occurs, on a logarithmic scale."""

import re
from collections import Counter

import numpy as np
from snowballstemmer import stemmer

COLUMNS = 5000  # the stems that stand in most articles of the training part
FEWEST = 2  # articles that a stem stands in
WORD = re.compile(r"[a-z]{2,}")
PORTER = "porter"
MOST_KNOWN = 200_000  # words remembered: a service reads for months


class Counts:
    """Porter stems counted over a vocabulary that is fitted on the training part; columns beyond it stay empty."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary
        self._columns = {stem: column for column, stem in enumerate(vocabulary)}
        self._known: dict[str, int] = {}  # word -> column, or -1
        self._stem = stemmer(PORTER).stemWord

    @classmethod
    def fit(cls, items: list[bytes]) -> "Counts":
        """The vocabulary of the articles."""
        stem, seen, stems = stemmer(PORTER).stemWord, Counter(), {}
        for content in items:
            there = set(words(content))
            stems |= {word: stem(word) for word in there if word not in stems}
            seen.update({stems[word] for word in there})
        often = sorted((-count, name) for name, count in seen.items() if count >= FEWEST)
        return cls(sorted(name for _, name in often[:COLUMNS]))

    def __call__(self, items: list[bytes]) -> np.ndarray:
        """Inputs of shape (n, COLUMNS), float32: log(1 + count)."""
        found = np.zeros((len(items), COLUMNS), dtype=np.float32)
        for row, content in enumerate(items):
            for word, count in Counter(words(content)).items():
                column = self._column(word)
                if column >= 0:
                    found[row, column] += count
        return np.log1p(found)

    def state(self) -> dict[str, list[str]]:
        """What `from_state` needs."""
        return {"vocabulary": self.vocabulary}

    @classmethod
    def from_state(cls, state: dict[str, list[str]]) -> "Counts":
        """The fitted transformation again, in a service too."""
        return cls(state["vocabulary"])

    def _column(self, word: str) -> int:
        """A word's column; each word is stemmed once, as long as there is room to remember it."""
        column = self._known.get(word)
        if column is None:
            column = self._columns.get(self._stem(word), -1)
            if len(self._known) < MOST_KNOWN:
                self._known[word] = column
        return column


def words(content: bytes) -> list[str]:
    """The words of an article, cleaned or as it came."""
    return WORD.findall(content.decode("utf-8", "replace").lower())
