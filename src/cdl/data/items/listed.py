"""The items of a source in order of their names: what they are called, and a content when it is asked for.

    listed = read_items(files, config.items)
    listed.names[3], listed.content(3)

A name says where an item came from and is never shown in the open; a label never enters the content.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cdl.errors import ConfigError

NO_FIELDS: Mapping[str, Any] = {}


class Listed(ABC):
    """Items by place, with labels where the source brings them. Contents are made when they are asked for, and not kept."""

    _order: Sequence[int]

    def __init__(self, names: Sequence[str], labels: Sequence[str | None] | None = None) -> None:
        """Puts them in order, where they do not stand so; ConfigError where one stands twice."""
        found: Sequence[str | None] = labels if labels is not None else [None] * len(names)
        if all(first < second for first, second in pairwise(names)):
            self.names, self.labels, self._order = names, found, range(len(names))
            return
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self.names = [names[i] for i in self._order]
        self.labels = [found[i] for i in self._order]
        twice = next((first for first, second in pairwise(self.names) if first == second), None)
        if twice is not None:
            raise ConfigError("an item stands twice", where=twice, remedy="give each its own name or id")

    def __len__(self) -> int:
        return len(self.names)

    def content(self, place: int) -> bytes:
        """The bytes of an item."""
        return self._content(self._order[place])

    def fields(self, place: int) -> Mapping[str, Any]:
        """What else is known of an item."""
        return self._fields(self._order[place])

    @abstractmethod
    def _content(self, at: int) -> bytes:
        """The bytes of the item that came at this place."""

    def _fields(self, at: int) -> Mapping[str, Any]:
        return NO_FIELDS
