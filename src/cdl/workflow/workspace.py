"""The handles that one command works with. It holds no state of its own."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cdl.config.schema import Config
from cdl.errors import ConfigError, Unavailable
from cdl.git.repository import Git, Person
from cdl.identity import Identity
from cdl.jobs.local import Jobs
from cdl.journal.journal import Journal
from cdl.keys import DatasetKeys, Keyring
from cdl.registry.keyfile import KeyFile, decode, unwrap
from cdl.registry.records import Made, key_path
from cdl.registry.registry import Registry
from cdl.sharing.clone import Clone
from cdl.sharing.trust import Shared, Trusted
from cdl.store.seal import Vault
from cdl.store.store import Store


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
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
        """The keys of a dataset; those wrapped for this person on the integration branch are put into the keyring.

        Unavailable, naming who can grant them, when this person holds none, or when none were drawn.
        """
        project, file = self.config.project, self.key_file(dataset)
        found = self.keyring.find(project, dataset)
        if file is None or _in_use(found, file):
            if found is None:
                raise Unavailable(
                    f"{dataset} has no key yet", where="registry/keys", remedy=f"cdl key create {dataset}"
                )
            return found
        renewed = self.keyring.renewed(project, dataset)
        if renewed is not None and _in_use(renewed, file):  # what a kill left between the branch and the keyring
            return self.keyring.take(project, dataset, renewed)
        mine = None if self.keyring.given else self._wrapped_for_me(file)
        if mine is not None:
            keys = unwrap(project, dataset, file, self.identity, mine, found)
            return self.keyring.take(project, dataset, keys)
        if found is None:
            raise self._no_key(dataset, file)
        return found

    def vault(self, dataset: str, *, by: str, data_key: str | None = None) -> Vault:
        """Opens the sealed side of a dataset; every tree read through it is an event `sealed.opened`.

        It seals with the data key in use, or with `data_key` to make something again, and opens with all that are held.
        """
        keys, file = self.keys(dataset), self.key_file(dataset)
        name = data_key or (file.data_key if file else keys.data_key_name)

        def opened(tree: str, items: int) -> None:
            self.journal.append("sealed.opened", who=self.person.email, tree=tree, by=by, items=items)

        return Vault(
            self.store,
            keys.data_keys.get(name),
            name,
            identity=keys.identity_key,
            older=keys.data_keys,
            on_open=opened,
        )

    def holds_key(self, dataset: str) -> bool:
        """Whether this person can open and seal for a dataset: the data key in use is in the keyring, or wrapped for him."""
        found, file = self.keyring.find(self.config.project, dataset), self.key_file(dataset)
        if self.keyring.given or file is None:
            return found is not None and (file is None or file.data_key in found.data_keys)
        return self.may_sign(dataset)

    def may_sign(self, dataset: str) -> bool:
        """Whether results that this person signs count: the evaluation key in use is here too. CDL_KEY may lack it."""
        project, file = self.config.project, self.key_file(dataset)
        if file is None or _in_use(self.keyring.find(project, dataset), file):
            return file is not None
        if self.keyring.given:
            return False
        return self._wrapped_for_me(file) is not None or _in_use(self.keyring.renewed(project, dataset), file)

    @property
    def identity(self) -> Identity:
        """The person's own key."""
        return Identity()

    def signing(self, dataset: str) -> DatasetKeys:
        """The keys whose signature counts now. Unavailable, naming the holders, without them."""
        keys, file = self.keys(dataset), self.key_file(dataset)
        if file is not None and keys.public != file.evaluation:
            raise self._no_key(dataset, file, "older keys only")
        return keys

    def key_file(self, dataset: str) -> KeyFile | None:
        """What the integration branch says of a dataset's keys; None where it says nothing."""
        tip = self.registry.tip()
        data = self.git.read(tip, key_path(dataset)) if tip is not None else None
        return None if data is None else decode(key_path(dataset), data)

    def published(self, dataset: str) -> bool:
        """Whether the integration branch names the keys of a dataset."""
        return self.key_file(dataset) is not None

    def holders(self, dataset: str) -> tuple[str, ...]:
        """Who holds the keys of a dataset, as far as the branch says: members, else whoever drew them."""
        file, tip = self.key_file(dataset), self.registry.tip()
        if file is None or tip is None:
            return ()
        if file.holders:
            return tuple(file.holders)
        if not self.git.whole():
            return ()
        drawn = self.git.text(
            "log", "--format=%ae", "--diff-filter=A", "--end-of-options", tip, "--", key_path(dataset)
        )
        return tuple(drawn.splitlines()[-1:])

    def lacking(self, dataset: str, what: str = "") -> str:
        """For who has no key in use: who has."""
        held = "you hold no key" if not what else f"you hold {what}"
        return f"{held} of {dataset} (holders: {', '.join(self.holders(dataset)) or 'not known here'})"

    def _wrapped_for_me(self, file: KeyFile) -> str | None:
        """The name under which the keys are wrapped for this person's own key."""
        mine = [email for email in file.holders if same_person(email, self.person.email)]
        identity = self.identity
        if not mine or not identity.made() or file.holders[mine[0]].public != identity.public:
            return None
        return mine[0]

    def _no_key(self, dataset: str, file: KeyFile, what: str = "") -> Unavailable:
        """Says who can grant a missing key, and how."""
        said = self.lacking(dataset, what)
        others = " or ".join(h for h in self.holders(dataset) if not same_person(h, self.person.email)) or "a holder"
        grant = f"send {others} the line of `cdl key public`, for: cdl member add {self.person.email} LINE"
        remedy = f"{grant}; or cdl key restore, where you have a backup"
        if self.keyring.given:
            remedy = "CDL_KEY holds other keys: a holder prints those in use by `cdl key backup`"
        elif any(same_person(email, self.person.email) for email in file.holders):
            remedy = "they are wrapped for another key than yours: CDL_IDENTITY may name its file"
        return Unavailable(said, remedy=remedy)

    def made(self, role: str | None = None, *, cause: str | None = None) -> Made:
        """Who does this, and when."""
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Made(who=self.person.email, role=role, when=when, cause=cause)


def same_person(first: str, second: str) -> bool:
    """Whether two mail addresses are one: what differs in case or by spaces does not differ."""
    return "".join(first.split()).casefold() == "".join(second.split()).casefold()


def _in_use(keys: DatasetKeys | None, file: KeyFile) -> bool:
    """Whether keys are those that a file names."""
    return keys is not None and keys.public == file.evaluation and file.data_key in keys.data_keys


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
