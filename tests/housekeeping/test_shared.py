"""gc in the shared store: marked, then removed; whoever needs a marked object sends it again and has it."""

import json
import os
from pathlib import Path

import pytest

from cdl.errors import Conflict, Refused
from cdl.housekeeping.gc import DAY, collect
from cdl.housekeeping.roots import job_claims, shared_roots
from cdl.housekeeping.shared import collect_shared
from cdl.model.register import register
from cdl.model.train import train
from cdl.model.trials import points, trials
from cdl.registry.records import Model
from cdl.sharing import marks
from cdl.store.remote import Folder
from tests.projects import DATA, SCIENCE, Toy
from tests.sharing.conftest import Team


def age(team: Team, *below: str, days: float = 400) -> None:
    """Makes what lies in the shared store so many days older than it is now."""
    for name in below or ("objects", "journal", "shared", "claims"):
        for path in (team.store / name).rglob("*"):
            if path.is_file():
                before = path.stat().st_mtime - days * DAY
                os.utime(path, (before, before))


def there(team: Team) -> set[str]:
    """The objects in the shared store."""
    return {p.parent.name + p.name for p in (team.store / "objects").rglob("*") if p.is_file()}


def unnamed(toy: Toy, who: str) -> set[str]:
    """Objects that nothing but jobs names."""
    clone = toy.become(who).clone
    from_jobs = {name for _, outputs, log in job_claims(clone) for name in outputs | ({log} if log else set())}
    named = set(collect_named(toy, who))
    return {name.removeprefix("s:") for name in from_jobs} - named


def collect_named(toy: Toy, who: str) -> set[str]:
    """What records, events and claims lead to."""
    clone = toy.become(who).clone
    return shared_roots(clone, trials=False).reachable(clone)


def swept(toy: Toy, who: str, *options: str) -> dict[str, dict[str, float]]:
    """`cdl gc --shared --remove`."""
    found: dict[str, dict[str, float]] = json.loads(toy.cdl(who, "gc", "--shared", "--remove", "--json", *options))
    return found


def test_what_nothing_names_is_marked_then_removed_and_nobody_misses_it(shared: Team, tmp_path: Path) -> None:
    age(shared)
    before, garbage = there(shared), unnamed(shared.b, SCIENCE)
    assert garbage & before
    said = shared.b.cdl(SCIENCE, "gc", "--shared")
    assert "would mark" in said and there(shared) == before and not (shared.store / "marks").exists()
    assert swept(shared.b, SCIENCE)["marked"]["count"] == len(garbage & before)
    assert there(shared) == before
    assert swept(shared.a, DATA)["waits"]["count"] == len(garbage & before) and there(shared) == before
    age(shared, "objects", "marks", days=2)
    done = swept(shared.a, DATA)
    assert done["gone"]["count"] == len(garbage & before) and there(shared) == before - garbage
    assert not list((shared.store / "marks").iterdir())
    again = swept(shared.b, SCIENCE)
    assert again["gone"]["count"] == again["marked"]["count"] == again["waits"]["count"] == 0
    c = shared.another(tmp_path / "c", DATA)
    workspace = c.become(DATA)
    assert len(trials(workspace)) == 1 and points(workspace, trials(workspace)[0])
    assert collect(workspace.clone, remove=False).missing == 0
    for _, outputs, _ in job_claims(workspace.clone):
        assert all(workspace.store.has(name) for name in outputs)
    for toy, who in ((shared.a, DATA), (shared.b, SCIENCE), (c, DATA)):
        assert "wrong" not in [line.split()[0] for line in toy.cdl(who, "doctor").splitlines() if line[:1] != " "]


def test_what_was_marked_and_is_needed_again_is_sent_again_and_stays(shared: Team, tmp_path: Path) -> None:
    workspace = shared.b.become(SCIENCE)
    needed = workspace.store.put(b"a result that nothing names yet")
    place = shared.store / "objects" / needed[:2] / needed[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"a result that nothing names yet")
    age(shared)
    swept(shared.a, DATA)
    age(shared, "objects", "marks", days=2)
    shared.b.become(SCIENCE).journal.append(
        "labels.recorded", who=SCIENCE, dataset="points", batch=needed, count=0, by="person"
    )
    old = place.stat().st_mtime
    shared.b.cdl(SCIENCE, "sync")
    assert place.stat().st_mtime > old + DAY, "it was not sent again"
    garbage = unnamed(shared.b, SCIENCE)
    assert swept(shared.a, DATA)["gone"]["count"] > 0
    assert needed in there(shared) and not garbage & there(shared)


def test_what_was_swept_and_is_needed_again_is_sent_again(shared: Team) -> None:
    age(shared)
    for days in (2, 0):
        swept(shared.a, DATA)
        age(shared, "objects", "marks", days=days)
    garbage = unnamed(shared.b, SCIENCE)
    workspace = shared.b.become(SCIENCE)
    mine = sorted(n for n in garbage if workspace.store.has(n) and n not in there(shared))[0]
    workspace.journal.append("labels.recorded", who=SCIENCE, dataset="points", batch=mine, count=0, by="person")
    shared.b.cdl(SCIENCE, "sync")
    assert mine in there(shared)
    collect(shared.a.become(DATA).clone, remove=True, older_than=0)
    shared.a.cdl(DATA, "sync")
    assert shared.a.become(DATA).store.has(mine)


def test_a_mark_made_while_somebody_sends_is_heard(shared: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking at the lists and sending its segment a clone is overtaken by a mark and a day."""
    workspace = shared.b.become(SCIENCE)
    needed = workspace.store.put(b"named soon")
    place = shared.store / "objects" / needed[:2] / needed[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"named soon")
    (shared.b.root / ".cdl/sending").write_text(needed + "\n")  # a broken-off try sent it long ago
    age(shared)
    workspace.journal.append("labels.recorded", who=SCIENCE, dataset="points", batch=needed, count=0, by="person")
    real, calls = marks.read, []

    def overtaken(remote: Folder, folder: Path) -> marks.Lists:
        found = real(remote, folder)
        calls.append(found)
        if len(calls) == 1:
            marks.write(remote, marks.MARKS + "0" * 32, {needed})
        return found

    monkeypatch.setattr("cdl.sharing.marks.read", overtaken)
    old = place.stat().st_mtime
    shared.b.cdl(SCIENCE, "sync")
    assert len(calls) > 2 and place.stat().st_mtime > old + DAY


def test_whoever_needs_what_is_being_removed_waits(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    needed = workspace.store.put(b"named soon")
    workspace.journal.append("labels.recorded", who=SCIENCE, dataset="points", batch=needed, count=0, by="person")
    remote = Folder(shared.store)
    marks.write(remote, marks.SWEPT + "1" * 32, {needed})
    with pytest.raises(Conflict, match="removing objects that this sync needs"):
        shared.b.cdl(SCIENCE, "sync")
    with pytest.raises(Conflict, match="another cdl gc"):
        collect_shared(shared.a.become(DATA).clone, remote, remove=True)
    age(shared, "swept", days=1)  # it was killed
    shared.b.cdl(SCIENCE, "sync")
    assert needed in there(shared)
    collect_shared(shared.a.become(DATA).clone, remote, remove=True)
    assert (shared.store / f"swept/{'1' * 32}.done").exists()


def test_a_killed_sweep_is_ended_by_the_next(shared: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    age(shared)
    swept(shared.a, DATA)
    age(shared, "objects", "marks", days=2)
    garbage = unnamed(shared.b, SCIENCE) & there(shared)
    calls = []

    def dies(self: Folder, name: str) -> None:
        calls.append(name)
        if len(calls) > 1:
            raise RuntimeError
        (self.root / name).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", dies)
        with pytest.raises(RuntimeError):
            swept(shared.a, DATA)
    assert len(garbage & there(shared)) == len(garbage) - 1
    age(shared, "swept", "objects", days=1)
    for days in (2, 0, 0):
        swept(shared.b, SCIENCE)
        age(shared, "objects", "marks", days=days)
    assert not garbage & there(shared)
    assert shared.a.cdl(DATA, "doctor").count("wrong ") == 0


def test_what_a_branch_that_was_never_sent_needs_stays(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "-c", "wip", "main")
    model = register(workspace, train(workspace, "side", seed=3))
    weights = workspace.registry.record(Model, model).weights
    workspace.git.run("update-ref", "-d", f"refs/cdl/models/{model}")
    workspace.git.run("switch", "--quiet", "main")
    shared.b.cdl(SCIENCE, "sync")
    assert "wip" not in shared.b.become(SCIENCE).git.text("ls-remote", "--heads", "origin")
    assert weights in there(shared)
    age(shared)
    for days in (2, 0):
        swept(shared.a, DATA, "--trials")
        age(shared, "objects", "marks", days=days)
    assert weights in there(shared)


def test_a_clone_that_does_not_see_everything_is_refused(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    workspace.git.run("remote", "remove", "origin")
    with pytest.raises(Refused, match="does not hold all branches"):
        collect_shared(shared.b.become(SCIENCE).clone, Folder(shared.store), remove=True)


def test_what_is_young_stays(shared: Team) -> None:
    before = there(shared)
    assert swept(shared.a, DATA)["marked"]["count"] == 0 and there(shared) == before
