"""What changed in a dataset's sources since a version was made, by names, sizes and times: no file is read.

Names and sizes are those of the version itself, times those that the run which made it here noted (looked.py): it takes the key.
"""

from array import array
from collections.abc import Iterable, Mapping

import msgspec

from cdl.data.sources import looked
from cdl.data.sources.fetch import called, watchable
from cdl.data.sources.walk import Sight, glance
from cdl.registry.records import Dataset
from cdl.store.seal import Vault
from cdl.store.tree import open_tree
from cdl.workflow.workspace import Workspace

Told = Mapping[str, tuple[int, int]]  # size and time of files by name


class Differing(msgspec.Struct, kw_only=True):
    """Files that differ, by their path in the project; and the sources that nothing was learned about, each with the reason.

    `sizes_only`: no times are known here, so a file of the same size counts as the same.
    """

    added: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    changed: list[str] = msgspec.field(default_factory=list)
    unknown: dict[str, str] = msgspec.field(default_factory=dict)
    sizes_only: bool = False

    @property
    def count(self) -> int:
        """How many files differ."""
        return len(self.added) + len(self.removed) + len(self.changed)


def glances(workspace: Workspace, name: str) -> dict[str, Sight]:
    """What lies at each path that is a source of a dataset, where something does."""
    paths = [source.path for source in workspace.config.data[name].sources() if source.path is not None]
    return {path: glance(workspace.root / path) for path in paths if (workspace.root / path).exists()}


def compare(workspace: Workspace, name: str, version: str | None, there: Mapping[str, Sight]) -> Differing:
    """What differs between `there`, what lies at the sources of a dataset (`glances`), and a version of it.

    Of no version, everything there is was added.
    """
    found = Differing()
    record = workspace.registry.record(Dataset, version) if version else None
    vault = workspace.vault(name, by="data") if record is not None and workspace.holds_key(name) else None
    noted = looked.read(workspace, vault, name, record) if vault is not None else None
    for place, source in enumerate(workspace.config.data[name].sources()):
        path = source.path
        if path is None:
            found.unknown[called(source)] = "an address" if source.url else "a bucket" if source.bucket else "a command"
        elif path not in there:
            found.unknown[path] = "it is not here"
        elif record is None:
            found.added += _paths(path, there[path].names, alone=(workspace.root / path).is_file())
        elif vault is None:
            found.unknown[path] = "you hold no key"
        else:
            seen = noted.sources[place].sight if noted is not None and place < len(noted.sources) else None
            if seen != there[path]:
                alone = (workspace.root / path).is_file()
                _compare(found, path, there[path], held_sizes(vault, record, path), seen, alone=alone)
    return found


def held_sizes(vault: Vault, record: Dataset, path: str) -> Mapping[str, int]:
    """The size of each file that a version holds of a source."""
    source = next((s for s in record.sources if watchable(s) == path), None)
    if source is None:
        return {}
    tree = open_tree(vault, source.raw)
    return dict(zip(tree.names, tree.rows.columns["size"].tolist(), strict=True))


def _compare(
    found: Differing, path: str, now: Sight, held: Mapping[str, int], seen: Sight | None, *, alone: bool
) -> None:
    if alone and held and [*held] != now.names:
        if not _times(seen or Sight([], array("q"))):
            found.unknown[path] = "an archive, and not the one that this clone saw last"
        elif seen is not None and _times(seen) != _times(now):
            found.changed.append(path)
        return
    times = _times(seen) if seen is not None else {}
    found.sizes_only |= seen is None
    there = _times(now)
    found.added += _paths(path, sorted(there.keys() - held.keys()), alone=alone)
    found.removed += _paths(path, sorted(held.keys() - there.keys()), alone=alone)
    other = [n for n in there.keys() & held.keys() if there[n][0] != held[n] or times.get(n, there[n]) != there[n]]
    found.changed += _paths(path, sorted(other), alone=alone)


def _times(sight: Sight) -> Told:
    """Size and time of each file, but of those that were noted without."""
    return {seen.name: (seen.size, seen.changed) for seen in sight if seen.size >= 0}


def _paths(path: str, names: Iterable[str], *, alone: bool) -> list[str]:
    return [path if alone else f"{path.rstrip('/')}/{name}" for name in names]
