"""Project start: requirements, layout, branches, roles, keys, CI, and the first policy, in one command and one commit."""

import json
import os
import secrets
from importlib import metadata
from pathlib import Path

import msgspec
from blake3 import blake3

from cdl import DISTRIBUTION, __version__
from cdl.config.schema import Branches, Config
from cdl.errors import Conflict, NotFound
from cdl.git.commit import make_commit, make_tree
from cdl.git.repository import Git
from cdl.keys import SECRET_BYTES, Keyring
from cdl.registry.keyfile import fresh
from cdl.registry.records import Decision, encode, key_path
from cdl.sharing.trust import KEPT, Trusted, note
from cdl.workflow.policy import in_force, policy_at, require_role
from cdl.workflow.workspace import Workspace

EXAMPLES_SOURCE = Path(__file__).parents[3] / "examples"  # in a checkout
EXAMPLES_WHEEL = Path(__file__).parents[1] / "examples"  # in an installed package
PACKAGE = f"{DISTRIBUTION}=={__version__}"  # what a project's CI installs: the version that made it
IGNORED = (".cdl/", "incoming/", "reports/", "__pycache__/")

MINIMAL = """\
# What this project is made of. Every key with its meaning: cdl reference
cdl: 1
project: {name}
# data, model and deploy follow; commit a change of what decides, then: cdl approve policy
"""

GITLAB = """\
# Verifies the registry of this project; needs no key.
cdl-check:
  image: python:3.11
  variables:
    GIT_DEPTH: "0"
  script:
    - pip install {package}
    - cdl ci check
"""

GITHUB = """\
# Verifies the registry of this project; needs no key.
name: cdl
"on": [push, pull_request]
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install {package}
      - run: cdl ci check
"""


class Laid(msgspec.Struct, frozen=True, kw_only=True):
    """What `lay_out` wrote."""

    root: Path
    written: tuple[str, ...]


def examples() -> dict[str, Path]:
    """The examples that can be copied, by name."""
    for folder in (EXAMPLES_SOURCE, EXAMPLES_WHEEL):
        if folder.is_dir():
            return {p.name: p for p in sorted(folder.iterdir()) if (p / "cdl.yaml").is_file()}
    return {}


def lay_out(root: Path, *, name: str | None = None, example: str | None = None) -> Laid:
    """Writes the files of a new project into an empty folder or an existing repository; nothing is overwritten.

    What an init that was broken off had written, or a person before it, is taken in. The branch checked out becomes the
    integration branch. Conflict on a detached HEAD; nothing is written then.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not (root / ".git").exists():
        Git.init(root)
    git = Git(root)
    branch = git.branch()
    if branch is None:
        raise Conflict("HEAD is detached", where=str(root), remedy="git switch BRANCH, then the command again")
    written = _copy_example(root, example) if example and not (root / "cdl.yaml").exists() else []
    minimal = MINIMAL.format(name=name or _project_name(root))
    written += _write(root, "cdl.yaml", minimal) or _untracked(git, "cdl.yaml")
    if branch != Branches().integration and "cdl.yaml" in written:
        _name_branch(root / "cdl.yaml", branch)
    written += _write(root, ".gitlab-ci.yml", GITLAB.format(package=PACKAGE))
    written += _write(root, ".github/workflows/cdl.yml", GITHUB.format(package=PACKAGE))
    if not (root / "requirements.lock").exists():
        written += _write(root, "requirements.lock", installed())
    written += _ignore(root)
    return Laid(root=root, written=tuple(dict.fromkeys(written)))


def draw_keys(config: Config, keyring: Keyring, *, example: str | None = None) -> list[str]:
    """Draws a secret for each dataset that has none in the keyring. Returns their names.

    With `example` it is the example's published one: everybody gets the same split, and the test set is no secret.
    """
    fresh = [name for name in config.data if keyring.find(config.project, name) is None]
    for name in fresh:
        secret = published_secret(example, name) if example else secrets.token_bytes(SECRET_BYTES)
        keyring.create(config.project, name, secret=secret)
    return fresh


def published_secret(example: str, dataset: str) -> bytes:
    """The secret of an example's dataset, the same for everybody."""
    material = f"{example}/{dataset}".encode()
    return blake3(material, derive_key_context="cdl 2026 published key of an example").digest(length=SECRET_BYTES)


def create_key(workspace: Workspace, name: str) -> None:
    """Draws the secret of a dataset that came into cdl.yaml after `cdl init`, and publishes the public halves of its keys.

    Refused for another role; Conflict where the dataset has a key: a secret is never replaced.
    """
    require_role(workspace, ("data_engineer", "devops"), "key create")
    if workspace.published(name):
        raise Conflict(f"{name} has a key", where=key_path(name), remedy="ask a holder for it: cdl key backup")
    if not workspace.holds_key(name):
        workspace.keyring.create(workspace.config.project, name)
    files = {key_path(name): _public(workspace, name)}
    workspace.registry.commit(files=files, command="key create", line=name, branch=workspace.registry.integration)


def first_policy(workspace: Workspace, written: tuple[str, ...]) -> str:
    """Commits the project's files, then the decision that approves the first policy. Returns the decision's id."""
    git, registry = workspace.git, workspace.registry
    keys = {key_path(name): _public(workspace, name) for name in workspace.config.data}
    files = {path: (workspace.root / path).read_bytes() for path in written}
    staged = make_tree(git, registry.tip(), {**files, **keys})
    source = make_commit(git, staged, [t for t in [registry.tip()] if t], "init: files\n")
    policy = policy_at(workspace, source)
    decision = Decision(
        gate="policy",
        subject=policy.id,
        verdict="approve",
        made=workspace.made("model_validator"),
        policy=None,
        seen={},
        document=dict(policy.document),
    )
    identity, path, data = encode(decision)
    registry.commit(
        decision, files={**files, **keys}, command="init", line=workspace.config.project, branch=registry.integration
    )
    confirmed = {key: getattr(workspace.config, key) for key in KEPT}
    note(git, Trusted(code=True, **confirmed))  # whoever makes a project runs it
    workspace.journal.append("project.initialized", who=workspace.person.email)
    return identity


def approved(workspace: Workspace) -> bool:
    """Whether a first policy stands."""
    try:
        in_force(workspace)
    except NotFound:
        return False
    return True


def installed() -> str:
    """The packages of this environment, pinned: what a lock file says when none was given."""
    found = {d.metadata["Name"]: d.version.split("+")[0] for d in metadata.distributions() if d.metadata["Name"]}
    lines = [
        f"{name}=={version}"
        for name, version in sorted(found.items(), key=lambda i: i[0].lower())
        if name != DISTRIBUTION
    ]
    return "\n".join(lines) + "\n"


def _public(workspace: Workspace, name: str) -> bytes:
    """What everybody may know of a dataset's keys."""
    return fresh(workspace.keys(name))


def _copy_example(root: Path, example: str) -> list[str]:
    found = examples()
    if example not in found:
        raise NotFound(f"no example '{example}'", remedy="examples: " + ", ".join(found))
    written = []
    for source in sorted(found[example].rglob("*")):
        path = source.relative_to(found[example])
        if source.is_dir() or "__pycache__" in path.parts:
            continue
        if (root / path).exists():
            raise Conflict(f"{path} exists", where=str(root), remedy="an example goes into an empty folder")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(source.read_bytes())
        written.append(path.as_posix())
    return written


def _write(root: Path, path: str, text: str) -> list[str]:
    target = root / path
    if target.exists():
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return [path]


def _untracked(git: Git, path: str) -> list[str]:
    """A file that stands already, when git does not track it."""
    return [] if git.run("ls-files", "-z", "--", path) else [path]


def _name_branch(path: Path, branch: str) -> None:
    """Says in cdl.yaml that another branch than main is the integration branch, unless it says one."""
    text = path.read_text()
    if not any(line.startswith("branches:") for line in text.splitlines()):
        path.write_text(f"{text.rstrip()}\nbranches: {{integration: {json.dumps(branch)}}}\n")


def _ignore(root: Path) -> list[str]:
    """Adds what git must not keep to .gitignore, once."""
    target = root / ".gitignore"
    lines = target.read_text().splitlines() if target.exists() else []
    missing = [line for line in IGNORED if line not in lines]
    if not missing:
        return []
    target.write_text("\n".join([*lines, *missing]) + "\n")
    return [".gitignore"]


def _project_name(root: Path) -> str:
    name = "".join(c if c.isalnum() else "-" for c in os.path.basename(root.resolve()).lower()).strip("-")
    return name if name[:1].isalpha() else f"project-{name}"
