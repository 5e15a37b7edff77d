"""Arrays as bytes: the npy format, never with pickled objects."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdl.errors import Corrupt


def array_bytes(values: NDArray[Any]) -> bytes:
    """An array in npy format."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def array(data: bytes) -> NDArray[Any]:
    """The array in npy bytes; Corrupt when they are not."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError, OSError) as error:
        raise Corrupt(f"not an array: {error}") from error
