"""What one item is: files, rows of a table, or entries of an array.

A source is names and the bytes behind them, which may be read only when asked for: files are fetched one at a time, and none is
kept that is an item itself. Tables are read by tables.py, arrays by arrays.py.
"""

import fnmatch
import re
from collections.abc import Mapping

from cdl.config.schema import Items
from cdl.data.items.arrays import Entries
from cdl.data.items.listed import Listed
from cdl.data.items.tables import TableRows


def read_items(files: Mapping[str, bytes], items: Items, *, folder_is_label: bool = False) -> Listed:
    """The items in a source's files by name. ConfigError names the file and what is wrong with it."""
    if items.files is not None:
        return Files(files, items.files, folder_is_label=folder_is_label)
    if items.rows is not None:
        return TableRows(files, items.rows)
    assert items.arrays is not None  # cdl.yaml says exactly one
    return Entries(files, items.arrays)


def unfit(files: Mapping[str, bytes], items: Items) -> dict[str, str]:
    """The files that are to be rejected, with the reason; none where others are ignored."""
    if items.files is None or items.others == "ignored":
        return {}
    return {name: f"not {items.files}" for name in sorted(files) if not fnmatch.fnmatchcase(name, items.files)}


class Files(Listed):
    """Each file that fits a pattern; with `folder_is_label` the folder that it lies in is its label."""

    def __init__(self, files: Mapping[str, bytes], pattern: str, *, folder_is_label: bool) -> None:
        self._files = files
        fits = re.compile(fnmatch.translate(pattern)).match
        named = sorted(name for name in files if fits(name))
        super().__init__(named, [_folder(name) for name in named] if folder_is_label else None)

    def _content(self, at: int) -> bytes:
        return self._files[self.names[at]]


def _folder(name: str) -> str | None:
    return name.split("/")[-2] if "/" in name else None
