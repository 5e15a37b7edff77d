"""Brings each image into one form, so that equal pictures are equal bytes."""

import io

from PIL import Image, UnidentifiedImageError

from cdl.data.reject import Reject


def opened(content: bytes) -> Image.Image:
    """The image in grey; Reject when it is none."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            return image.convert("L")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise Reject("not a readable PNG") from error


def canonical(content: bytes, fields: dict) -> tuple[bytes, dict]:
    """The image as a grey PNG of one form, with its size as fields."""
    image = opened(content)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue(), {**fields, "width": image.width, "height": image.height}


def pixels(content: bytes) -> bytes:
    """What makes two images equal: their pixels; the bytes themselves where it is no image."""
    try:
        image = opened(content)
    except Reject:
        return content
    return f"{image.width}x{image.height}:".encode() + image.tobytes()
