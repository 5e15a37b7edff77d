"""Claims that count among all clones: what is taken here is taken everywhere, as long as they share a store.

    claims/triggers/dataset.ready/.../0      {"who": ..., "host": ..., "boot": ..., "pid": ...}   created once, in the store
    leases/triggers/dataset.ready/.../0      {"until": 1795537518.3}                              renewed while its holder works

A claim whose lease has ended without a result may be taken over under the next number. On one machine the process tells; a
clone that shares no store asks nobody.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cdl.errors import Unavailable
from cdl.store.remote import Remote
from cdl.store.store import Store

LEASE_SECONDS = 300.0
RENEW_SECONDS = 60.0
PROCESSES = Path("/proc")
BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere the host's name alone tells machines apart


def look(
    store: Store, remote: Remote | None, prefix: str, *, fits: Callable[[str, bytes], bool] = lambda name, payload: True
) -> list[str]:
    """Brings the claims below a prefix here that others took; those that do not fit stay there, and are named. Unavailable."""
    unfit: list[str] = []
    if remote is None:
        return unfit
    for held in remote.held(f"claims/{prefix.rstrip('/')}/"):
        name = held.name.removeprefix("claims/")
        if store.claimed(name) is None:
            payload = remote.get(held.name) or b""
            if fits(name, payload):
                store.claim(name, payload)
            else:
                unfit.append(name)
    return unfit


def take(store: Store, remote: Remote | None, name: str, payload: bytes) -> bool:
    """Takes a name once in all; False when somebody was faster. Unavailable, with nothing taken, when nobody can be asked."""
    if remote is not None and not remote.create(f"claims/{name}", payload):
        look(store, remote, name.rsplit("/", 1)[0])
        return False
    return store.claim(name, payload)


def holder(who: str) -> dict[str, object]:
    """Who takes a claim: person, machine, process."""
    process = {"pid": os.getpid(), "began": _began(os.getpid())}
    return {"who": who, "host": socket.gethostname(), "boot": _boot(), **process, "at": time.time()}


def alive(held: bytes | None, remote: Remote | None, name: str) -> bool:
    """Whether the one who took a claim may still be at it: its process here, its lease elsewhere.

    A claim of another machine counts as held where no store is shared, or none answers.
    """
    if held is None:
        return False
    found = json.loads(held)
    same_host = found["host"] == socket.gethostname()
    if same_host and found.get("boot", _boot()) == _boot():
        return found["pid"] != os.getpid() and _runs(int(found["pid"]), found.get("began"))
    if remote is None:
        return not same_host  # the same machine, started again since: nothing of then runs
    try:
        lease = remote.get(f"leases/{name}")
    except Unavailable:
        return True
    until = json.loads(lease)["until"] if lease else float(found.get("at", 0)) + LEASE_SECONDS
    return bool(until > time.time())


@contextmanager
def leased(remote: Remote | None, name: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Renews a claim's lease while something works."""
    if remote is None:
        yield
        return
    stop = threading.Event()

    def renew() -> None:
        while True:
            try:
                remote.put(f"leases/{name}", json.dumps({"until": time.time() + LEASE_SECONDS}).encode())
            except Unavailable as error:
                tell(f"the lease of {name} is not renewed: {error.message}")
            if stop.wait(RENEW_SECONDS):
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _runs(pid: int, began: str | None) -> bool:
    """Whether a process is there, and not another one that got its number since."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return began is None or _began(pid) in (began, None)


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since the machine's start; None where that is not told."""
    try:
        return (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


@cache
def _boot() -> str | None:
    return BOOT.read_text().strip() if BOOT.exists() else None
