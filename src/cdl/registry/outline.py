"""A lineage as an indented outline: each thing once, below the one from which the way to the start is the longest.

d-3f2a91c0  dataset points
  l-77b0e4d2  labels points  by dataset
    m-0c5e8b37  model side  by data.labels; data.dataset d-3f2a91c0
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cdl.registry.lineage import STAGE, Edge
from cdl.registry.records import short

ORDER = ("dataset", "labels", "transformation", "model", "package", "stage", "decision", "request", "item", "labeler")


def outline(start: str, edges: Sequence[Edge], names: Mapping[str, tuple[str, str]], *, down: bool) -> list[str]:
    """Lines for a person. `names` gives kind and name of everything that the edges name."""
    inward: dict[str, list[tuple[str, str]]] = defaultdict(list)  # child -> (parent, field)
    for edge in dict.fromkeys(edges):
        parent, child = (edge.target, edge.source) if down else (edge.source, edge.target)
        inward[child].append((parent, edge.field))
    depth = _depths(start, inward)
    below: dict[str, list[str]] = defaultdict(list)
    for child in inward:
        below[max(inward[child], key=lambda pair: depth[pair[0]])[0]].append(child)
    lines: list[str] = []
    todo = [start]
    while todo:
        identity = todo.pop()
        lines.append("  " * depth[identity] + _line(identity, names, inward.get(identity, []), depth))
        todo += sorted(below[identity], key=lambda child: ORDER.index(names[child][0]))[::-1]
    return lines


def _depths(start: str, inward: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, int]:
    """The longest way from the start to each; ids are hashes of content, so no way is a circle."""
    outward: dict[str, list[str]] = defaultdict(list)
    open_ways = {child: len(pairs) for child, pairs in inward.items()}
    for child, pairs in inward.items():
        for parent, _ in pairs:
            outward[parent].append(child)
    depth, todo = {start: 0}, [start]
    while todo:
        parent = todo.pop()
        for child in outward[parent]:
            depth[child] = max(depth.get(child, 0), depth[parent] + 1)
            open_ways[child] -= 1
            if not open_ways[child]:
                todo.append(child)
    return depth


def _line(
    identity: str, names: Mapping[str, tuple[str, str]], inward: Sequence[tuple[str, str]], depth: Mapping[str, int]
) -> str:
    """Id, kind and name of a thing, and by which fields it is tied to what stands above it, nearest first."""
    kind, name = names[identity]
    text = f"{called(identity)}  {kind}" + (f" {name}" if name and kind != "stage" else "")
    fields: dict[str, list[str]] = defaultdict(list)
    for parent, field in sorted(inward, key=lambda pair: -depth[pair[0]]):
        fields[parent].append(field)
    ways = [", ".join(found) + (f" {called(parent)}" if i else "") for i, (parent, found) in enumerate(fields.items())]
    return text + (f"  by {'; '.join(ways)}" if ways else "")


def called(identity: str) -> str:
    """What a person reads: a short id, a mail address as it is, a stage by its name."""
    return identity.removeprefix(STAGE) if "@" in identity or identity.startswith(STAGE) else short(identity)
