"""Items at random in whole batches, of what a system stored: items a second of CPU of one process."""

import json
import sys
from pathlib import Path

from versioning.systems import LANCE
from versioning.taking import Found, run

BATCH = 256
READ_LANCE = """
import json, random, sys, time
import lance
data = lance.dataset("table.lance")
count, batch, batches = data.count_rows(), int(sys.argv[1]), int(sys.argv[2])
drawn = random.Random(1)
data.take([0])
start = time.process_time()
for _ in range(batches):
    data.take([drawn.randrange(count) for _ in range(batch)], columns=["content"]).column("content").to_pylist()
print(json.dumps(batch * batches / (time.process_time() - start)))
"""
READ_CDL = """
import json, random, sys, time
from cdl.project import open_workspace
from cdl.registry.records import Dataset
from pathlib import Path
workspace = open_workspace(Path.cwd())
tree = workspace.store.tree(workspace.registry.all(Dataset)[0][1].train)
count, batch, batches = len(tree), int(sys.argv[1]), int(sys.argv[2])
drawn = random.Random(1)
tree.take(list(range(count)))
start = time.process_time()
for _ in range(batches):
    [bytes(data) for data in tree.take([drawn.randrange(count) for _ in range(batch)])]
print(json.dumps(batch * batches / (time.process_time() - start)))
"""
READERS = {"cdl": (sys.executable, READ_CDL), "lance": (LANCE, READ_LANCE)}


def read_batches(found: Found, system: str, root: Path, batches: int) -> None:
    """Reads batches of what lies in a system's folder, where it can."""
    if system in READERS:
        python, code = READERS[system]
        found.note(
            "read_batches",
            system,
            "items/s of CPU",
            json.loads(run(root, python, "-c", code, str(BATCH), str(batches))),
        )
