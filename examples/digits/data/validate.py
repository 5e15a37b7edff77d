"""What a digit must be: 8x8 pixels, and not blank."""

import io

from PIL import Image

from cdl.data.reject import Reject

SIDE = 8  # pixels


def digit(content: bytes, fields: dict) -> bytes:
    """The image unchanged; Reject for another size or a blank one."""
    if (fields["width"], fields["height"]) != (SIDE, SIDE):
        raise Reject("not 8x8 pixels")
    with Image.open(io.BytesIO(content)) as image:
        low, high = image.getextrema()
    if low == high:
        raise Reject("blank")
    return content
