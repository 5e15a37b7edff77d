"""Whether a dataset's pipeline has anything to do, without doing it: its sources, code and version as they were last time.

What is noted is a digest under `.cdl/`; without it the pipeline simply runs, and makes no commit where nothing changed.
"""

from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.data.sources import no_file
from cdl.data.versions import source_snapshot
from cdl.data.walk import glance
from cdl.errors import ConfigError
from cdl.jobs.closure import closure
from cdl.registry.records import DatasetHead
from cdl.workflow.workspace import Workspace


def pending(workspace: Workspace, name: str) -> bool:
    """Whether anything changed since `note` was called. A source that never was in this work tree is nothing to do."""
    config = workspace.config.data[name]
    place = _place(workspace, name)
    if any(s.path and not (workspace.root / s.path).exists() for s in config.sources()):
        return place.exists()
    return not place.exists() or place.read_text() != fingerprint(workspace, name)


def missing(workspace: Workspace, name: str) -> ConfigError | None:
    """What a dataset without a version misses, where a source of it is not in this work tree."""
    if workspace.registry.head(DatasetHead, name) is not None or not workspace.holds_key(name):
        return None
    absent = [s for s in workspace.config.data[name].sources() if s.path and not (workspace.root / s.path).exists()]
    return no_file(absent[0]) if absent else None


def note(workspace: Workspace, name: str) -> None:
    """Remembers how everything stands, after the pipeline ran."""
    place = _place(workspace, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(fingerprint(workspace, name))


def cost(workspace: Workspace, name: str) -> str:
    """What has to be fetched and looked at: files and bytes on disk, addresses, commands."""
    sources = workspace.config.data[name].sources()
    seen = [file for s in sources if s.path for file in glance(workspace.root / s.path)]
    parts = [f"{len(seen):,} files, {sum(each.size for each in seen) / 1e6:,.1f} MB"] if seen else []
    for count, what in ((sum(bool(s.url) for s in sources), "url"), (sum(bool(s.command) for s in sources), "command")):
        parts += [f"{count} {what}{'s' if count > 1 else ''}"] if count else []
    return ", ".join(parts)


def fingerprint(workspace: Workspace, name: str) -> str:
    """A digest of the section, the steps' code, the sources as the file system shows them, and the head."""
    config = workspace.config.data[name]
    head = workspace.registry.head(DatasetHead, name)
    files = workspace.git.files(source_snapshot(workspace).tree)
    runs: list[Any] = [step.run for _, step in config.named_steps()] + ([config.split.by] if config.split.by else [])
    code = closure(
        files, workspace.git.cat, runs, declared=[f for _, s in config.named_steps() for f in s.files], section=None
    )
    content = {
        "section": msgspec.to_builtins(config),
        "code": code.id,
        "sources": [_told(workspace.root / s.path) for s in config.sources() if s.path],
        "head": head.version if head else None,
    }
    return blake3(document.canonical(content)).hexdigest()


def _told(path: Path) -> str:
    """A digest of the names (below it), sizes and times of the files at a path."""
    lines = [f"{seen.name}\0{seen.size} {seen.changed}\n" for seen in glance(path)]
    return blake3("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _place(workspace: Workspace, name: str) -> Path:
    git = workspace.git
    linked = "" if git.git_dir == git.common_dir else f"-{git.git_dir.name}"  # a work tree has sources of its own
    return workspace.folder / "pending" / f"{name}{linked}.txt"
