"""A job: code + inputs + parameters + environment -> outputs, identified by their hash.

Where it runs, with how many processors and how much memory, does not belong to what it is; the number of threads and the kind
of device do, since they change results.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from blake3 import blake3
from msgspec.structs import asdict

from cdl import document
from cdl.jobs.closure import Closure
from cdl.jobs.environment import Environment
from cdl.jobs.slots import Need


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`loop` is the worker's side ('cdl.data.workers.worker:serve'); `inputs` name objects or trees of the store.

    `need` and `warm` are no part of what it is: the slots that it takes, and what a template may have done before it is forked,
    'module:function' of `cdl` (see forker.py).
    """

    loop: str
    closure: Closure
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    environment: Environment
    threads: int = 1
    device: str = "cpu"
    need: Need | None = None
    warm: str | None = None

    @property
    def id(self) -> str:
        """64 hex digits; equal for equal work anywhere."""
        content = {
            "loop": self.loop,
            "code": self.closure.id,
            "inputs": dict(self.inputs),
            "parameters": dict(self.parameters),
            "environment": asdict(self.environment),
            "threads": self.threads,
            "device": self.device,
        }
        return blake3(document.canonical(content)).hexdigest()
