"""Everything, in turn."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from versioning import works
from versioning.material import Sizes
from versioning.pipeline import pipeline
from versioning.taking import Found

Row = tuple[str, str, str, list[float]]


def measure(sizes: Sizes) -> Iterator[Row]:
    """(work, system, unit, values) of every work and system that is installed. CDL_BENCH_DIR is where the data lie."""
    for name in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{name}_NAME": "a", f"GIT_{name}_EMAIL": "a@example.org"}
    os.environ |= {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    found = Found()
    with TemporaryDirectory(dir=os.environ.get("CDL_BENCH_DIR")) as name:
        folder = Path(name)
        os.environ["CDL_KEYRING"] = str(folder / "keyring")
        for work in (works.small, works.one_large, works.tables, works.arrays):
            work(found, folder, sizes)
            (folder / "keyring").unlink(missing_ok=True)  # each project has the same name
        if sizes.many:
            works.many(found, folder, sizes)
            (folder / "keyring").unlink(missing_ok=True)
        pipeline(found, folder, sizes.items)
    for (work_, system, unit), values in found.values.items():
        yield work_, system, unit, values
