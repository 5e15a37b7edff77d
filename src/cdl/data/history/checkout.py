"""A version's data as files: the source as it was, for who has the key; the training set, for everybody.

The source is written where cdl.yaml declares it, or below another folder. What is there already as it should be stays untouched;
what is there otherwise is a conflict, unless it is to go.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from cdl.data.dataset import Dataset, training
from cdl.data.history.changes import last_labels
from cdl.data.sources import reflink
from cdl.data.sources.fetch import called
from cdl.data.sources.walk import walk
from cdl.errors import ConfigError, Conflict, NotFound, Unavailable
from cdl.registry import records
from cdl.registry.records import Source, short
from cdl.store import whole
from cdl.store.outside import hash_of
from cdl.store.seal import Vault
from cdl.store.store import SEALED, Store
from cdl.store.table import PACK
from cdl.store.tree import Tree, open_tree
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data checkout"
SHOWN = 5
MODE = 0o644
FORMATS = ("files", "jsonl")


class Written(msgspec.Struct, kw_only=True):
    """How many files were written, stood there already, and went.

    Of those written: `shared` take no room of their own on disk, since they share their blocks with the store, and `linked` are
    the store's files under another name, read-only.
    """

    written: int = 0
    same: int = 0
    removed: int = 0
    bytes: int = 0
    shared: int = 0
    linked: int = 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of a source go: below a folder, or, of a source that is a file, that one `alone`."""

    tree: Tree
    folder: Path
    alone: bool

    def standing(self) -> tuple[set[str], list[Path]]:
        """The names that stand there as they are in the tree, and the files that do not, or that it does not have."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            return set(), [self.folder]
        there: set[str] = set()
        others = []
        for name in self._found():
            place = self.tree.places.get(name)
            if place is not None and _same(self.folder / name, self.tree, place):
                there.add(name)
            else:
                others.append(self.folder / name)
        return there, others

    def _found(self) -> list[str]:
        if self.alone:
            return [name for name in self.tree.names if (self.folder / name).exists()]
        return [seen.name for seen in walk(self.folder, str(self.folder))] if self.folder.is_dir() else []


def checkout(
    workspace: Workspace, identity: str, *, to: Path | None = None, force: bool = False, link: bool = False
) -> Written:
    """Writes the source files of a dataset version, by id, below the project or the folder `to`.

    What is a file of its own in the store shares its blocks with it where the file system can; with `link` it is that file.

    Files in the way go where another version holds them as they are. Refused for another role, Unavailable without the key;
    Conflict where others stand in the way, unless `force`, which removes them. Nothing is removed from a folder whose files
    stay in place (`copy: false`): they have no other copy.
    """
    require_role(workspace, ("data_engineer",), COMMAND)
    record = workspace.registry.record(records.Dataset, identity)
    vault = workspace.vault(record.name, by="data")
    places = [
        place_of_source(workspace.root, to, source, number, vault.tree(source.raw))
        for number, source in enumerate(record.sources)
    ]
    standing = [place.standing() for place in places]
    wrong = [path for _, others in standing for path in others]
    if wrong and not force:
        ways = [
            (source, place.folder, others)
            for source, place, (_, others) in zip(record.sources, places, standing, strict=True)
        ]
        lost = [path for way in ways for path in _held_nowhere(workspace, vault, record.name, *way)]
        if lost:
            raise _in_the_way(workspace, identity, lost)
    for place, (_, others) in zip(places, standing, strict=True):
        if others and to is None and place.tree.outside:
            raise Conflict(
                f"{len(others):,} files are not as in {short(identity)}, and they stay in place (copy: false)",
                where=str(place.folder),
                remedy="move them yourself; cdl data checkout --to DIR writes the version elsewhere",
            )
    done = Written(removed=len(wrong))
    for path in wrong:
        path.unlink()
    for place, (there, _) in zip(places, standing, strict=True):
        done.same += len(there)
        tree = place.tree
        rows = [row for name, row in tree.places.items() if name not in there and not tree.erased(row)]
        done.written += len(rows)
        done.bytes += sum(tree.rows.columns["size"][rows].tolist())
        stay = [row for row in rows if tree.stays(row)]
        for row, data in zip(stay, tree.each(stay), strict=True):
            whole.write(place.folder / tree.names[row], data, mode=MODE)
        for row in rows:
            if not tree.stays(row):
                _put(workspace.store, tree, row, place.folder / tree.names[row], done, link=link)
    return done


def _held_nowhere(
    workspace: Workspace, vault: Vault, name: str, source: Source, folder: Path, files: list[Path]
) -> list[Path]:
    """Those files of a source that no version of the dataset holds as they are: they would be lost."""
    registry, left = workspace.registry, files
    every = registry.all(records.Dataset, name) if files else []
    for _, version in sorted(every, key=lambda found: registry.brought(found[0]).when, reverse=True):
        for raw in [s.raw for s in version.sources if s.path == source.path and left]:
            with suppress(NotFound, Unavailable):  # that version is not here
                tree = open_tree(vault, raw)
                left = [path for path in left if not _holds(tree, path.relative_to(folder).as_posix(), path)]
    return left


def _holds(tree: Tree, name: str, path: Path) -> bool:
    """Whether a tree has a copy of a file under its name."""
    place = tree.places.get(name)
    return place is not None and not tree.erased(place) and not tree.stays(place) and _same(path, tree, place)


def _put(store: Store, tree: Tree, row: int, target: Path, done: Written, *, link: bool) -> None:
    """Writes a file of a tree that lies in the store."""
    own = _own_file(store, tree, row)
    if own is not None and link and reflink.link(own, target):
        done.linked += 1
    elif own is not None:
        done.shared += reflink.place(own, target, mode=MODE)
    else:
        whole.write(target, tree.view(row), mode=MODE)


def _own_file(store: Store, tree: Tree, row: int) -> Path | None:
    """The file in the store that is what a tree has at a place and nothing else; None for a sealed or packed content."""
    columns = tree.rows.columns
    name = tree.rows.needs[int(columns[PACK][row])]
    if name.startswith(SEALED) or int(columns["at"][row]) != 0 or store.erased(name) is not None:
        return None
    return store.path(name) if store.size(name) == int(columns["size"][row]) else None


def _in_the_way(workspace: Workspace, identity: str, wrong: Sequence[Path]) -> Conflict:
    shown = [
        path.relative_to(workspace.root).as_posix() if path.is_relative_to(workspace.root) else str(path)
        for path in wrong
    ]
    more = f" and {len(shown) - SHOWN:,} more" if len(shown) > SHOWN else ""
    return Conflict(
        f"{len(shown):,} files are not as in {short(identity)}: {', '.join(shown[:SHOWN])}{more}",
        remedy="cdl data checkout --to DIR writes them elsewhere; --force puts them as they were there",
    )


def place_of_source(root: Path, to: Path | None, source: Source, number: int, tree: Tree) -> Place:
    """Where a source goes. ConfigError where there is no place for it in the project."""
    declared = Path(source.path) if source.path else None
    within = declared is not None and not declared.is_absolute() and ".." not in declared.parts
    if declared is None or not within:
        if to is not None:
            return Place(tree=tree, folder=to / f"source-{number + 1}", alone=False)
        raise ConfigError(
            "this source is no folder of the project", where=called(source), remedy="cdl data checkout --to DIR"
        )
    target = (to or root) / declared
    if list(tree.names) == [declared.name] and not target.is_dir():
        return Place(tree=tree, folder=target.parent, alone=True)
    if to is None and target.is_file():
        raise ConfigError("this source is an archive", where=source.path, remedy="cdl data checkout --to DIR")
    return Place(tree=tree, folder=target, alone=False)


def _same(path: Path, tree: Tree, place: int) -> bool:
    """Whether a file holds what a tree has at a place."""
    size = int(tree.rows.columns["size"][place])
    if path.is_symlink() or path.stat().st_size != size:
        return False
    data = path.read_bytes()
    return hash_of(data) == tree.hash(place) if tree.stays(place) else data == tree.view(place)


def export(workspace: Workspace, identity: str, to: Path, *, form: str = "files") -> int:
    """Writes the training items of a dataset version, by id, into a new folder; how many. Masked fields are left out.

    `files`: each as a file called by its id, and `labels.jsonl`. `jsonl`: `items.jsonl`, a line each with id, label, fields and
    content (text, or base64). Conflict where the folder holds anything.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise Conflict("there is something already", where=str(to), remedy="name a new folder")
    items = training(workspace, identity, last_labels(workspace, identity))
    to.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(items))
    if form == "files":
        for row, content in zip(rows, items.contents, strict=True):
            whole.write(to / str(row["id"]), content, mode=MODE)
        _lines(to / "labels.jsonl", rows)
    else:
        _lines(to / "items.jsonl", [row | _content(c) for row, c in zip(rows, items.contents, strict=True)])
    return len(items)


def _rows(items: Dataset) -> Iterator[dict[str, Any]]:
    for identity, label, fields in zip(items.ids, items.labels, items.fields, strict=True):
        yield {"id": identity, "label": label, "fields": dict(fields)}


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    whole.write(path, text.encode(), mode=MODE)


def _content(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
