"""What continuous integration checks, with no key: the registry's files are what their names say, and only ever appear."""

from collections.abc import Iterator, Mapping

import msgspec

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.git.scan import scan
from cdl.registry.records import (
    AnyHead,
    AnyRecord,
    Dataset,
    DatasetHead,
    Head,
    Labels,
    LabelsHead,
    Model,
    ModelHead,
    Package,
    Record,
    decode,
    decode_head,
    is_head,
    is_record,
    pointed,
    record_path,
)

NAMED: dict[type[Head], type[Record]] = {DatasetHead: Dataset, LabelsHead: Labels, ModelHead: Model}


class Finding(msgspec.Struct, frozen=True):
    """A place in the history and what is wrong there."""

    where: str
    what: str


def check_registry(git: Git, commit: str) -> list[Finding]:
    """Findings in the history of a commit: records changed or removed against any parent, and files that lie.

    A file lies when its name is not that of its content, or when a head names no record of its own. A shallow clone shows of the
    history what it has.
    """
    found = removed_records(git, commit)
    records: dict[str, AnyRecord] = {}
    heads: dict[str, AnyHead] = {}
    blobs = git.files(commit, "registry/")
    data = git.cat(blobs.values())
    for path, blob in blobs.items():
        try:
            if is_record(path):
                records[path] = decode(path, data[blob])
            elif is_head(path):
                heads[path] = decode_head(path, data[blob])
        except CdlError as error:
            found.append(Finding(path, error.message))
    return [*found, *_misplaced(records), *_leading_nowhere(records, heads)]


def removed_records(git: Git, commit: str, *, since: str | None = None) -> list[Finding]:
    """Immutable records that commits changed or removed against any of their parents, `-s ours` and evil merges included."""
    found = []
    for made in scan(git, [commit], [since] if since else [], every_parent=True):
        for change in made.changes:
            if is_record(change.path) and change.old is not None:
                what = "removed" if change.new is None else "changed"
                found.append(Finding(f"{made.id[:12]} {change.path}", f"an immutable record was {what}"))
    return list(dict.fromkeys(found))


def _misplaced(records: Mapping[str, AnyRecord]) -> Iterator[Finding]:
    """Records that stand where another's would: copied or moved by hand."""
    for path, record in records.items():
        own = record_path(record, path.rsplit("/", 1)[-1].removesuffix(".yaml"))
        if path != own:
            yield Finding(path, f"this record belongs at {own}")


def _leading_nowhere(records: Mapping[str, AnyRecord], heads: Mapping[str, AnyHead]) -> Iterator[Finding]:
    """Heads that name nothing here, or a record of another thing."""
    by_id = {path.rsplit("/", 1)[-1].removesuffix(".yaml"): record for path, record in records.items()}
    for path, head in heads.items():
        record = by_id.get(pointed(head))
        kind = NAMED.get(type(head), Package)
        name = path.rsplit("/", 1)[-1].removesuffix(".yaml")
        if not isinstance(record, kind) or getattr(record, "name", name) != name:
            yield Finding(path, f"it names {pointed(head)}, which is no {kind.__name__.lower()} of that name here")
