"""Secrets of datasets, one keyring file for each person, outside of every project.

    <config folder>/cdl/keyring      JSON, 0600:  {"<project>/<dataset>": {"secret", "data_keys", "evaluation"}}

One secret a dataset, never rotated: from it come the split key, the identity key and the first data key (blake3's key
derivation, one context each). Later data keys are random. The key that signs evaluations is drawn apart. `CDL_KEYRING`
names another file, `CDL_KEY` holds one bundle (as `cdl key backup` prints it) or a bare secret of 64 hex digits.
"""

import base64
import fcntl
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
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


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes that belong to a purpose, from a secret."""
    return blake3(secret, derive_key_context=f"cdl 2026 dataset {purpose}").digest()


class DatasetKeys:
    """The keys of one dataset. Nothing of them shows in a repr."""

    def __init__(self, secret: bytes, data_keys: Mapping[str, bytes], evaluation: bytes) -> None:
        if len(secret) != SECRET_BYTES or len(evaluation) != SECRET_BYTES:
            raise ConfigError("a secret has 32 bytes", where="keyring", remedy="cdl key restore")
        self._secret = secret
        self._data_keys = dict(data_keys)
        self._evaluation = evaluation

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
        """The data key that seals now."""
        return max([FIRST_DATA_KEY, *self._data_keys], key=lambda name: int(name[2:]))

    def data_key(self, name: str) -> bytes:
        """A data key (32 bytes); Unavailable when this keyring does not hold it."""
        if name == FIRST_DATA_KEY:
            return derive(self._secret, "data key 1")
        if name not in self._data_keys:
            raise Unavailable(f"data key {name} is not in this keyring", remedy="cdl key restore")
        return self._data_keys[name]

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
        return {"secret": _text(self._secret), "data_keys": keys, "evaluation": _text(self._evaluation)}

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
        return None if entry is None else _keys(entry)

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
        """Adds a backup; the name it belongs to. The same backup twice is one."""
        entry = _bundle(text)
        name = str(entry.pop("name"))
        keys = _keys(entry)
        if self._read().get(name) != keys.entry():
            self._add(name, keys.entry())
        return name

    def _add(self, name: str, entry: dict[str, Any]) -> None:
        with self._locked():
            content = self._read()
            if name in content:
                raise Conflict(
                    f"{name} has a secret already", where=str(self.path), remedy="a secret is never replaced"
                )
            content[name] = entry
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".keyring-")
            with os.fdopen(handle, "w") as file:
                json.dump(content, file, indent=1, sort_keys=True)
            os.chmod(temporary, 0o600)
            os.replace(temporary, self.path)

    def _read(self) -> dict[str, Any]:
        try:
            mode = self.path.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise ConfigError("others can read the keyring", where=str(self.path), remedy=f"chmod 600 {self.path}")
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
        return _keys(entry) if entry.pop("name") == name else None
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
        if not isinstance(found, dict) or not text.strip().startswith(BUNDLE) or "name" not in found:
            raise ValueError("no bundle")
    except ValueError as error:
        raise ConfigError("not a backup line", remedy=f"it begins with {BUNDLE}") from error
    return found


def _keys(entry: Mapping[str, Any]) -> DatasetKeys:
    try:
        data_keys = {name: base64.b64decode(key) for name, key in entry["data_keys"].items()}
        return DatasetKeys(base64.b64decode(entry["secret"]), data_keys, base64.b64decode(entry["evaluation"]))
    except (KeyError, ValueError, AttributeError) as error:
        raise Corrupt("not the keys of a dataset", where="keyring", remedy="cdl key restore") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
