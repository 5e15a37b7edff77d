"""What leads where: from the names that stand in records, events and claims to every object behind them.

A name is 64 hex digits wherever it stands. Of objects only those are looked into that are made of names: trees, manifests
of sealed trees, documents (JSON) and batches. What a tree names is content: it is not looked into, whatever it holds. A hash
of another kind that happens to name no object here leads nowhere, so nothing needs to know what its neighbours look like;
sealed objects name nothing in the open, and no key is needed.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from cdl.errors import Corrupt, NotFound
from cdl.store.store import NAME, SEALED, Fault, Store
from cdl.store.table import is_root, read_root

NAMES = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
TREE = b'{"format":"cdl-tree-'
BATCH = b"cdl-batch-"
LOOK = 64  # bytes at the beginning that tell what an object is


def names(data: bytes | memoryview) -> set[str]:
    """Every name in some bytes, whether or not an object has it."""
    return {found.decode() for found in NAMES.findall(data)}


def reachable(store: Store, roots: Iterable[str], *, known: Iterable[str] = ()) -> Iterator[str]:
    """The objects in the store that names lead to, each once; what is behind `known` ones is known too.

    An object stands after those that it names, so that whoever takes them in order never holds a name without its object.
    """
    seen = set(known)
    stack: list[tuple[str, Iterator[str] | None]] = [(name, None) for name in sorted(roots)]
    while stack:
        name, inner = stack.pop()
        if inner is None:
            if name in seen or not store.has(name):
                continue
            seen.add(name)
            content, leaves = _inside(store, name)
            for leaf in sorted(leaves):
                if leaf not in seen and store.has(leaf):
                    seen.add(leaf)
                    yield leaf
            inner = iter(sorted(content))
        for below in inner:
            if below not in seen:
                stack += [(name, inner), (below, None)]
                break
        else:
            yield name


def freshen(store: Store, roots: Iterable[str]) -> bool:
    """Makes everything behind some names young, so that it stays until it is named; whether all of it is here."""
    wanted = list(roots)
    if not all([store.freshen(name) for name in wanted]):
        return False
    return all([store.freshen(name) for name in reachable(store, wanted)]) and not missing(store, wanted)


def missing(store: Store, roots: Iterable[str]) -> dict[str, str]:
    """Objects that trees and sealed manifests behind some names lead to and that are not here: name -> what names it.

    What was erased is not missing.
    """
    found: dict[str, str] = {}
    for name in reachable(store, roots):
        content, leaves = _inside(store, name)
        if leaves or _is_sealed_manifest(store, name):
            lacking = [below for below in leaves | content if not store.has(below)]
            found |= {below: name for below in lacking if store.erased(below) is None}
    return found


def lacking(store: Store, tree: str) -> list[str]:
    """Objects that a tree's root names and that are not here, or the root itself; by their names alone, nothing else is read.

    What was erased is not missing. Of earlier formats nothing is known.
    """
    name = tree.removeprefix(SEALED)
    try:
        data = store.view(name)
        root = read_root(data, where=name) if is_root(data) else {"needs": [], "pages": [], "tables": []}
    except NotFound:
        return [name] if store.erased(name) is None else []
    except Corrupt:
        return [name]
    below = {str(found).removeprefix(SEALED) for found in (*root["needs"], *(page for _, page in root["pages"]))}
    gone = [found for found in sorted(below) if not store.has(found) and store.erased(found) is None]
    return gone + [
        n for table in root["tables"] if str(table).removeprefix(SEALED) not in gone for n in lacking(store, table)
    ]


class Checked(msgspec.Struct, kw_only=True):
    """How much was read, and what is missing or broken."""

    objects: int = 0
    bytes: int = 0
    faults: list[Fault] = msgspec.field(default_factory=list)


def check(store: Store, roots: Iterable[str]) -> Checked:
    """Reads every object that trees behind some names need, and holds it against its name. What was erased is no fault."""
    done, wanted, seen = Checked(), sorted({*roots}), set[str]()
    lost = [name for name in wanted if not store.has(name) and store.erased(name) is None]
    done.faults = [Fault(name, "it is not in the store") for name in lost]
    for name in wanted:
        try:
            lacking = missing(store, [name])
            done.faults += [
                Fault(below, f"it is not in the store, and {why[:12]} needs it") for below, why in lacking.items()
            ]
            found = list(reachable(store, [name]))
        except Corrupt as error:  # what it names is not known
            done.faults.append(Fault(_told_by(error) or name, error.message))
            continue
        for below in found:
            if below in seen:
                continue  # trees share what they hold
            seen.add(below)
            done.objects += 1
            done.bytes += store.size(below)
            try:
                store.view(below)
            except Corrupt as error:
                done.faults.append(Fault(below, error.message))
    done.faults = list(dict.fromkeys(done.faults))
    return done


def _told_by(error: Corrupt) -> str | None:
    """The object whose file an error names."""
    name = "".join(Path(error.where or "").parts[-2:])
    return name if NAME.fullmatch(name) else None


def inside(store: Store, found: Iterable[str]) -> set[str]:
    """Every name in some objects, whether or not an object has it here; of what is content nothing."""
    everything: set[str] = set()
    for name in found:
        content, leaves = _inside(store, name)
        everything |= content | leaves
    return everything


def _inside(store: Store, name: str) -> tuple[set[str], set[str]]:
    """The names in an object: those to look behind, and those that are content."""
    try:
        start = store.start(name, LOOK)
        if is_root(start):
            return _of_table(store, name)
        if start.startswith(TREE):
            return set(), names(store.view(name))
        if start[:1] in (b"{", b"[") or BATCH in start:
            return names(store.view(name)), set()
    except NotFound:
        pass
    return set(), set()


def _of_table(store: Store, name: str) -> tuple[set[str], set[str]]:
    """The tables in a table, and what else its rows need. Nothing of what only begins like one."""
    data = store.view(name)
    try:
        root = read_root(data, where=name)
        tables, needs, pages = (
            names(" ".join(found).encode()) for found in (root["tables"], root["needs"], [p for _, p in root["pages"]])
        )
    except (Corrupt, KeyError, TypeError):
        return set(), set()
    return tables, (needs | pages) - tables


def _is_sealed_manifest(store: Store, name: str) -> bool:
    return b'"format":"cdl-sealed-' in bytes(store.view(name)[:4096])
