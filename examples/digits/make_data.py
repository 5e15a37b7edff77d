"""Writes scikit-learn's bundled UCI digits (1,797 images) as PNG files with neutral names, and labels.csv.

python make_data.py --part first --out incoming      70 % of the items and four broken files
python make_data.py --part later --out incoming      20 % more
python make_data.py --part stream --out stream       10 % that stand for requests; their truth is in labels.csv there
"""

import argparse
import csv
import hashlib
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PARTS = {"first": (0.0, 0.7), "later": (0.7, 0.9), "stream": (0.9, 1.0)}
BRIGHTEST = 16  # of the bundled values
ORDER_SEED = 2022


def png(values: np.ndarray) -> bytes:
    """A grey PNG of an array of uint8 (height, width)."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def name(number: int) -> str:
    """A name that tells nothing about the digit."""
    return f"img-{hashlib.blake2b(f'digits {number}'.encode(), digest_size=5).hexdigest()}.png"


def broken() -> dict[str, bytes]:
    """Files that must be rejected: cut off, no image, another size, blank."""
    whole = png(np.arange(64, dtype=np.uint8).reshape(8, 8))
    return {
        name(90001): whole[:50],
        name(90002): b"this is no image\n",
        name(90003): png(np.arange(144, dtype=np.uint8).reshape(12, 12)),
        name(90004): png(np.zeros((8, 8), dtype=np.uint8)),
    }


def main() -> None:
    """Writes one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), default="first")
    parser.add_argument("--out", type=Path, default=Path("incoming"))
    given = parser.parse_args()
    digits = load_digits()
    order = list(range(len(digits.images)))
    random.Random(ORDER_SEED).shuffle(order)
    low, high = (round(share * len(order)) for share in PARTS[given.part])
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "labels.csv"
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["file", "label"])
        for number in order[low:high]:
            grey = (digits.images[number] * 255 / BRIGHTEST).round().astype(np.uint8)
            (given.out / name(number)).write_bytes(png(grey))
            writer.writerow([name(number), int(digits.target[number])])
    planted = broken() if given.part == "first" else {}
    for path, data in planted.items():
        (given.out / path).write_bytes(data)
    print(f"{high - low} images and {len(planted)} broken files in {given.out}")


if __name__ == "__main__":
    main()
