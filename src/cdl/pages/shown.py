"""How an item stands on a page: as a small picture, or as the beginning of its text."""

import io
import warnings
from importlib import import_module
from typing import Any

from cdl.data.items.arrays import MAGIC, array_or_bytes
from cdl.errors import ConfigError
from cdl.report.page import Cell

LONGEST_TEXT = 160  # characters of an example
LOOKED_AT = 64 * LONGEST_TEXT  # bytes of an item that its beginning is taken from
PIXELS = 112  # of the longer side of a picture, twice what is shown


def brief(value: Any) -> Cell:
    """A value of a column."""
    return value if isinstance(value, int | float) or value is None else brief_text(str(value)[:LOOKED_AT].encode())


def picture(content: bytes) -> bytes | None:
    """An item as PNG, where it is an image or a small array of two axes."""
    images = import_module("PIL.Image")
    with warnings.catch_warnings(action="ignore"):
        return _picture(images, content)


def _picture(images: Any, content: bytes) -> bytes | None:
    try:
        if content.startswith(MAGIC):
            values = array_or_bytes(memoryview(content))
            image = images.fromarray(values) if values.ndim == 2 and values.dtype == "uint8" else None
        else:
            image = images.open(io.BytesIO(content), formats=["PNG", "JPEG", "GIF", "BMP"])
        if image is None:
            return None
        image.thumbnail((PIXELS, PIXELS))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG")
    except (OSError, ValueError, SyntaxError, ConfigError, images.DecompressionBombError):
        return None
    return buffer.getvalue()


def brief_text(content: bytes) -> str:
    """An item as text, cut short."""
    text = " ".join(content[:LOOKED_AT].decode("utf-8", "replace").split())
    return text if len(text) <= LONGEST_TEXT and len(content) <= LOOKED_AT else text[: LONGEST_TEXT - 1] + "…"
