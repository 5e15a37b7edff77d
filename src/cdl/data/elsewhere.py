"""Labels made in Label Studio: tasks written for a team, and what it exported taken in, each label with its labeler and time.

Tasks hold the texts of test items too: the file is written for the person only, never where git would keep it.
"""

import os
from pathlib import Path

import msgspec

from cdl.data import label_studio, labels
from cdl.data.labels import ROLES, Row, Session
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import ConfigError, Refused
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

PRIVATE = 0o600


class Written(msgspec.Struct, frozen=True):
    """How many tasks were written, and the labeling interface that fits them."""

    tasks: int
    interface: str


def export(workspace: Workspace, name: str, path: Path, *, every: bool = False) -> Written:
    """Writes tasks for Label Studio: of the items that nobody labeled, or of every one. Needs the key.

    Refused for another role than a labeler's or data engineer's, and for a file that git would keep.
    """
    require_role(workspace, ROLES, "label export")
    classes = labels.labeling(workspace, name).classes
    place = path.resolve()
    inside = place.is_relative_to(workspace.root.resolve())
    if inside and not workspace.git.run("check-ignore", "--", str(place), check=False):
        remedy = "write it outside the project"
        raise Refused("git would keep this file, and it holds test items", where=str(path), remedy=remedy)
    items = labels.unlabeled(workspace, name, every=every)
    _write(place, label_studio.tasks(items))
    picture = bool(items) and label_studio.is_picture(items[0][1])
    return Written(len(items), label_studio.interface(classes, picture=picture))


def take_in(workspace: Workspace, name: str, path: Path) -> tuple[int, int]:
    """Keeps the labels of an export; how many are new and how many were kept before.

    Each row has the labeler and the time that the export names, else those of this command. ConfigError for what is no
    export, or names an item or class that does not exist; nothing is kept then.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"not read: {error}", where=str(path), remedy="export the project as JSON") from error
    session = Session(workspace, name)
    given = _rows(session, label_studio.choices(text, where=str(path)), str(path))
    before = {(r.item, r.value, r.who, r.when) for side in (TRAIN, TEST) for r in labels.rows(workspace, name, side)}
    fresh = [row for row in given if (row.item, row.value, row.who, row.when) not in before]
    session.keep(fresh)
    return len(fresh), len(given) - len(fresh)


def _write(path: Path, data: bytes) -> None:
    """Writes a file that only its owner may read, also where it stood before."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
    except OSError as error:
        raise ConfigError(f"not written: {error.strerror}", where=str(path), remedy="name another file") from error
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, PRIVATE)
        file.write(data)


def _rows(session: Session, choices: list[label_studio.Choice], where: str) -> list[Row]:
    workspace, made = session.workspace, session.workspace.made()
    ledger = workspace.vault(session.name, by="labeling")
    origins = ledgers.read(ledger, session.dataset.split.ledger).origins
    ids = {origin.name: identity for identity, origin in origins.items()}
    found = []
    for choice in choices:
        item = choice.item if choice.by_id else ids.get(choice.item)
        if item is None:
            raise ConfigError(f"no item '{choice.item}' in the source", where=where, remedy="cdl label export FILE")
        row = Row(
            item=item,
            value=choice.value,
            who=choice.who or made.who,
            when=choice.when or made.when,
            dataset=session.dataset_id,
        )
        found.append(row)
    return found
