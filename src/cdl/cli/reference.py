"""Writes the reference page of the commands from the commands themselves."""

import inspect
import sys

import click

from cdl.cli.main import COMMANDS, cli


def reference() -> str:
    """The page as Markdown."""
    lines = [
        "# Commands",
        "",
        "Generated: `python -m cdl.cli.reference > docs/reference/commands.md`. Every command has `--help`.",
        "",
    ]
    context = click.Context(cli, info_name="cdl")
    for name in COMMANDS:
        found = cli.get_command(context, name) if isinstance(cli, click.Group) else None
        if found is not None:
            lines += _page(found, f"cdl {name}")
    return "\n".join(lines)


def _page(command: click.Command, name: str) -> list[str]:
    context = click.Context(command, info_name=name, show_default=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {name}", "", f"`{name} {usage}`", "", inspect.cleandoc(command.help or ""), ""]
    options = [p for p in command.params if isinstance(p, click.Option)]
    told = [found for o in options if (found := o.get_help_record(context))]
    lines += [f"* `{spelt}` {what}".rstrip() for spelt, what in told]
    lines += [""] if options else []
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            lines += _page(command.commands[child], f"{name} {child}")
    return lines


if __name__ == "__main__":
    sys.stdout.write(reference())
