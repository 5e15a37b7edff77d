"""A dataset whose contents stay in their source, as tests make it."""

from cdl.data import versions
from cdl.registry.records import Dataset
from cdl.store.tree import Tree
from tests.projects import DATA, Toy

YAML = """\
cdl: 1
project: toy
data:
  points:
    source: {path: incoming, copy: false}
    items: {files: "*.bin"}
    split: {test: 0.3}
    steps:
    - same: {run: "data.steps:same"}
    labels: {classes: [a, b], origin: {folder: true}}
"""
CODE = """
def same(content):
    return content[::-1] if content[:1] == b"\\0" else content
"""


def make(toy: Toy) -> Dataset:
    workspace = toy.become(DATA)
    return workspace.registry.record(Dataset, versions.make(workspace, "points"))


def trees(toy: Toy, record: Dataset) -> list[Tree]:
    """Both sets after the last step, and the raw files."""
    workspace = toy.become(DATA)
    vault = workspace.vault("points", by="data")
    return [workspace.store.tree(record.train), vault.tree(record.test), vault.tree(record.sources[0].raw)]
