"""Asks a running service about pictures of a folder, drawn with repetition, and counts right answers.

python ask.py --from stream --url http://127.0.0.1:8410 --count 1000 --shift small

--shift small    half of the pictures moved by up to one pixel
--shift strong   every picture moved by two pixels to the right and down
--truths FILE    also keeps what was asked, as lines of pixels and label, so that somebody can label it later
"""

import argparse
import csv
import http.client
import io
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

CLIENTS = 4


def moved(values: np.ndarray, down: int, right: int) -> np.ndarray:
    """A picture moved by whole pixels; what comes in is black."""
    found = np.zeros_like(values)
    height, width = values.shape
    source = values[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    found[max(0, down) : max(0, down) + source.shape[0], max(0, right) : max(0, right) + source.shape[1]] = source
    return found


def shifts(kind: str, generator: random.Random) -> tuple[int, int]:
    """How far a picture is moved."""
    if kind == "strong":
        return 2, 2
    if kind == "small" and generator.random() < 0.5:
        return generator.choice((-1, 0, 1)), generator.choice((-1, 0, 1))
    return 0, 0


def ask(address: str, asked: list[tuple[bytes, str]]) -> tuple[int, int]:
    """Sends pictures over one connection and tells the truth of each afterwards; right and failed answers."""
    right = failed = 0
    connection = http.client.HTTPConnection(address, timeout=60)
    for body, truth in asked:
        try:
            found = post(connection, "/predict", body, "image/png")
            right += found["category"] == truth
            post(connection, "/feedback", json.dumps({"id": found["id"], "truth": truth}).encode(), "application/json")
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            failed += 1
            connection.close()
    connection.close()
    return right, failed


def post(connection: http.client.HTTPConnection, path: str, body: bytes, kind: str) -> dict:
    """One request; its answer. ValueError for another status than 200 or 202."""
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if answer.status not in (200, 202):
        raise ValueError(found)
    return found


def main() -> None:
    """Asks, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--shift", choices=("none", "small", "strong"), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truths", type=Path)
    given = parser.parse_args()
    with (given.folder / "labels.csv").open(newline="") as file:
        rows = [(given.folder / row["file"], row["label"]) for row in csv.DictReader(file)]
    generator = random.Random(given.seed)
    asked = []
    for path, truth in generator.choices(rows, k=given.count):
        with Image.open(path) as image:
            values = moved(np.asarray(image.convert("L")), *shifts(given.shift, generator))
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        asked.append((buffer.getvalue(), truth))
        if given.truths:
            with given.truths.open("a") as file:
                file.write(f"{values.tobytes().hex()} {truth}\n")
    with ThreadPoolExecutor(CLIENTS) as pool:
        address = urlsplit(given.url).netloc
        found = list(pool.map(lambda i: ask(address, asked[i::CLIENTS]), range(CLIENTS)))
    right, failed = (sum(pair[i] for pair in found) for i in (0, 1))
    print(
        json.dumps({"asked": given.count, "right": right, "failed": failed, "accuracy": round(right / given.count, 4)})
    )


if __name__ == "__main__":
    main()
