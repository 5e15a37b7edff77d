"""Looks for secrets wherever a project could have left them: in plain, coded, or as a hash that needs no key.

wanted = Wanted()
wanted.add("the note of an item", b"NOTE-5f3a-012")
wanted.seen(everything(toy))            [("objects/3f/2a..", "the note of an item: base64"), ...]
"""

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from blake3 import blake3

from cdl.git.repository import Git
from tests.projects import Toy

CDL = Path(sys.executable).with_name("cdl")
BEGIN = 8  # bytes by which a form is first looked for
HEX_DIGITS = 16  # of a hash: what was cut shorter is found too
PLAIN_HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256")


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """How bytes could be written: as they are, as wide text, hexadecimal, base64 at any offset, and by their hashes."""
    yield "plain", secret
    text = secret.decode("utf-8", "replace")
    yield "utf-16", text.encode("utf-16-le")
    yield "utf-32", text.encode("utf-32-le")
    yield "hex", secret.hex().encode()
    yield "hex, upper case", secret.hex().upper().encode()
    for before in range(3):
        for name, code in (("base64", base64.b64encode), ("base64, for names", base64.urlsafe_b64encode)):
            coded = code(b"\0" * before + secret).rstrip(b"=")
            yield name, coded[(before * 8 + 5) // 6 : (len(secret) + before) * 8 // 6]
    yield from hashes(secret)


def hashes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The hashes of bytes that anybody can compute, by their first digits and their first bytes."""
    found = {name: hashlib.new(name, content).digest() for name in PLAIN_HASHES}
    found["blake3"] = blake3(content).digest()
    found["git blob"] = hashlib.sha1(b"blob %d\0" % len(content) + content).digest()
    for name, digest in found.items():
        yield name, digest.hex()[:HEX_DIGITS].encode()
        yield f"{name}, raw", digest[:HEX_DIGITS]
        yield f"{name}, base64", base64.b64encode(digest)[:HEX_DIGITS]


class Wanted:
    """Forms of secrets, all looked for in one pass."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}  # what stands there -> what it is
        self._begins: dict[bytes, list[bytes]] = {}

    def add(self, name: str, secret: bytes) -> None:
        """A secret and every form of it."""
        for form, data in forms(secret):
            self._add(f"{name}: {form}", data)

    def add_hashes(self, name: str, content: bytes) -> None:
        """Content of which only hashes are looked for (a secret in it is added by itself)."""
        for form, data in hashes(content):
            self._add(f"{name}: {form}", data)

    def seen(self, places: Mapping[str, bytes]) -> list[tuple[str, str]]:
        """Where what was found, by place and form."""
        return [(place, name) for place, data in places.items() for name in sorted(set(self._found(data)))]

    def _add(self, name: str, data: bytes) -> None:
        assert len(data) >= BEGIN, name
        if data not in self.forms:
            self.forms[data] = name
            self._begins.setdefault(data[:BEGIN], []).append(data)

    def _found(self, data: bytes) -> Iterator[str]:
        """Every position whose bytes begin like a form, by arrays; then each of these in full."""
        for position in _positions(data, self._begins):
            for form in self._begins[data[position : position + BEGIN]]:
                if data.startswith(form, position):
                    yield self.forms[form]


def _positions(data: bytes, begins: Iterable[bytes]) -> Iterator[int]:
    wanted = np.array(sorted(int.from_bytes(b, "little") for b in begins), dtype=np.uint64)
    short = np.zeros(1 << 16, dtype=bool)
    short[(wanted & 0xFFFF).astype(np.int64)] = True
    padded = data + b"\0" * (2 * BEGIN)
    for offset in range(BEGIN):
        words = np.frombuffer(padded, dtype="<u8", count=len(data) // BEGIN + 1, offset=offset)
        likely = np.flatnonzero(short[(words & 0xFFFF).astype(np.int64)])
        places = np.searchsorted(wanted, words[likely])
        places[places == len(wanted)] = 0
        yield from (int(i) * BEGIN + offset for i in likely[wanted[places] == words[likely]])


def files_below(*folders: Path, leave_out: Iterable[Path] = ()) -> dict[str, bytes]:
    """Every file below some folders: its name, what a link names, extended attributes, and its bytes."""
    left = set(leave_out)
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            if left & {path, *path.parents}:
                continue
            parts = [os.fsencode(path.name)]
            if path.is_symlink():
                parts.append(os.fsencode(os.readlink(path)))
            elif path.is_file():
                parts.append(path.read_bytes())
            if sys.platform == "linux" and not path.is_symlink() and path.exists():
                parts += [os.fsencode(n) + b"=" + os.getxattr(path, n) for n in os.listxattr(path)]
            found[str(path)] = b"\n".join(parts)
    return found


def everything(toy: Toy, *more: Path, leave_out: Iterable[str] = ("incoming", "labels.csv")) -> dict[str, bytes]:
    """All that a project wrote and all that its commands say: every file but the raw source, git's objects and refs."""
    git = Git(toy.root)
    places = files_below(toy.root, *more, leave_out=[toy.root / name for name in leave_out])
    places["git: every object, reachable or not"] = git.run("cat-file", "--batch-all-objects", "--batch")
    places["git: refs"] = git.run("for-each-ref")
    places["progress lines"] = "\n".join(toy.said).encode()
    places["git: reflogs"] = git.run("log", "--all", "--reflog", "--format=%H %an %ae %gs %B")
    for said in (
        ["status", "--json"], ["events", "--json"], ["log", "--json"], ["trial", "list", "--json"], ["request"],
        ["data", "list", "--json"], ["model", "list", "--json"],
    ):  # fmt: skip
        done = subprocess.run([str(CDL), *said], cwd=toy.root, capture_output=True, check=False)
        places["cdl " + " ".join(said)] = done.stdout + done.stderr
    return places
