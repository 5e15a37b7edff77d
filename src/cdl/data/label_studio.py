"""Label Studio's JSON: tasks for people who label there, and what it exports.

    [{"data": {"item": "3f2a..", "text": "..."}}, ...]                                             tasks
    [{"data": {"item": "3f2a.."}, "annotations": [                                                 an export, as "JSON"
      {"completed_by": {"email": "lena@example.org"}, "updated_at": "2026-11-23T09:12:44.5Z", "was_cancelled": false,
       "result": [{"type": "choices", "from_name": "label", "to_name": "item", "value": {"choices": ["sport"]}}]}]}, ...]

A task's item is `data.item`, an id of ours; else `data.file`, its name in the source; else the only value there is.
Format: https://labelstud.io/guide/task_format
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec

from cdl.errors import ConfigError

PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One annotation: `by_id` says whether `item` is an id or a source's name; `who` and `when` where the export has them."""

    item: str
    by_id: bool
    value: str
    who: str | None
    when: str | None


def tasks(items: Iterable[tuple[str, bytes]]) -> bytes:
    """The file of tasks for items by id: a picture as it is, everything else as text."""
    found = [{"data": {"item": identity, **_shown(content)}} for identity, content in items]
    return json.dumps(found, ensure_ascii=False, indent=1).encode()


def interface(classes: Sequence[str], *, picture: bool) -> str:
    """The labeling interface that fits these tasks."""
    shown = '<Image name="item" value="$image"/>' if picture else '<Text name="item" value="$text"/>'
    quoted = import_module(
        "xml.sax.saxutils"
    ).quoteattr  # it imports urllib.request, which every command would wait for
    choices = "".join(f"<Choice value={quoted(name)}/>" for name in classes)
    return f'<View>{shown}<Choices name="label" toName="item" choice="single">{choices}</Choices></View>'


def is_picture(content: bytes) -> bool:
    """Whether a task shows this content as a picture."""
    return _kind(content) is not None


def choices(text: str, *, where: str) -> list[Choice]:
    """The choices of an export, those with a time last, by time; skipped tasks and predictions left out. ConfigError."""
    try:
        found = [choice for task in json.loads(text) for choice in _of_task(task)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ConfigError(
            f"not Label Studio's JSON: {error!r}", where=where, remedy="export the project as JSON (not JSON-MIN)"
        ) from error
    return sorted(found, key=lambda choice: choice.when or "")


def _of_task(task: Any) -> Iterator[Choice]:
    data = task["data"]
    by_id = "item" in data
    item = str(data["item"] if by_id else data["file"] if "file" in data else _only(data.values()))
    for annotation in task.get("annotations", []):
        results = [r["value"]["choices"] for r in annotation["result"] if r.get("type") == "choices"]
        if annotation.get("was_cancelled") or not results:
            continue
        if len(results) > 1 or len(results[0]) != 1:
            raise ValueError(f"{sum(map(len, results))} choices for one task; one class is wanted")
        when = annotation.get("updated_at") or annotation.get("created_at")
        who = _who(annotation.get("completed_by"))
        yield Choice(item=item, by_id=by_id, value=str(results[0][0]), who=who, when=_utc(when) if when else None)


def _only(values: Iterable[Any]) -> Any:
    """The only value. ValueError where there are none or several."""
    [found] = values
    return found


def _who(completed_by: Any) -> str | None:
    """A mail address where the export has one, else the number that Label Studio knows its people by."""
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or _who(completed_by.get("id")) or "") or None
    return None if completed_by is None else f"label-studio/{completed_by}"


def _utc(text: str) -> str:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(content: bytes) -> dict[str, str]:
    kind = _kind(content)
    if kind is None:
        return {"text": content.decode("utf-8", "replace")}
    return {"image": f"data:{kind};base64,{base64.b64encode(content).decode()}"}


def _kind(content: bytes) -> str | None:
    return next((kind for start, kind in PICTURES.items() if content.startswith(start)), None)
