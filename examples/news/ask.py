"""Asks a running service about articles of the zip, drawn at random, and counts right answers.

python ask.py --from incoming/bbc-fulltext.zip --url http://127.0.0.1:8410 --count 200
"""

import argparse
import http.client
import json
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

CLIENTS = 4


def articles(path: Path) -> list[tuple[bytes, str]]:
    """Every article with the folder that it lies in."""
    with zipfile.ZipFile(path) as pack:
        return [(pack.read(name), name.split("/")[-2]) for name in pack.namelist() if name.endswith(".txt")]


def ask(address: str, asked: list[tuple[bytes, str]]) -> tuple[int, int]:
    """Sends articles over one connection and tells the truth of each afterwards; right and failed answers."""
    right = failed = 0
    connection = http.client.HTTPConnection(address, timeout=60)
    for text, truth in asked:
        try:
            found = post(connection, "/predict", text, "text/plain")
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
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asked = random.Random(given.seed).choices(articles(given.source), k=given.count)
    with ThreadPoolExecutor(CLIENTS) as pool:
        address = urlsplit(given.url).netloc
        found = list(pool.map(lambda i: ask(address, asked[i::CLIENTS]), range(CLIENTS)))
    right, failed = (sum(pair[i] for pair in found) for i in (0, 1))
    print(
        json.dumps({"asked": given.count, "right": right, "failed": failed, "accuracy": round(right / given.count, 4)})
    )


if __name__ == "__main__":
    main()
