"""What an item's bytes are, and what is wrong with them: text, an image, a row of a table, an array, or plain bytes.

judge(b"caf\xe9")              Judged(kind="text", form="", faults=("not UTF-8",), row=None)
judge(png, "image")            Judged(kind="image", form="PNG RGB 32 x 32", faults=(), row=None)
"""

import io
import json
import re
import unicodedata
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

import msgspec

from cdl.data.items.arrays import MAGIC, form_of
from cdl.errors import ConfigError

Kind = Literal["text", "image", "row", "array", "bytes"]
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # tabs and ends of lines and pages are none
CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
LOOKED_AT = 4096  # bytes that tell text from other bytes
WHOLE = re.compile(r"[+-]?[0-9]+")

EMPTY, NOT_UTF8 = "empty", "not UTF-8"
REPLACED, CONTROLS = "replacement characters (U+FFFD)", "control characters"
NO_IMAGE, NO_ARRAY, NO_ROW = "no readable image", "no readable array", "no row of a table"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What an item is; `form` says size and mode of an image, or shape and dtype of an array."""

    kind: Kind
    form: str = ""
    faults: tuple[str, ...] = ()
    row: Mapping[str, Any] | None = None


def judge(content: bytes, kind: Kind | None = None) -> Judged:
    """Looks at an item's bytes as `kind`, or as what they seem to be."""
    match kind or _seems(content):
        case "array":
            return _array(content)
        case "image":
            return _image(content)
        case "row":
            row = _row(content)
            return Judged(kind="row", faults=_of_words(row) if row is not None else (NO_ROW,), row=row)
        case "text":
            return Judged(kind="text", faults=_of_text(content))
    return Judged(kind="bytes", faults=() if content else (EMPTY,))


def _seems(content: bytes) -> Kind:
    if content.startswith(MAGIC):
        return "array"
    if content.startswith(IMAGES) and CONTROL_BYTES.search(content, 0, LOOKED_AT):
        return "image"
    if content.startswith(b"{") and _row(content) is not None:
        return "row"
    return "bytes" if CONTROL_BYTES.search(content, 0, LOOKED_AT) and not _is_text(content) else "text"


def _is_text(content: bytes) -> bool:
    """Whether bytes with control characters are text nevertheless: UTF-8 without NUL."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _row(content: bytes) -> Mapping[str, Any] | None:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _of_text(content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return (NOT_UTF8,)
    return _of_words({"": text}) if text.strip() else (EMPTY,)


def _of_words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong with the texts among some values."""
    texts = [value for value in values.values() if isinstance(value, str)]
    found = [REPLACED] if any("\ufffd" in text for text in texts) else []
    return tuple(found + ([CONTROLS] if any(CONTROL.search(text) for text in texts) else []))


def _image(content: bytes) -> Judged:
    """Decodes the whole image: one that ends too soon is not readable either."""
    images = import_module("PIL.Image")
    try:
        with warnings.catch_warnings(action="ignore"), images.open(io.BytesIO(content), formats=FORMATS) as image:
            image.load()
            return Judged(kind="image", form=f"{image.format} {image.mode} {image.width} x {image.height}")
    except (OSError, ValueError, SyntaxError, images.DecompressionBombError):
        return Judged(kind="image", faults=(NO_IMAGE,))


def _array(content: bytes) -> Judged:
    try:
        return Judged(kind="array", form=form_of(content))
    except ConfigError:
        return Judged(kind="array", faults=(NO_ARRAY,))


def normalized(content: bytes, kind: Kind) -> bytes:
    """A text or a row without what case, spaces and forms of characters add; other bytes as they are."""
    if kind not in ("text", "row"):
        return content
    text = content.decode("utf-8", "replace")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split()).encode()


def type_of(value: Any) -> str:
    """The type of a column's value; of a text that says a number that of the number."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return _of_word(value)
    return "list" if isinstance(value, list) else "map"


def _of_word(text: str) -> str:
    if WHOLE.fullmatch(text):
        return "integer"
    if text.lower() in ("true", "false"):
        return "boolean"
    try:
        float(text)
    except ValueError:
        return "text"
    return "number"


def fits(found: str, value: Any, declared: str) -> bool:
    """Whether a value of the type `found` is what a column is declared to be; `number?` may be nothing."""
    wanted = declared.removesuffix("?")
    if found == "nothing":
        return declared.endswith("?")
    if wanted == "text":
        return isinstance(value, str)
    return found == wanted or (wanted == "number" and found == "integer")
