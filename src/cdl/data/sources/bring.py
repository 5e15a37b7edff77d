"""Files from outside put into the folder that is a dataset's source, so that the next run takes them in."""

from collections.abc import Iterator, Sequence
from filecmp import cmp
from pathlib import Path

from cdl.data.sources.reflink import place
from cdl.data.sources.walk import walk
from cdl.errors import ConfigError, Conflict
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data ingest"
MODE = 0o644
SHOWN = 5


def bring(workspace: Workspace, name: str, paths: Sequence[Path]) -> list[str]:
    """Copies files, and folders as they are, into the source folder of a dataset; the new ones by name.

    Refused for another role; ConfigError where the dataset has no one folder for them; Conflict where another file of the same
    name stands there. Nothing is copied then.
    """
    require_role(workspace, ("data_engineer",), COMMAND)
    folders = [s.path for s in workspace.config.data[name].sources() if s.path and (workspace.root / s.path).is_dir()]
    if len(folders) != 1:
        remedy = "put them where they belong, then: cdl data run"
        raise ConfigError(f"{len(folders)} of its sources are folders", where=f"cdl.yaml: data.{name}", remedy=remedy)
    folder = workspace.root / folders[0]
    wanted = dict(_wanted(paths))
    there = {n for n in wanted if (folder / n).exists()}
    other = sorted(n for n in there if not (folder / n).is_file() or not cmp(wanted[n], folder / n, shallow=False))
    if other:
        more = f" and {len(other) - SHOWN:,} more" if len(other) > SHOWN else ""
        raise Conflict(
            f"other files stand there: {', '.join(other[:SHOWN])}{more}",
            where=folders[0],
            remedy="rename one of the two",
        )
    new = sorted(wanted.keys() - there)
    for each in new:
        place(wanted[each], folder / each, mode=MODE)
    return new


def _wanted(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """What each file is to be called in the source, as `cp -r` would."""
    for path in paths:
        if path.is_dir():
            inside = walk(path, str(path))
            yield from ((f"{path.resolve().name}/{seen.name}", path / seen.name) for seen in inside)
        elif path.is_file():
            yield path.name, path
        else:
            raise ConfigError("there is no such file or folder", where=str(path), remedy="correct the path")
