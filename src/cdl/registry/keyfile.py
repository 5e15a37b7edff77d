"""What everybody may know of a dataset's keys: `registry/keys/<dataset>.yaml` on the integration branch.

    evaluation: "ed25519:7c4e..."          public half of the key that signs results now
    data_key: k-2                          the data key that seals now
    older:                                 public halves before it, the first one first
      - public: "ed25519:91d0..."
        next: "ed25519:..."                its signature of the one that follows
        results: [5b1d..., ...]            what it signed and a decision named by then: valid for these and no other
    holders:
      data@example.org:
        public: "x25519:8520..."
        wrapped: "q83v..."                 all keys, for this person alone (HPKE)
    signature: "ed25519:..."               of all this, by the key that signs now

A file that `cdl init` wrote holds the first two lines only. A wrapping is bound to project, dataset, data key and member.
"""

import json
from functools import lru_cache
from typing import Literal

import msgspec

from cdl import document
from cdl.errors import Corrupt
from cdl.identity import Identity, wrap
from cdl.keys import DatasetKeys, keys_of, verify

Validity = Literal["valid", "outdated", "forged"]
"""valid: signed by the present key, or by an older one while a decision named it; outdated: by an older one, and none did."""


class Older(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public half that was renewed: what it hands over to, and the results that it is still valid for."""

    public: str
    next: str
    results: list[str] = []


class Holder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member's public key, and the keys as they are wrapped for it."""

    public: str
    wrapped: str


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The public side of a dataset's keys."""

    evaluation: str
    data_key: str
    older: list[Older] = []
    holders: dict[str, Holder] = {}
    signature: str | None = None

    @property
    def publics(self) -> list[str]:
        """Every public half, the one in use first, then the last before it."""
        return [self.evaluation, *(o.public for o in reversed(self.older))]

    def judge(self, result: str, unsigned: bytes, signature: str) -> Validity:
        """Whether a signed result counts; `result` is its object."""
        if verify(self.evaluation, unsigned, signature):
            return "valid"
        for older in self.older:
            if verify(older.public, unsigned, signature):
                return "valid" if result in older.results else "outdated"
        return "forged"


@lru_cache(maxsize=32)
def decode(path: str, data: bytes) -> KeyFile:
    """The file; Corrupt for another form."""
    try:
        return msgspec.convert(document.read(data, where=path).value, KeyFile)
    except msgspec.ValidationError as error:
        raise Corrupt(str(error), where=path, remedy=f"git log -- {path}") from error


def encode(file: KeyFile) -> bytes:
    """The bytes of a file."""
    return document.write(_plain(file))


def fresh(keys: DatasetKeys) -> bytes:
    """The file of keys that were just drawn and that nobody else holds."""
    return encode(KeyFile(evaluation=keys.public, data_key=keys.data_key_name))


def written(
    project: str, dataset: str, keys: DatasetKeys, members: dict[str, str], *, data_key: str, older: list[Older]
) -> KeyFile:
    """A file in which the keys are wrapped for each member (mail address -> public key), signed. ConfigError for a bad key."""
    bundle = json.dumps(keys.entry(), sort_keys=True).encode()
    holders = {
        email: Holder(public=public, wrapped=wrap(public, bundle, _info(project, dataset, data_key, email)))
        for email, public in sorted(members.items())
    }
    file = KeyFile(evaluation=keys.public, data_key=data_key, older=older, holders=holders)
    return msgspec.structs.replace(file, signature=keys.sign(signed_part(project, dataset, file)))


def handed_over(project: str, dataset: str, old: DatasetKeys, new: str, results: list[str]) -> Older:
    """What says that an evaluation key was renewed by who held it."""
    return Older(public=old.public, next=old.sign(_handover(project, dataset, old.public, new)), results=results)


def faults(project: str, dataset: str, file: KeyFile) -> list[str]:
    """What does not fit in a file, with no key: its signature, or a public half that the one before did not hand over to."""
    found = []
    if (file.older or file.holders or file.signature) and not verify(
        file.evaluation, signed_part(project, dataset, file), file.signature or ""
    ):
        found.append("it is not signed by the evaluation key that it names")
    chain = [*(o.public for o in file.older), file.evaluation]
    for older, follows in zip(file.older, chain[1:], strict=True):
        if not verify(older.public, _handover(project, dataset, older.public, follows), older.next):
            found.append(f"{older.public[:16]} did not hand over to {follows[:16]}")
    return found


def unwrap(
    project: str, dataset: str, file: KeyFile, identity: Identity, email: str, known: DatasetKeys | None
) -> DatasetKeys:
    """The keys that a file holds for a member.

    Corrupt for a file that no holder wrote, and for keys that are not what it says; Unavailable for a wrapping that was made for
    somebody else, or for another project.
    """
    path = f"registry/keys/{dataset}.yaml"
    for fault in faults(project, dataset, file):
        raise Corrupt(fault, where=path, remedy=f"git log -- {path}")
    if known is not None and not any(known.knows(public) for public in file.publics):
        raise Corrupt("its keys do not follow those in your keyring", where=path, remedy=f"git log -- {path}")
    info = _info(project, dataset, file.data_key, email)
    try:
        keys = keys_of(json.loads(identity.unwrap(file.holders[email].wrapped, info)))
    except (ValueError, TypeError):
        raise Corrupt("what was wrapped are no keys", where=path, remedy=f"git log -- {path}") from None
    if keys.public != file.evaluation or file.data_key not in keys.data_keys:
        raise Corrupt("what was wrapped are other keys than it names", where=path, remedy=f"git log -- {path}")
    if known is not None and not known.same_secret(keys):
        raise Corrupt("what was wrapped has another secret than yours", where=path, remedy=f"git log -- {path}")
    return keys


def _plain(file: KeyFile) -> dict[str, object]:
    """What is written: nothing that is empty."""
    plain: dict[str, object] = msgspec.to_builtins(file)
    return {name: value for name, value in plain.items() if value}


def _info(project: str, dataset: str, data_key: str, member: str) -> bytes:
    return document.canonical(["cdl 2026 wrapped keys", project, dataset, data_key, member])


def signed_part(project: str, dataset: str, file: KeyFile) -> bytes:
    """What the signature of a file is made of."""
    content = {name: value for name, value in _plain(file).items() if name != "signature"}
    return document.canonical(["cdl 2026 keys of a dataset", project, dataset, content])


def _handover(project: str, dataset: str, old: str, new: str) -> bytes:
    return document.canonical(["cdl 2026 evaluation key renewed", project, dataset, old, new])
