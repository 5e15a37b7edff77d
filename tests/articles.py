"""The articles of the example news: found where a person put them; a test that needs them is skipped elsewhere."""

import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
ZIP = Path(os.environ.get("CDL_TEST_DATA") or CHECKOUT.parent / "shared" / "data") / "bbc-fulltext.zip"
CLASSES = ("business", "entertainment", "politics", "sport", "tech")
needs_articles = pytest.mark.skipif(
    not ZIP.is_file(), reason=f"no {ZIP.name} in {ZIP.parent}; CDL_TEST_DATA names another folder"
)


def every() -> dict[str, bytes]:
    """Each file by its name."""
    with zipfile.ZipFile(ZIP) as pack:
        return {name: pack.read(name) for name in pack.namelist()}


def packed(files: dict[str, bytes], names: Iterable[str]) -> bytes:
    """A zip of some of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name in sorted(names):
            pack.writestr(name, files[name])
    return buffer.getvalue()
