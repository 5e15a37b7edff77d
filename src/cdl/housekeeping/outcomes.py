"""Where an erased item stands among the outcomes that data steps keep for the next time."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.data.pipeline.outcomes import FIELDS, REJECT, Kept, claims, item_key, key
from cdl.data.pipeline.split import TRAIN
from cdl.store.seal import Vault
from cdl.store.table import Box, read_root
from cdl.store.tree import Tree, open_tree
from cdl.workflow.workspace import Workspace

NOTHING = blake3(b"").digest()  # the hash of no byte of anybody's


class Inputs(msgspec.Struct, kw_only=True):
    """What steps were given as one item: hashes and fields."""

    found: dict[tuple[bytes, bytes], Mapping[str, Any]] = msgspec.field(default_factory=dict)

    def add(self, hash_: bytes, fields: Mapping[str, Any]) -> bool:
        """One more; whether it is new. Nothing at all is no item's."""
        known = (hash_, document.canonical(dict(fields)))
        if known in self.found or (hash_ == NOTHING and not fields):
            return False
        self.found[known] = fields
        return True

    def keys(self, box: Box, identity: str) -> set[str]:
        """What they are to a step."""
        return {key(box, identity, hash_, fields) for (hash_, _), fields in self.found.items()}


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome tree that can be opened here, of a step."""

    kept: Kept
    identity: str
    box: Box
    tree: Tree

    def places(self, inputs: Inputs) -> list[int]:
        """Where the outcomes of some inputs stand."""
        wanted = inputs.keys(self.box, self.identity)
        return [p for n, p in self.tree.places.items() if item_key(n) in wanted and not self.tree.erased(p)]

    def lost(self, contents: Mapping[bytes, bytes], inputs: Inputs) -> list[str]:
        """The names of these, and of all that have one of some contents."""
        places = {p for p in range(len(self.tree)) if self.tree.hash(p) in contents and not self.tree.erased(p)}
        places -= {p for p in places if self.tree.hash(p) == NOTHING}
        return sorted(self.tree.names[p] for p in places | {*self.places(inputs)})


def kept_outcomes(workspace: Workspace, vault: Callable[[str, str], Vault]) -> list[Outcomes]:
    """Every outcome tree that is here, but for sealed ones of a dataset whose key is not."""
    found = []
    for claim, kept in claims(workspace.store):
        if not workspace.store.has(kept.tree) or (kept.set != TRAIN and not workspace.holds_key(kept.dataset)):
            continue
        box: Box = workspace.store
        if kept.set != TRAIN:
            root = read_root(workspace.store.view(kept.tree), where=kept.tree)
            box = vault(kept.dataset, str(root["data_key"]))
        found.append(Outcomes(kept=kept, identity=claim.split("/")[1], box=box, tree=open_tree(box, kept.tree)))
    return found


def follow(outcomes: list[Outcomes], contents: dict[bytes, bytes], inputs: Inputs) -> None:
    """Adds what steps made of an item, and what others made of that, to its contents and inputs."""
    grew = True
    while grew:
        grew = False
        for each in outcomes:
            for place in each.places(inputs):
                tree, meta = each.tree, each.tree.meta(place)
                if REJECT not in meta and inputs.add(tree.hash(place), meta.get(FIELDS, {})):
                    grew = True
                    if tree.hash(place) != NOTHING:
                        contents[tree.hash(place)] = bytes(tree.view(place))
