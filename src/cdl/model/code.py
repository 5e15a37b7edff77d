"""The source of a model: a snapshot of the work tree, and the closure that a submission compares.

The closure holds what the model's section of cdl.yaml names, what that imports, declared files, the section itself and the
lock file. Hyperparameters, epochs, seed and the search are not part of it: each trial records its own; nor is `use`.
"""

from collections.abc import Sequence

import msgspec

from cdl.config.load import parse
from cdl.config.schema import ModelConfig
from cdl.data.pipeline.code import source_snapshot, tell_left_out
from cdl.errors import Corrupt, NotFound
from cdl.git.snapshot import Snapshot
from cdl.jobs.closure import Closure, closure
from cdl.jobs.environment import Environment, environment
from cdl.registry.registry import TRIAL_REFS
from cdl.workflow.workspace import Workspace

NOT_CODE = (
    "use",
    "hyperparameters",
    "epochs",
    "seed",
    "threads",
    "search",
    "resources",
    "tests",
    "metrics",
    "validation",
    "data",
)


class ModelCode(msgspec.Struct, frozen=True, kw_only=True):
    """A model's source: the commit that holds it, its tree, its closure, its section, and where it runs.

    `taken` is the snapshot, where it is one of the work tree.
    """

    commit: str
    tree: str
    closure: Closure
    config: ModelConfig
    train: str | list[str]
    environment: Environment
    taken: Snapshot | None = None


def model_code(
    workspace: Workspace, name: str, commit: str | None = None, *, script: Sequence[str] | None = None
) -> ModelCode:
    """A model's source in a commit, or in a snapshot of the work tree, dirty or not, which nothing keeps until `keep`.

    `script` stands for what cdl.yaml's `train` says. NotFound when cdl.yaml there names no such model; ConfigError when it
    names code that is not there.
    """
    taken: Snapshot | None = None
    if commit is None:
        taken = source_snapshot(workspace)
        commit = taken.commit
    config = section(workspace, name, commit)
    files = workspace.git.files(commit)
    lock = lock_bytes(workspace, commit)
    transform = config.transformation()
    train = list(script) if script else config.train
    entries = [e for e in (train, config.network, config.predict, transform.run if transform else None) if e]
    here = environment(lock)
    plain = {k: v for k, v in msgspec.to_builtins(config).items() if k not in NOT_CODE} | {"train": train}
    found = closure(
        files, workspace.git.cat, entries, declared=config.files, section={"model": plain, "lock": here.lock}
    )
    tree = workspace.git.text("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")
    return ModelCode(
        commit=commit,
        tree=tree,
        closure=found,
        config=config,
        train=train,
        environment=here,
        taken=taken,
    )


def keep(workspace: Workspace, code: ModelCode) -> None:
    """Keeps a snapshot of the work tree for good, and names what it does not hold."""
    if code.taken is not None:
        tell_left_out(workspace, code.taken)
        workspace.git.set_ref(TRIAL_REFS + code.commit, code.commit)


def section(workspace: Workspace, name: str, commit: str) -> ModelConfig:
    """The model's section of cdl.yaml in a commit."""
    data = workspace.git.read(commit, "cdl.yaml")
    if data is None:
        raise Corrupt("the commit holds no cdl.yaml", where=commit[:12], remedy="cdl ci check")
    config = parse(data, where=f"{commit[:8]}:cdl.yaml")
    if name not in config.model:
        raise NotFound(f"no model '{name}'", where="cdl.yaml", remedy="there are: " + ", ".join(config.model))
    return config.model[name]


def lock_bytes(workspace: Workspace, commit: str) -> bytes | None:
    """The lock file as it stands in a commit."""
    path = workspace.config.environment.lock
    return workspace.git.read(commit, path) if path else None
