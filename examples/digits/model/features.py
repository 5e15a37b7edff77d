"""Images as numbers: one channel, scaled by what the training part shows."""

import io

import numpy as np
from PIL import Image


class Pixels:
    """Grey pixels, centred and scaled by mean and spread of the training part."""

    def __init__(self, mean: float, spread: float) -> None:
        self.mean = mean
        self.spread = spread

    @classmethod
    def fit(cls, items: list[bytes]) -> "Pixels":
        """Mean and spread over all pixels."""
        values = read(items)
        return cls(float(values.mean()), float(values.std()) or 1.0)

    def __call__(self, items: list[bytes]) -> np.ndarray:
        """Inputs of shape (n, 1, 8, 8), float32."""
        return ((read(items) - self.mean) / self.spread)[:, None].astype(np.float32)

    def state(self) -> dict[str, float]:
        """What `from_state` needs."""
        return {"mean": self.mean, "spread": self.spread}

    @classmethod
    def from_state(cls, state: dict[str, float]) -> "Pixels":
        """The fitted transformation again."""
        return cls(state["mean"], state["spread"])


def read(items: list[bytes]) -> np.ndarray:
    """Pixels of shape (n, 8, 8), float64, 0 to 255."""
    found = []
    for content in items:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            found.append(np.asarray(image.convert("L"), dtype=np.float64))
    return np.stack(found)
