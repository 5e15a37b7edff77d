"""The environment that something ran in: the lock file, Python, and the kind of machine."""

import platform
import sys

import msgspec
from blake3 import blake3


class Environment(msgspec.Struct, frozen=True):
    """`lock` is the hash of the lock file; empty where the project has none."""

    lock: str
    python: str
    platform: str


def environment(lock: bytes | None) -> Environment:
    """Where we are, with the bytes of the project's lock file."""
    digest = blake3(lock).hexdigest() if lock is not None else ""
    return Environment(digest, platform.python_version(), f"{sys.platform}-{platform.machine()}")
