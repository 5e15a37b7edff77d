"""Sealed objects: encrypted so that equal content under one data key gives equal ciphertext, and named by its hash.

    ciphertext = AES-GCM-SIV(key, nonce = keyed blake3 of the padded content, padded content)       RFC 8452
    object     = magic | nonce (12 bytes) | ciphertext            named s:<blake3 of these bytes>

A sealed tree is a public manifest that anyone may read, with the sealed index and packs that it names:

    {"count":441,"data_key":"k-1","digests":"<object>","format":"cdl-sealed-1","index":"s:...","packs":["s:..."]}

The manifest says counts, packs and keyed digests, no path, label, size or plain hash. Items lie in packs, so that not
even their padded sizes show. Verifying and moving sealed objects needs no key.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl import document
from cdl.errors import Corrupt, NotFound, Unavailable
from cdl.store.store import SEALED, Store
from cdl.store.tree import check_name

FORMAT = "cdl-sealed-1"
MAGIC = b"cdl-sealed-1\0"
NONCE_BYTES = 12
LENGTH_BYTES = 8
SMALLEST = 256  # bytes; sizes are padded to steps of an eighth of the next power of two
PACK_BYTES = 8_000_000  # an upper bound of the content of one pack, unless one item alone is larger


@dataclass(frozen=True)
class SealedItem:
    """An item to seal: its name, its bytes, and its fields."""

    name: str
    data: bytes
    meta: Mapping[str, Any] = field(default_factory=dict)


class SealedTree:
    """The open side of a sealed tree: names, bytes and fields."""

    def __init__(self, vault: "Vault", packs: list[str], rows: list[dict[str, Any]], key: str) -> None:
        self._vault = vault
        self._packs = packs
        self._key = key
        self._rows = {row["name"]: row for row in rows}
        self._opened: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(self._rows)

    def data(self, name: str) -> bytes:
        """An item's bytes. NotFound where they were erased."""
        row = self._rows[name]
        if self.erased(name):
            tombstone = self._vault.store.erased(self._packs[row["pack"]])
            raise NotFound(
                f"item {name[:12]} was erased",
                where=tombstone.line if tombstone else None,
                remedy="cdl data run makes a version without it",
            )
        pack = row["pack"]
        if pack not in self._opened:
            self._opened[pack] = self._vault.get(self._packs[pack], first=self._key)
        return self._opened[pack][row["at"] : row["at"] + row["size"]]

    def erased(self, name: str) -> bool:
        """Whether an item's bytes and fields were erased."""
        return bool(self._rows[name].get("erased", False))

    def meta(self, name: str) -> dict[str, Any]:
        """An item's fields."""
        return dict(self._rows[name]["meta"])


class Vault:
    """Seals into a store with one data key (32 bytes), and opens from it what that key or an `older` one sealed.

    `identity` keys the digests; `on_open(tree, items)` is called each time a sealed tree is opened. Without a `key` it opens.
    """

    def __init__(
        self,
        store: Store,
        key: bytes | None,
        name: str,
        *,
        identity: bytes,
        older: Mapping[str, bytes] | None = None,
        on_open: Callable[[str, int], None] | None = None,
    ) -> None:
        self.store = store
        self.name = name
        self._key = key
        self._keys = {**(older or {}), **({name: key} if key is not None else {})}
        self._identity = identity
        self._on_open = on_open

    def digest(self, data: bytes) -> str:
        """A keyed digest (64 hex digits): equal bytes are recognised by holders of the key only."""
        return blake3(data, key=self._identity).hexdigest()

    def put(self, data: bytes) -> str:
        """Seals bytes; equal bytes under the same key give the equal name. Unavailable without that key."""
        if self._key is None:
            raise Unavailable(f"data key {self.name} seals now, and you do not hold it", remedy="cdl member list")
        padded = _pad(data)
        nonce_key = blake3(self._key, derive_key_context="cdl 2026 sealed object nonce").digest()
        nonce = blake3(padded, key=nonce_key).digest(length=NONCE_BYTES)
        return SEALED + self.store.put(MAGIC + nonce + _cipher(self._key).encrypt(nonce, padded, MAGIC))

    def get(self, name: str, *, first: str | None = None) -> bytes:
        """Opens a sealed object, trying the data key `first`. Unavailable where no key fits, Corrupt for another object."""
        return self._open(name, first)[1]

    def key_of(self, name: str) -> str:
        """The data key that sealed an object. Unavailable, Corrupt."""
        return self._open(name, None)[0]

    def _open(self, name: str, first: str | None) -> tuple[str, bytes]:
        """The name of the data key that opens an object, and what is in it."""
        data = self.store.get(name)
        if not data.startswith(MAGIC):
            raise Corrupt("not a sealed object", where=name[:14], remedy="cdl store verify")
        start = len(MAGIC)
        nonce, ciphertext = data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :]
        invalid = import_module("cryptography.exceptions").InvalidTag
        for called in sorted(self._keys, key=lambda k: (k != first, k != self.name, k)):
            try:
                return called, _unpad(_cipher(self._keys[called]).decrypt(nonce, ciphertext, MAGIC))
            except invalid:
                continue
        held = ", ".join(sorted(self._keys)) or "none"
        raise Unavailable(f"{name[:14]} was sealed with another key than yours ({held})", remedy="cdl key restore")

    def put_tree(self, items: Iterable[SealedItem]) -> str:
        """Seals items; the same items in any order give the same tree."""
        ordered = sorted(items, key=lambda i: i.name)
        packs: list[bytearray] = [bytearray()]
        rows = []
        for item in ordered:
            check_name(item.name)
            if packs[-1] and len(packs[-1]) + len(item.data) > PACK_BYTES:
                packs.append(bytearray())
            rows.append(
                {
                    "name": item.name,
                    "pack": len(packs) - 1,
                    "at": len(packs[-1]),
                    "size": len(item.data),
                    "meta": dict(item.meta),
                }
            )
            packs[-1] += item.data
        if len({r["name"] for r in rows}) != len(rows):
            raise Corrupt("a name stands twice in a sealed tree")
        digests = sorted(self.digest(item.data) for item in ordered)
        manifest = {
            "format": FORMAT,
            "data_key": self.name,
            "count": len(ordered),
            "packs": [self.put(bytes(p)) for p in packs],
            "index": self.put(document.canonical(rows)),
            "digests": self.store.put("\n".join(digests).encode()),
        }
        return SEALED + self.store.put(document.canonical(manifest))

    def unlisted(self, name: str, lost: Set[str]) -> dict[str, str]:
        """Seals the index that is to stand for that of a sealed tree once some items are erased, without their fields.

        What it stands for -> what stands there, both bare. It comes before the packs, so that zeros never pass for an item.
        """
        index = manifest(self.store, name)["index"]
        rows = [
            row | ({"meta": {}, "erased": True} if row["name"] in lost else {}) for row in json.loads(self.get(index))
        ]
        return {_bare(self.store.standing(index)): _bare(self.put(document.canonical(rows)))}

    def blanked(self, name: str, lost: Set[str]) -> dict[str, str]:
        """The same for the packs: bytes become zeros in their place, so what else lies in a pack stays where it is."""
        public = manifest(self.store, name)
        rows = [row for row in json.loads(self.get(public["index"])) if row["name"] in lost]
        found = {}
        for number in sorted({row["pack"] for row in rows}):
            old = public["packs"][number]
            data = bytearray(self.get(old))
            for row in rows:
                if row["pack"] == number:
                    data[row["at"] : row["at"] + row["size"]] = bytes(row["size"])
            found[_bare(self.store.standing(old))] = _bare(self.put(bytes(data)))
        return found

    def tree(self, name: str) -> SealedTree:
        """Opens a sealed tree."""
        public = manifest(self.store, name)
        key = str(public["data_key"])
        rows = json.loads(self.get(public["index"], first=key))
        if self._on_open is not None:
            self._on_open(name, len(rows))
        return SealedTree(self, public["packs"], rows, key)


def manifest(store: Store, name: str) -> dict[str, Any]:
    """The public manifest of a sealed tree; Corrupt when it is none. Needs no key."""
    try:
        found = json.loads(store.get(name))
        if found["format"] != FORMAT:
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("not a sealed tree", where=name[:14], remedy="cdl store verify") from error
    return dict(found)


def _cipher(key: bytes) -> Any:
    return import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCMSIV(key)


def _bare(name: str) -> str:
    return name.removeprefix(SEALED)


def _pad(data: bytes) -> bytes:
    """The length, the bytes, and zeros up to a step of an eighth of the next power of two."""
    content = len(data).to_bytes(LENGTH_BYTES, "big") + data
    if len(content) <= SMALLEST:
        return content.ljust(SMALLEST, b"\0")
    step = max(SMALLEST, 1 << max(0, (len(content) - 1).bit_length() - 3))
    return content.ljust(-(-len(content) // step) * step, b"\0")


def _unpad(padded: bytes) -> bytes:
    size = int.from_bytes(padded[:LENGTH_BYTES], "big")
    if size > len(padded) - LENGTH_BYTES:
        raise Corrupt("a sealed object is shorter than it says", remedy="cdl store verify")
    return padded[LENGTH_BYTES : LENGTH_BYTES + size]
