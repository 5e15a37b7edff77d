"""The data that everything is measured with, equal each time."""

import random
import struct
from dataclasses import dataclass
from pathlib import Path

MANY = 1_000_000
FOLDERS = 100
WINDOW = 1_000_000  # bytes written at once
SIDE = 28  # pixels of an image


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything there is; `many` files of 200 bytes only where they are asked for."""

    files: int = 70_000
    more: int = 100
    large: int = 2_000_000_000  # bytes
    rows: int = 100_000
    images: int = 60_000
    items: int = 10_000  # of the pipeline
    batches: int = 800
    many: int = 0
    runs: int = 3

    def scaled(self, share: float) -> "Sizes":
        """A share of it, once each; the large file is always one that is cut into chunks."""
        return Sizes(
            files=max(FOLDERS, int(self.files * share)),
            more=max(5, int(self.more * share)),
            large=max(80_000_000, int(self.large * share)),
            rows=max(200, int(self.rows * share)),
            images=max(200, int(self.images * share)),
            items=max(200, int(self.items * share)),
            batches=max(10, int(self.batches * share)),
            many=int(self.many * share),
            runs=1,
        )


def files(folder: Path, numbers: range, *, size: int = 0, folders: int = FOLDERS) -> None:
    """Files of 300 to 900 bytes, or of one size, in folders."""
    drawn = random.Random(numbers.start)
    for number in range(folders):
        (folder / f"{number:03d}").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        with open(f"{folder}/{number % folders:03d}/{number:07d}.txt", "wb") as file:
            file.write(drawn.randbytes(size or 300 + drawn.randrange(600)))


def large(path: Path, size: int) -> None:
    """One file of bytes that nothing repeats."""
    drawn = random.Random(2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, WINDOW):
            file.write(drawn.randbytes(min(WINDOW, size - start)))


def change_byte(path: Path) -> None:
    """Changes the byte in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def rows(path: Path, numbers: range) -> None:
    """A table of a name, a text of about 80 letters and a number, or more rows of it."""
    drawn = random.Random(numbers.start)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not numbers.start:
            file.write("id,text,value\n")
        for number in numbers:
            file.write(f"r{number},{drawn.getrandbits(320):x},{drawn.random():.6f}\n")


def images(path: Path, count: int) -> None:
    """Images as one array in the IDX format."""
    drawn = random.Random(3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack(">HBBIII", 0, 8, 3, count, SIDE, SIDE))
        for _ in range(count):
            file.write(drawn.randbytes(SIDE * SIDE))
