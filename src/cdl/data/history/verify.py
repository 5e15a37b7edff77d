"""Everything that a version needs, read and held against its name, and each item against the hash in its tree.

Objects are named by their bytes, sealed ones too, so nobody needs a key to find a broken one. What an item is stands in a tree:
of training items everybody looks, of test items who has the key.
"""

from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import Unavailable
from cdl.registry.objects import of_record
from cdl.registry.records import Dataset
from cdl.store import reach
from cdl.store.reach import Checked
from cdl.store.store import SEALED, Fault
from cdl.store.table import Box
from cdl.store.tree import open_tree
from cdl.workflow.workspace import Workspace


def verify(workspace: Workspace, identity: str) -> Checked:
    """Reads all that a dataset version, by id, needs; how much that was, and what is missing or broken."""
    record = workspace.registry.record(Dataset, identity)
    done = reach.check(workspace.store, (found.removeprefix(SEALED) for found in of_record(record)))
    if not done.faults:
        done.faults += _unfit(workspace.store, [stage.train for stage in record.steps], TRAIN)
    if not done.faults and workspace.holds_key(record.name):
        vault = workspace.vault(record.name, by="data")
        try:
            done.faults += _unfit(vault, [stage.test for stage in record.steps], TEST)
        except Unavailable:  # sealed with an older key, which nobody gave to this person
            workspace.tell(f"{record.name}: you hold no key of this version; its test items were not looked at")
    return done


def _unfit(box: Box, trees: list[str], side: str) -> list[Fault]:
    return [
        Fault(tree, f"{side} item {name[:12]} is not what the tree says")
        for tree in dict.fromkeys(trees)
        for name in open_tree(box, tree).unfit()
    ]
