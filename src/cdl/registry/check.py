"""What continuous integration checks, with no key: the registry's files are what their names say, and only ever appear."""

from dataclasses import dataclass

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.git.scan import scan
from cdl.registry.records import decode, decode_head, is_head, is_record


@dataclass(frozen=True)
class Finding:
    """A place in the history and what is wrong there."""

    where: str
    what: str


def check_registry(git: Git, commit: str) -> list[Finding]:
    """Findings in the history of a commit: records changed or removed against any first parent, names that lie, broken heads."""
    found = []
    for made in scan(git, [commit], []):
        for change in made.changes:
            if is_record(change.path) and change.old is not None:
                what = "removed" if change.new is None else "changed"
                found.append(Finding(f"{made.id[:12]} {change.path}", f"an immutable record was {what}"))
    for path, blob in git.files(commit, "registry/").items():
        data = git.cat([blob])[blob]
        try:
            if is_record(path):
                decode(path, data)
            elif is_head(path):
                decode_head(path, data)
        except CdlError as error:
            found.append(Finding(path, error.message))
    return found
