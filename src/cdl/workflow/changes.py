"""What one policy changes of another, in few words: so that nobody approves what nobody showed.

roles.devops: [ops@example.org] -> [ops@example.org, data@example.org]; code of tests:side; registry/members.yaml
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cdl import document
from cdl.workflow.policy import MEMBERS, Policy

LONGEST = 120  # characters of one value


def changes(before: Policy, now: Policy) -> list[str]:
    """A line for each key, piece of code and file that differs; members are told by their own line (gates.py)."""
    lines = [f"{key}: {_shown(old)} -> {_shown(new)}" for key, old, new in _differing(before.parts, now.parts, ())]
    for what, label in (("code", "code of {}"), ("files", "{}")):
        old, new = before.document.get(what, {}), now.document.get(what, {})
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name) and name != MEMBERS)
        lines += [label.format(name) for name in names]
    return lines


def _differing(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Keys that differ, with both values; mappings are gone into, all else is one value."""
    if old == new:
        return
    if isinstance(old, Mapping | None) and isinstance(new, Mapping | None) and len(path) < 4 and (old or new):
        first, second = old or {}, new or {}
        for key in sorted(first.keys() | second.keys()):
            yield from _differing(first.get(key), second.get(key), (*path, str(key)))
        return
    yield ".".join(path), old, new


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else document.canonical(value).decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
