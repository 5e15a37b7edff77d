"""Writes the reference page of cdl.yaml from the schema: each key with its type, default and docstring."""

import ast
import inspect
import sys
from typing import Any

import msgspec

from cdl.config import schema


def reference() -> str:
    """The page as Markdown."""
    lines = [
        "# cdl.yaml",
        "",
        "Generated from the schema: `python -m cdl.config.reference > docs/reference/cdl.yaml.md`.",
        "",
    ]
    tree = ast.parse(inspect.getsource(schema))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name != "Section":
            lines += _section(node, getattr(schema, node.name))
    return "\n".join(lines)


def _section(node: ast.ClassDef, kind: type[msgspec.Struct]) -> list[str]:
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    lines = [
        f"## {node.name}",
        "",
        ast.get_docstring(node) or "",
        "",
        "| key | type | left out | meaning |",
        "|---|---|---|---|",
    ]
    for first, second in zip(node.body, node.body[1:], strict=False):
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant):
            name = ast.unparse(first.target)
            kind_text = ast.unparse(first.annotation).replace("|", "or")
            lines.append(f"| {name} | {kind_text} | {_default(fields[name])} | {second.value.value!s} |")
    return [*lines, ""]


def _default(field: Any) -> str:
    if field.required:
        return "must be given"
    if field.default is not msgspec.NODEFAULT:
        return "-" if field.default is None or isinstance(field.default, msgspec.Struct) else str(field.default)
    return "empty"


if __name__ == "__main__":
    sys.stdout.write(reference())
