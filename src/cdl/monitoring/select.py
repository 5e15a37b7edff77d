"""Feedback: the least confident inputs of drifted windows go back to collection as a request, and come back as items.

They are kept sealed. `cdl data collect REQUEST` writes them into the declared source; from there on they are like any other
item, and the key decides their side.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from cdl.config.schema import DataConfig
from cdl.errors import ConfigError, NotFound
from cdl.journal import batch
from cdl.journal.events import Event
from cdl.monitoring.scoring import Row, dataset_of
from cdl.registry.records import Request, short
from cdl.workflow.policy import require_role
from cdl.workflow.request import open_request, request_id
from cdl.workflow.workspace import Workspace


def least_confident(workspace: Workspace, model: str, rows: Sequence[Row], count: int) -> str:
    """Seals the inputs of which a model was least sure, each once; the object."""
    ranked = sorted((r for r in rows if r.error is None and r.input), key=lambda r: (r.confidence, r.id))
    kept: dict[bytes, Row] = {}
    for row in ranked:
        if row.input not in kept and len(kept) < count:
            kept[row.input] = row
    columns: dict[str, list[str] | list[bytes]] = {"id": [r.id for r in kept.values()], "input": list(kept)}
    return workspace.vault(dataset_of(workspace, model), by="monitoring").put(batch.write(columns))


def ask(workspace: Workspace, event: Event) -> str:
    """Opens the request of a drift at collection; its id."""
    fields = event.fields
    drifted = ", ".join(f"{name} {value:.3f}" for name, value in fields["measures"].items())
    because = f"{fields['stage']}: {drifted} in window {fields['window']}, the second in a row: collect these inputs"
    evidence = [fields["selected"]] if fields["selected"] else []
    return open_request(
        workspace,
        step="collection",
        role="data_engineer",
        because=because,
        subject=fields["model"],
        evidence=[event.id, *evidence],
        command="monitor",
        cause=event.id,
    )


def bring_back(workspace: Workspace, what: str, dataset: str) -> list[str]:
    """Writes the inputs that a request selected into the dataset's declared folder; the names of the new files.

    Refused for another role; NotFound for a request that selected nothing; ConfigError where no source is a folder.
    """
    require_role(workspace, ("data_engineer",), "data collect")
    called = short(request_id(workspace, what))
    sealed = [e for e in workspace.registry.record(Request, what).evidence if e.startswith("s:")]
    if not sealed:
        raise NotFound(f"{called} selected no inputs", remedy=f"cdl show {called}")
    config = workspace.config.data[dataset]
    folder = next((s.path for s in config.sources() if s.path and (workspace.root / s.path).is_dir()), None)
    if folder is None:
        raise ConfigError("no source is a folder", where=f"cdl.yaml: data.{dataset}", remedy="source: {path: FOLDER}")
    columns = batch.read(workspace.vault(dataset, by="data").get(sealed[0]), where=called)
    files = _files(config, called, columns["id"], columns["input"])
    for name, data in files.items():
        (workspace.root / folder / name).write_bytes(data)
    return sorted(files)


def _files(config: DataConfig, request: str, ids: Sequence[str], inputs: Sequence[bytes]) -> dict[str, bytes]:
    if config.items.files is not None:
        suffix = PurePosixPath(config.items.files).suffix
        return {f"{request}-{identity[2:]}{suffix}": data for identity, data in zip(ids, inputs, strict=True)}
    rows = config.items.rows
    if rows is None:
        raise ConfigError("items of arrays cannot be brought back", where="cdl.yaml: items", remedy="files or rows")
    found = [{rows.id: i, **_row(data, rows.text)} for i, data in zip(ids, inputs, strict=True)]
    if rows.format == "jsonl":
        return {f"{request}.jsonl": b"".join(json.dumps(r).encode() + b"\n" for r in found)}
    names = [*found[0], *([rows.label] if rows.label else [])] if found else []
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(found)
    return {f"{request}.csv": text.getvalue().encode()}


def _row(data: bytes, column: str | None) -> dict[str, str]:
    if column is not None:
        return {column: data.decode("utf-8", "replace")}
    found: dict[str, str] = json.loads(data)
    return found
