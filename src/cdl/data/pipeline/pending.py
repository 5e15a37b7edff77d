"""Whether a dataset's pipeline has anything to do, without doing it: its sources, code and version as they were last time.

What is noted is a digest under `.cdl/`; without it the pipeline simply runs, and makes no commit where nothing changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.data.pipeline.code import source_snapshot
from cdl.data.pipeline.lookups import lookups_at
from cdl.data.sources.fetch import no_file
from cdl.data.sources.seen import glances
from cdl.data.sources.walk import Sight
from cdl.errors import ConfigError, NotFound
from cdl.jobs.closure import closure
from cdl.registry.records import DatasetHead, Lookup
from cdl.workflow.workspace import Workspace

NO_LOOKUPS: Mapping[str, Lookup] = {}


def pending(workspace: Workspace, name: str, there: Mapping[str, Sight] | None = None) -> bool:
    """Whether anything changed since `note` was called. A source that never was in this work tree is nothing to do.

    `there` is what lies at the sources (`glances`), where the caller has looked.
    """
    there = glances(workspace, name) if there is None else there
    paths = [s.path for s in workspace.config.data[name].sources() if s.path]
    place = _place(workspace, name)
    if any(path not in there for path in paths):
        return place.exists()
    if not place.exists():
        return True
    sights = [there[path] for path in paths]
    try:
        lookups = lookups_at(workspace, name, workspace.config.data)
    except NotFound:
        return True  # the run says what it misses
    return place.read_text() != fingerprint(workspace, name, source_snapshot(workspace).tree, sights, lookups)


def missing(workspace: Workspace, name: str) -> ConfigError | None:
    """What a dataset without a version misses, where a source of it is not in this work tree."""
    if workspace.registry.head(DatasetHead, name) is not None or not workspace.holds_key(name):
        return None
    absent = [s for s in workspace.config.data[name].sources() if s.path and not (workspace.root / s.path).exists()]
    return no_file(absent[0]) if absent else None


def note(
    workspace: Workspace, name: str, code: str, sights: Sequence[Sight], lookups: Mapping[str, Lookup] = NO_LOOKUPS
) -> None:
    """Remembers how everything stood when the pipeline ran: its code (a tree of git), the sources with a path, what it joined."""
    place = _place(workspace, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(fingerprint(workspace, name, code, sights, lookups))


def cost(workspace: Workspace, name: str) -> str:
    """What has to be fetched and looked at: files and bytes on disk, addresses, commands."""
    sources, sights = workspace.config.data[name].sources(), glances(workspace, name).values()
    count = sum(map(len, sights))
    parts = [f"{count:,} files, {sum(sight.bytes() for sight in sights) / 1e6:,.1f} MB"] if count else []
    for what in ("url", "bucket", "command"):
        count = sum(bool(getattr(s, what)) for s in sources)
        parts += [f"{count} {what}{'s' if count > 1 else ''}"] if count else []
    return ", ".join(parts)


def fingerprint(
    workspace: Workspace,
    name: str,
    code_tree: str,
    sights: Sequence[Sight],
    lookups: Mapping[str, Lookup] = NO_LOOKUPS,
) -> str:
    """A digest of the section, the steps' code, the sources as the file system shows them, the head, and what is joined."""
    config = workspace.config.data[name]
    head = workspace.registry.head(DatasetHead, name)
    files = workspace.git.files(code_tree)
    runs: list[Any] = [run for run in (*(step.run for _, step in config.named_steps()), config.split.by) if run]
    code = closure(
        files, workspace.git.cat, runs, declared=[f for _, s in config.named_steps() for f in s.files], section=None
    )
    content: dict[str, Any] = {
        "section": msgspec.to_builtins(config),
        "code": code.id,
        "sources": [_told(sight) for sight in sights],
        "head": head.version if head else None,
    }
    if lookups:
        content["joined"] = msgspec.to_builtins(dict(lookups))
    return blake3(document.canonical(content)).hexdigest()


def _told(sight: Sight) -> str:
    """A digest of the names, sizes and times of some files."""
    names = "\0".join(sight.names).encode("utf-8", "surrogateescape")
    return blake3(names + b"\0" + sight.table()[:, :2].astype("<i8").tobytes()).hexdigest()


def _place(workspace: Workspace, name: str) -> Path:
    git = workspace.git
    linked = "" if git.git_dir == git.common_dir else f"-{git.git_dir.name}"  # a work tree has sources of its own
    return workspace.folder / "pending" / f"{name}{linked}.txt"
