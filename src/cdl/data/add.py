"""Declares a dataset: its section in cdl.yaml, and a line of .gitignore that keeps its files out of git.

cdl.yaml is a person's file: lines are put in, and nothing that stands there is touched.
"""

import re
from pathlib import Path

import msgspec

from cdl import document
from cdl.config.load import NAME, load, parse
from cdl.config.schema import DataConfig
from cdl.data.items.guess import Asked, Guess, Section, guess
from cdl.errors import CdlError, ConfigError, Conflict, Refused
from cdl.git.changes import LITERAL
from cdl.registry.records import DatasetHead
from cdl.store import whole
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

FILE = "cdl.yaml"
IGNORE = ".gitignore"
COMMAND = "data add"
SPECIAL = re.compile(r"([\\*?\[#!])|( )$")  # what a line of .gitignore takes for something else
TOP = re.compile(r"data\s*:\s*(#.*)?")  # the key on a line of its own
EMPTY = re.compile(r"data\s*:\s*(\{\s*\}|null|~)\s*(#.*)?")


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that was declared: what was guessed, its lines in cdl.yaml, and the line that .gitignore took, if any."""

    name: str
    said: str
    lines: str
    ignored: str | None


def declare(workspace: Workspace, place: Path, *, name: str | None = None, asked: Asked | None = None) -> Added:
    """Declares the folder or file at a place as a dataset; one that is declared so and has no version is taken up again.

    Refused for another role, for what lies outside of the project, and for what git tracks; Conflict where the name is taken;
    ConfigError where it does not show what an item is. Nothing is written then.
    """
    require_role(workspace, ("data_engineer",), COMMAND)
    path = _inside(workspace, place)
    called = name or _name(path)
    tracked = workspace.git.run("ls-files", "-z", "--", path, env=LITERAL).split(b"\0")
    if tracked[0]:
        shown = tracked[0].decode("utf-8", "replace")
        remedy = f"git rm -r --cached -- {path}, commit that, then the command again"
        raise Refused("git tracks it, and whoever has the repository has its test set", where=shown, remedy=remedy)
    found: Guess = guess(workspace.root, path, asked or Asked(), folder=workspace.folder)
    file, lines = workspace.root / FILE, section_lines(called, found.section)
    if not _declared(workspace, called, found.section):
        text = inserted(file.read_bytes().decode(), called, found.section)
        ignored = _ignore(workspace, path)  # first: declared, it would be taken for something that git never sees
        whole.write(file, text.encode(), mode=file.stat().st_mode & 0o777)
    else:
        ignored = _ignore(workspace, path)
    return Added(name=called, said=found.said, lines=lines, ignored=ignored)


def inserted(text: str, name: str, section: Section) -> str:
    """cdl.yaml with one more dataset at the end of `data`, everything else as it stands.

    ConfigError, with the lines to write by hand, where its layout leaves no place for them.
    """
    ends = "\r\n" if "\r\n" in text else "\n"
    made = _inserted(text.replace("\r\n", "\n"), name, section)
    if made is not None:
        try:
            before, after = parse(text.encode(), where=FILE), parse(made.encode(), where=FILE)
        except CdlError:
            made = None
        else:
            wanted = {**before.data, name: msgspec.convert(section, DataConfig)}
            made = made if after == msgspec.structs.replace(before, data=wanted) else None
    if made is None:
        lines = section_lines(name, section)
        raise ConfigError("there is no place for another dataset", where=FILE, remedy=f"write it yourself:\n{lines}")
    return made.replace("\n", ends)


def section_lines(name: str, section: Section, indent: str = "  ") -> str:
    """A dataset's section as lines of cdl.yaml."""
    keys = "".join(f"{indent}{indent}{key}: {document.flow(value)}\n" for key, value in section.items())
    return f"{indent}{name}:\n{keys}"


def _inserted(text: str, name: str, section: Section) -> str | None:
    node = document.read(text.encode(), where=FILE)
    lines = text.splitlines()
    keys = sorted(line for path, line in node.lines.items() if len(path) == 1)
    if ("data",) not in node.lines:
        return "\n".join([*lines, "data:", section_lines(name, section)])
    at = node.line(("data",))
    if EMPTY.fullmatch(lines[at - 1]):
        lines[at - 1] = "data:"
        return "\n".join([*lines[:at], section_lines(name, section) + "\n".join(lines[at:])]) + "\n" * bool(lines[at:])
    if not TOP.fullmatch(lines[at - 1]):
        return None
    end = next((line - 1 for line in keys if line > at), len(lines))
    there = [line for path, line in node.lines.items() if len(path) > 1 and path[0] == "data"]
    while end > max(there, default=at) and not lines[end - 1].startswith((" ", "\t")):
        end -= 1  # what stands before the next key is its comment
    first = lines[min(there, default=at) - 1]
    indent = first[: len(first) - len(first.lstrip())] or "  "
    new = section_lines(name, section, indent).rstrip("\n")
    return "\n".join([*lines[:end], new, *lines[end:]]) + "\n"


def _inside(workspace: Workspace, place: Path) -> str:
    """A path as cdl.yaml says it. Refused outside of the project."""
    root, found = workspace.root.resolve(), place.resolve()
    if not found.is_relative_to(root):
        remedy = f"put it into the project: cp -r --reflink=auto {found} {root}/"
        raise Refused("it lies outside of the project", where=str(found), remedy=remedy)
    path = found.relative_to(root)
    if not path.parts or path.parts[0] in (".git", ".cdl", "registry"):
        raise Refused("that is no place for data", where=str(place), remedy="put it into a folder of its own")
    return path.as_posix()


def _name(path: str) -> str:
    """A dataset's name from a path."""
    stem = path.rsplit("/", 1)[-1].partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-")
    if not NAME.fullmatch(name):
        raise ConfigError(f"no name can be made of '{path}'", where=COMMAND, remedy="give one: --name NAME")
    return name


def _declared(workspace: Workspace, name: str, section: Section) -> bool:
    """Whether a dataset is declared so already, and waits for its first version. Conflict where the name is taken otherwise."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is not a name", where="--name", remedy="small letters, digits, - and _")
    there, versions = load(workspace.root).data.get(name), workspace.registry.head(DatasetHead, name)
    if there is not None and (versions is not None or there != msgspec.convert(section, DataConfig)):
        remedy = f"cdl data run {name} takes in what changed; another dataset: --name NAME"
        raise Conflict(f"there is a dataset '{name}'", where=FILE, remedy=remedy)
    if versions is not None:
        raise Conflict(f"there are versions of a dataset '{name}'", where=DatasetHead.folder, remedy="--name NAME")
    return there is not None


def _ignore(workspace: Workspace, path: str) -> str | None:
    """Keeps a path out of git, unless it is; the line that this took."""
    if workspace.git.call("check-ignore", "--quiet", "--", path).returncode == 0:
        return None
    line = "/" + SPECIAL.sub(r"\\\1\2", path) + ("/" if (workspace.root / path).is_dir() else "")
    file = workspace.root / IGNORE
    text = file.read_bytes() if file.exists() else b""
    text += b"\n" if text and not text.endswith(b"\n") else b""
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    whole.write(file, text + line.encode() + b"\n", mode=mode)
    return line
