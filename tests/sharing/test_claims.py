"""Claims among clones: taken once in all, kept by a lease, taken over when it ended."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from cdl.config.schema import TriggerConfig
from cdl.errors import Unavailable
from cdl.sharing import claims
from cdl.store.opening import open_remote
from cdl.store.remote import Remote
from cdl.store.store import Store
from cdl.workflow.trigger import Kind, Waiting, claim, fire, waiting
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, Toy, table
from tests.sharing.conftest import Team

NAME = "triggers/dataset.ready/v-1/0"


class Gone:
    """A remote that nobody can reach."""

    place = "gone"

    def __getattr__(self, name: str) -> object:
        raise Unavailable("the store cannot be reached")


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    (tmp_path / "shared").mkdir()
    return open_remote("shared", root=tmp_path)


def test_of_eight_clones_one_takes_it_and_all_know(remote: Remote, tmp_path: Path) -> None:
    stores = [Store(tmp_path / str(n)) for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda n: claims.take(stores[n], remote, NAME, f"{n}".encode()), range(8)))
    assert got.count(True) == 1
    assert {store.claimed(NAME) for store in stores} == {str(got.index(True)).encode()}


def test_nothing_is_taken_when_nobody_can_be_asked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(Unavailable):
        claims.take(store, Gone(), NAME, b"x")  # type: ignore[arg-type]
    assert store.claimed(NAME) is None


def test_a_claim_stands_as_long_as_its_lease_is_renewed(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    held = json.dumps(claims.holder(DATA) | {"host": "another", "boot": "another", "at": time.time() - 10_000}).encode()
    assert not claims.alive(held, remote, NAME)
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.5)
    with claims.leased(remote, NAME, print):
        time.sleep(0.6)
        assert claims.alive(held, remote, NAME)
    remote.put(f"leases/{NAME}", json.dumps({"until": time.time() - 1}).encode())
    assert not claims.alive(held, remote, NAME)
    assert claims.alive(held, None, NAME) and claims.alive(held, Gone(), NAME)  # type: ignore[arg-type]


def test_a_process_of_this_machine_tells_by_itself(remote: Remote) -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    assert not claims.alive(json.dumps(claims.holder(DATA) | {"pid": gone}).encode(), remote, NAME)
    parent = claims.holder(DATA) | {"pid": os.getppid(), "began": claims._began(os.getppid())}
    assert claims.alive(json.dumps(parent).encode(), remote, NAME)
    assert not claims.alive(json.dumps(parent | {"began": "1"}).encode(), remote, NAME)  # its number went to another
    before = claims.holder(DATA) | {"boot": "before it was started again"}
    assert not claims.alive(json.dumps(before).encode(), None, NAME)


def test_a_lease_that_cannot_be_renewed_is_told_and_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    done = threading.Event()
    with claims.leased(Gone(), NAME, lambda line: (said.append(line), done.set())[0]):  # type: ignore[arg-type,func-returns-value]
        assert done.wait(10)
    assert "not renewed: the store cannot be reached" in said[0]


def test_what_waits_in_two_clones_starts_in_one(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = TriggerConfig(when="dataset.ready", run="evaluate", of="side")
    ran: list[str] = []
    kind = Kind(
        candidates=lambda w, t: [e for e in w.journal.events("dataset.ready")],
        able=lambda w, t: None,
        run=lambda w, t, e: (ran.append(str(w.root)), ((), ()))[1],  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr("cdl.workflow.trigger.approved_at", lambda *a: 0)
    team.a.data(table(140), DATA)
    for toy in (team.a, team.b):
        toy.cdl(DATA, "sync")

    def opened(toy: Toy) -> Workspace:
        workspace = toy.become(DATA)
        return replace(workspace, config=msgspec.structs.replace(workspace.config, triggers=[trigger]))

    a, b = opened(team.a), opened(team.b)
    due = [waiting(w, {"dataset.ready": kind}) for w in (a, b)]
    assert [type(d[0]) for d in due] == [Waiting, Waiting] and due[0][0].claim == due[1][0].claim
    assert fire(a, {"dataset.ready": kind}) == [] and fire(b, {"dataset.ready": kind}) == []
    assert ran == [str(team.a.root)]
    assert claim(b, due[1][0]) is None
