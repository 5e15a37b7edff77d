"""Secrets of datasets, one keyring file for each person, outside of every project.

    <config folder>/cdl/keyring      JSON, 0600:  {"<project>/<dataset>": {"secret", "data_keys", "evaluation", "before"}}

One secret a dataset, never rotated: from it come the split key, the identity key and the first data key (blake3's key
derivation, one context each). Later data keys are random. The key that signs evaluations is drawn apart and renewed with
each later data key; `before` are the public halves that this person knew before. `CDL_KEYRING` names another file,
`CDL_KEY` holds one bundle (as `cdl key backup` prints it) or a bare secret of 64 hex digits.
"""

import base64
import fcntl
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from blake3 import blake3

from cdl.errors import ConfigError, Conflict, Corrupt, Unavailable

SECRET_BYTES = 32
BUNDLE = "cdlkey1:"
FIRST_DATA_KEY = "k-1"
SIGNATURE = "ed25519:"
NEXT = "#next"  # ends the name under which renewed keys wait until the integration branch names them
DATA_KEY = re.compile(r"k-([1-9][0-9]*)")


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes that belong to a purpose, from a secret."""
    return blake3(secret, derive_key_context=f"cdl 2026 dataset {purpose}").digest()


class DatasetKeys:
    """The keys of one dataset. Nothing of them shows in a repr."""

    def __init__(
        self, secret: bytes, data_keys: Mapping[str, bytes], evaluation: bytes, before: Sequence[str] = ()
    ) -> None:
        if any(len(key) != SECRET_BYTES for key in (secret, evaluation, *data_keys.values())):
            raise ConfigError("a secret has 32 bytes", where="keyring", remedy="cdl key restore")
        self._secret = secret
        self._data_keys = dict(data_keys)
        self._evaluation = evaluation
        self.before = tuple(before)

    def __repr__(self) -> str:
        return f"DatasetKeys(data key {self.data_key_name})"

    @property
    def split_key(self) -> bytes:
        """Gives sides."""
        return derive(self._secret, "split")

    @property
    def identity_key(self) -> bytes:
        """Gives item ids and keyed digests."""
        return derive(self._secret, "identity")

    @property
    def data_key_name(self) -> str:
        """The newest data key here. Which one seals, the integration branch says."""
        return max(self.data_keys, key=_number)

    @property
    def data_keys(self) -> dict[str, bytes]:
        """Every data key here by name."""
        return {FIRST_DATA_KEY: derive(self._secret, "data key 1"), **self._data_keys}

    def data_key(self, name: str) -> bytes:
        """A data key (32 bytes); Unavailable when this keyring does not hold it."""
        found = self.data_keys.get(name)
        if found is None:
            raise Unavailable(f"data key {name} is not in this keyring", remedy="cdl key restore")
        return found

    def same_secret(self, other: "DatasetKeys") -> bool:
        """Whether two are of one dataset: the secret is never renewed."""
        return hmac.compare_digest(self._secret, other._secret)

    def knows(self, public: str) -> bool:
        """Whether a public half is that of this evaluation key, or of one before it."""
        return public == self.public or public in self.before

    def renewed(self) -> "DatasetKeys":
        """The same secret with one more data key, and another key that signs."""
        name = f"k-{_number(self.data_key_name) + 1}"
        data_keys = {**self._data_keys, name: secrets.token_bytes(SECRET_BYTES)}
        before = (*self.before, self.public)
        return DatasetKeys(self._secret, data_keys, secrets.token_bytes(SECRET_BYTES), before)

    def taking(self, newer: "DatasetKeys") -> "DatasetKeys":
        """What a newer bundle of the same secret says, and every data key that was here.

        Where two people renewed at once, one name may stand for two keys: the other one is kept under a name of its own.
        """
        kept = dict(newer._data_keys)
        for name, key in self._data_keys.items():
            if key not in kept.values():
                kept[name if name not in kept else f"{name}.{blake3(key).hexdigest()[:8]}"] = key
        known = dict.fromkeys((*self.before, self.public, *newer.before))
        return DatasetKeys(self._secret, kept, newer._evaluation, [p for p in known if p != newer.public])

    @property
    def public(self) -> str:
        """The public half of the evaluation key."""
        return SIGNATURE + bytes(self._signer().public_key().public_bytes_raw()).hex()

    def sign(self, data: bytes) -> str:
        """An Ed25519 signature (RFC 8032)."""
        return SIGNATURE + bytes(self._signer().sign(data)).hex()

    def entry(self) -> dict[str, Any]:
        """What the keyring file holds of it."""
        keys = {name: _text(key) for name, key in self._data_keys.items()}
        entry = {"secret": _text(self._secret), "data_keys": keys, "evaluation": _text(self._evaluation)}
        return entry | ({"before": list(self.before)} if self.before else {})

    def _signer(self) -> Any:
        ed25519 = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
        return ed25519.Ed25519PrivateKey.from_private_bytes(self._evaluation)


def verify(public: str, data: bytes, signature: str) -> bool:
    """Whether `signature` is that of `data` by the holder of `public`."""
    ed25519 = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    invalid = import_module("cryptography.exceptions").InvalidSignature
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.removeprefix(SIGNATURE)))
        key.verify(bytes.fromhex(signature.removeprefix(SIGNATURE)), data)
    except (invalid, ValueError):
        return False
    return True


class Keyring:
    """The keyring file of a person."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def find(self, project: str, dataset: str) -> DatasetKeys | None:
        """The keys of a dataset, or None."""
        given = os.environ.get("CDL_KEY")
        if given:
            return _given(given, f"{project}/{dataset}")
        entry = self._read().get(f"{project}/{dataset}")
        return None if entry is None else keys_of(entry)

    @property
    def given(self) -> bool:
        """Whether the environment gives the keys, instead of the file."""
        return bool(os.environ.get("CDL_KEY"))

    def require(self, project: str, dataset: str) -> DatasetKeys:
        """The keys of a dataset; Unavailable with the remedy when there are none."""
        found = self.find(project, dataset)
        if found is None:
            raise Unavailable(
                f"you hold no key of {dataset}",
                where=str(self.path),
                remedy="ask a holder for `cdl key backup`, then: cdl key restore",
            )
        return found

    def take(self, project: str, dataset: str, keys: DatasetKeys) -> DatasetKeys:
        """Keeps keys that came from the integration branch, with what was here; what is kept. Conflict for another secret."""
        name = f"{project}/{dataset}"
        with self._locked():
            content = self._read()
            known = keys_of(content[name]) if name in content else None
            if known is not None and not known.same_secret(keys):
                raise Conflict(f"{name} has another secret", where=str(self.path), remedy="a secret is never replaced")
            kept = known.taking(keys) if known is not None else keys
            self._write({**content, name: kept.entry()})
        return kept

    def renewing(self, project: str, dataset: str, keys: DatasetKeys) -> DatasetKeys:
        """Renewed keys, kept aside until the branch names them: the same ones again after a kill."""
        name = f"{project}/{dataset}{NEXT}"
        with self._locked():
            content = self._read()
            waiting = keys_of(content[name]) if name in content else None
            if waiting is None or waiting.before[-1:] != (keys.public,):
                waiting = keys.renewed()
                self._write({**content, name: waiting.entry()})
        return waiting

    def renewed(self, project: str, dataset: str) -> DatasetKeys | None:
        """Renewed keys that wait for the branch to name them."""
        entry = None if self.given else self._read().get(f"{project}/{dataset}{NEXT}")
        return None if entry is None else keys_of(entry)

    def create(self, project: str, dataset: str, *, secret: bytes | None = None) -> DatasetKeys:
        """Draws the keys of a dataset; Conflict when there are some: a secret is never replaced."""
        keys = DatasetKeys(secret or secrets.token_bytes(SECRET_BYTES), {}, secrets.token_bytes(SECRET_BYTES))
        self._add(f"{project}/{dataset}", keys.entry())
        return keys

    def backup(self, project: str, dataset: str) -> str:
        """One line that restores the keys of a dataset."""
        entry = {"name": f"{project}/{dataset}", **self.require(project, dataset).entry()}
        return BUNDLE + base64.urlsafe_b64encode(json.dumps(entry, sort_keys=True).encode()).decode()

    def restore(self, text: str) -> str:
        """Adds a backup; the name it belongs to. The same backup twice is one, an older one takes nothing back."""
        entry = _bundle(text)
        name = str(entry.pop("name"))
        keys, known = keys_of(entry), self._read().get(name)
        if known is None or not keys_of(known).same_secret(keys):
            self._add(name, keys.entry())
        elif not keys_of(known).knows(keys.public):
            project, _, dataset = name.partition("/")
            self.take(project, dataset, keys)
        return name

    def _add(self, name: str, entry: dict[str, Any]) -> None:
        with self._locked():
            content = self._read()
            if name in content:
                raise Conflict(
                    f"{name} has a secret already", where=str(self.path), remedy="a secret is never replaced"
                )
            self._write({**content, name: entry})

    def _write(self, content: dict[str, Any]) -> None:
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".keyring-")
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        os.chmod(temporary, 0o600)
        os.replace(temporary, self.path)

    def _read(self) -> dict[str, Any]:
        try:
            require_private(self.path, "the keyring")
            content: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise Corrupt("not a keyring", where=str(self.path), remedy="restore it from a backup") from error
        return content

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.path.with_name(self.path.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def require_private(path: Path, what: str) -> None:
    """ConfigError when others can read a file of secrets; FileNotFoundError when there is none."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"others can read {what}", where=str(path), remedy=f"chmod 600 {path}")


def default_path() -> Path:
    """Where the keyring is: CDL_KEYRING, or `cdl/keyring` in the user's configuration folder."""
    given = os.environ.get("CDL_KEYRING")
    if given:
        return Path(given)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "cdl" / "keyring"


def _given(text: str, name: str) -> DatasetKeys | None:
    """CDL_KEY: a bundle of this dataset, or a bare secret (its evaluation key is then derived)."""
    if text.startswith(BUNDLE):
        entry = _bundle(text)
        return keys_of(entry) if entry.pop("name") == name else None
    try:
        secret = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError(
            "neither a backup line nor 64 hex digits", where="CDL_KEY", remedy="cdl key backup"
        ) from error
    return DatasetKeys(secret, {}, derive(secret, "evaluation"))


def _bundle(text: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text.strip().removeprefix(BUNDLE)))
        if not isinstance(found, dict) or not text.strip().startswith(BUNDLE) or "/" not in str(found.get("name")):
            raise ValueError("no bundle")
    except ValueError as error:
        raise ConfigError("not a backup line", remedy=f"it begins with {BUNDLE}") from error
    return found


def keys_of(entry: Mapping[str, Any]) -> DatasetKeys:
    """The keys that an entry of the keyring, or a bundle, holds. Corrupt."""
    try:
        data_keys = {name: base64.b64decode(key) for name, key in entry["data_keys"].items()}
        if not all(DATA_KEY.match(name) for name in data_keys):
            raise ValueError("another name")
        secret, evaluation = base64.b64decode(entry["secret"]), base64.b64decode(entry["evaluation"])
        return DatasetKeys(secret, data_keys, evaluation, [str(p) for p in entry.get("before", ())])
    except (KeyError, ValueError, AttributeError, TypeError, ConfigError) as error:
        raise Corrupt("not the keys of a dataset", where="keyring", remedy="cdl key restore") from error


def _number(name: str) -> int:
    match = DATA_KEY.match(name)
    return int(match[1]) if match else 0


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
