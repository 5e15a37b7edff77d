"""Sealed accuracy of the example news with several keys: each gives another split, a search of its own, and another model.

What is counted for a key: items, test items, the sealed accuracy of the best trial, seconds from `cdl run data` to it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

CDL = str(Path(sys.executable).with_name("cdl"))
ZIP = "bbc-fulltext.zip"
ME = {
    f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in (("NAME", "a"), ("EMAIL", "a@b.c"))
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One key's figures."""

    items: int
    test: int
    accuracy: float
    seconds: float


def data_folder() -> Path:
    """Where the zip lies: CDL_TEST_DATA, or shared/data beside the checkout."""
    return Path(os.environ.get("CDL_TEST_DATA") or Path(__file__).parents[2] / "shared/data")


def measure(key: int | None) -> Measured:
    """Data, search and evaluation with the published key (None), or with a key drawn from a number: the same for everybody."""
    around = {k: v for k, v in os.environ.items() if k != "CDL_KEY"} | ME
    if key is not None:
        around["CDL_KEY"] = sha256(f"news {key}".encode()).hexdigest()

    with tempfile.TemporaryDirectory() as folder:
        around["CDL_KEYRING"] = str(Path(folder) / "keyring")
        root = Path(folder) / "news"

        def cdl(*arguments: str, where: Path = root) -> str:
            done = subprocess.run([CDL, *arguments], cwd=where, env=around, check=True, capture_output=True, text=True)
            return done.stdout

        own = [] if key is None else ["--own-key"]
        cdl("init", "--example", "news", *own, str(root), where=Path(folder))
        (root / "incoming").mkdir()
        shutil.copy(data_folder() / ZIP, root / "incoming")
        began = time.perf_counter()
        cdl("run", "data", "--yes")
        cdl("approve")
        cdl("experiment", "create", "one")
        best = json.loads(cdl("search", "--yes", "--json"))["best"]
        found = json.loads(cdl("model", "register", best, "--json"))
        seconds = time.perf_counter() - began
        [counts] = json.loads(cdl("data", "list", "--json"))
    return Measured(
        items=counts["items"], test=counts["test"], accuracy=found["measures"]["test.accuracy"], seconds=seconds
    )
