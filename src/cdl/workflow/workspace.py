"""The handles that one command works with. It holds no state of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cdl.config.schema import Config
from cdl.errors import ConfigError, Unavailable
from cdl.git.repository import Git, Person
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.keys import DatasetKeys, Keyring
from cdl.registry.records import Made, key_path
from cdl.registry.registry import Registry
from cdl.sharing.clone import Clone
from cdl.sharing.trust import Shared, Trusted
from cdl.store.seal import Vault
from cdl.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a step may use. `root` is the work tree, `folder` its `.cdl`, which all work trees of a clone share.

    `trusted` is what this clone allows, `shared` the store that it shares with others. `config` is cdl.yaml with its deciding
    parts as they are in force; `tell` takes progress lines for who is watching.
    """

    root: Path
    folder: Path
    config: Config
    git: Git
    store: Store
    journal: Journal
    registry: Registry
    jobs: Jobs
    keyring: Keyring
    trusted: Trusted
    shared: Shared
    person: Person
    tell: Callable[[str], None]

    @property
    def clone(self) -> Clone:
        """What sharing works with."""
        return Clone(
            project=self.config.project,
            folder=self.folder,
            git=self.git,
            store=self.store,
            journal=self.journal,
            registry=self.registry,
            tell=self.tell,
        )

    def keys(self, dataset: str) -> DatasetKeys:
        """The keys of a dataset; Unavailable, naming the remedy, when this person holds none or none were drawn."""
        if not self.holds_key(dataset) and not self.published(dataset):
            raise Unavailable(f"{dataset} has no key yet", where="registry/keys", remedy=f"cdl key create {dataset}")
        return self.keyring.require(self.config.project, dataset)

    def vault(self, dataset: str, *, by: str) -> Vault:
        """Opens the sealed side of a dataset; every tree read through it is an event `sealed.opened`."""
        keys = self.keys(dataset)

        def opened(tree: str, items: int) -> None:
            self.journal.append("sealed.opened", who=self.person.email, tree=tree, by=by, items=items)

        return Vault(
            self.store,
            keys.data_key(keys.data_key_name),
            keys.data_key_name,
            identity=keys.identity_key,
            on_open=opened,
        )

    def holds_key(self, dataset: str) -> bool:
        """Whether this person can open the sealed side of a dataset."""
        return self.keyring.find(self.config.project, dataset) is not None

    def published(self, dataset: str) -> bool:
        """Whether the integration branch names the keys of a dataset."""
        tip = self.registry.tip()
        return tip is not None and self.git.read(tip, key_path(dataset)) is not None

    def made(self, role: str | None = None, *, cause: str | None = None) -> Made:
        """Who does this, and when."""
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Made(who=self.person.email, role=role, when=when, cause=cause)


def named(things: Mapping[str, object], kind: str, name: str | None) -> str:
    """The one thing that is meant: `name`, or the only one there is. ConfigError otherwise."""
    if name is not None:
        if name not in things:
            raise ConfigError(f"no {kind} '{name}'", where="cdl.yaml", remedy="there are: " + ", ".join(things))
        return name
    if len(things) != 1:
        raise ConfigError(
            f"{len(things)} {kind}s: say which", where="cdl.yaml", remedy="there are: " + ", ".join(things)
        )
    return next(iter(things))
