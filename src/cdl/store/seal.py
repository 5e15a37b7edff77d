"""Sealed objects: encrypted so that equal content under one data key gives equal ciphertext, and named by its hash.

    ciphertext = AES-GCM-SIV(key, nonce = keyed blake3 of the padded content, padded content)       RFC 8452
    object     = magic | nonce (12 bytes) | ciphertext            named s:<blake3 of these bytes>

A sealed tree (tree.py) is a public root, whose pages and packs are sealed. It says counts, how many rows a page has, and a keyed
digest of the whole; no name, label, size or plain hash. Items lie in packs, so that not even their padded sizes show. Verifying
and moving sealed objects needs no key.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.errors import Corrupt, Unavailable
from cdl.store.builder import Builder
from cdl.store.outside import Wanted
from cdl.store.store import SEALED, Store
from cdl.store.tree import Tree, open_tree

MAGIC = b"cdl-sealed-1\0"
NONCE_BYTES = 12
LENGTH_BYTES = 8
SMALLEST = 256  # bytes; sizes are padded to steps of an eighth of the next power of two
PACK_BYTES = 8_000_000  # an upper bound of the content of one pack
KEPT_OPEN = 256_000_000  # bytes


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
        self._opened: dict[str, memoryview] = {}

    def digest(self, data: bytes | bytearray) -> str:
        """A keyed digest (64 hex digits): equal bytes are recognised by holders of the key only."""
        return blake3(data, key=self._identity).hexdigest()

    def put(self, data: bytes) -> str:
        """Seals bytes; equal bytes under the same key give the equal name. Unavailable without that key."""
        return SEALED + self.store.put(self.sealed(data))

    def sealed(self, data: bytes) -> bytes:
        """Bytes, sealed: what `unsealed` opens. Unavailable without the key."""
        if self._key is None:
            raise Unavailable(f"data key {self.name} seals now, and you do not hold it", remedy="cdl member list")
        padded = _pad(data)
        nonce_key = blake3(self._key, derive_key_context="cdl 2026 sealed object nonce").digest()
        nonce = blake3(padded, key=nonce_key).digest(length=NONCE_BYTES)
        return MAGIC + nonce + bytes(_cipher(self._key).encrypt(nonce, padded, MAGIC))

    def unsealed(self, data: bytes, *, where: str) -> bytes:
        """What is in some sealed bytes. Unavailable where no key fits, Corrupt for anything else."""
        return self._opened_by(data, where, None)[1]

    def get(self, name: str, *, first: str | None = None) -> bytes:
        """Opens a sealed object, trying the data key `first`. Unavailable where no key fits, Corrupt for another object."""
        return self._open(name, first)[1]

    def key_of(self, name: str) -> str:
        """The data key that sealed an object. Unavailable, Corrupt."""
        return self._open(name, None)[0]

    def _open(self, name: str, first: str | None) -> tuple[str, bytes]:
        """The name of the data key that opens an object, and what is in it."""
        return self._opened_by(self.store.get(name), name[:14], first)

    def _opened_by(self, data: bytes, where: str, first: str | None) -> tuple[str, bytes]:
        if not data.startswith(MAGIC):
            raise Corrupt("not a sealed object", where=where, remedy="cdl store verify")
        start = len(MAGIC)
        nonce, ciphertext = data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :]
        invalid = import_module("cryptography.exceptions").InvalidTag
        for called in sorted(self._keys, key=lambda k: (k != first, k != self.name, k)):
            try:
                return called, _unpad(_cipher(self._keys[called]).decrypt(nonce, ciphertext, MAGIC))
            except invalid:
                continue
        held = ", ".join(sorted(self._keys)) or "none"
        raise Unavailable(f"{where} was sealed with another key than yours ({held})", remedy="cdl key restore")

    # as a box of tables

    @property
    def about(self) -> Mapping[str, str]:
        """The data key that seals."""
        return {"data_key": self.name}

    @property
    def pack_bytes(self) -> int:
        """The most content that is sealed together."""
        return PACK_BYTES

    @property
    def whole_bytes(self) -> int:
        """A content of so many lies in an object of its own: none that would fit into a pack, since its size would show."""
        return PACK_BYTES

    def keep(self, data: bytes | memoryview, hash_: bytes | None = None) -> str:
        """Seals bytes; the name."""
        return self.put(bytes(data))

    def known(self, hash_: bytes) -> str | None:
        """Nothing: a sealed object has another name than what is in it."""
        return None

    def keep_root(self, data: bytes) -> str:
        """Stores a root as it is."""
        return SEALED + self.store.put(data)

    def erasure(self, name: str) -> str | None:
        """Who erased something in an object, when and why."""
        return self.store.erasure(name)

    def read(self, name: str) -> memoryview:
        """The bytes of an object, sealed or not. Those opened last are kept open."""
        if name in self._opened:
            self._opened[name] = self._opened.pop(name)
            return self._opened[name]
        data = self.store.view(name)
        if name.startswith(SEALED) and bytes(data[: len(MAGIC)]) == MAGIC:
            self._opened[name] = data = memoryview(self.get(name))
            while len(self._opened) > 1 and sum(map(len, self._opened.values())) > KEPT_OPEN:
                self._opened.pop(next(iter(self._opened)))
        return data

    def outside(self, wanted: Sequence[Wanted]) -> list[memoryview]:
        """Contents outside of the store."""
        return self.store.outside(wanted)

    def put_tree(self, items: Mapping[str, tuple[bytes, Mapping[str, Any]]], *, before: Tree | None = None) -> str:
        """Seals contents and fields by name as a tree."""
        builder = Builder(self, before=before)
        for name, (data, fields) in sorted(items.items()):
            builder.add(name, data, fields)
        return builder.finish()

    def tree(self, name: str) -> Tree:
        """Opens a sealed tree, and says so."""
        found = open_tree(self, name)
        if self._on_open is not None:
            self._on_open(name, len(found))
        return found


def _cipher(key: bytes) -> Any:
    return import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCMSIV(key)


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
