"""gc takes what nothing names, and nothing else; whoever works beside it loses nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdl.errors import Conflict, NotFound
from cdl.housekeeping.gc import DAY, LEFT, NAMED, NOTES, RESULTS, TRIALS, UNNAMED, YOUNG, collect
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.train import train
from cdl.model.trials import load, points, trials
from cdl.model.tune import search
from cdl.registry.records import Dataset, Model
from cdl.store.hold import held, holding
from cdl.store.store import Store
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, SCIENCE, Toy, make_toy, table


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """One model registered and evaluated, one trial that nobody registered; all of a year ago."""
    root = tmp_path_factory.mktemp("gc")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(root / "toy", patch, root / "keyring", roles=True)
        toy.data(table(80))
        model = toy.model()
        train(toy.become(SCIENCE), "side", seed=7)
        evaluate(toy.become(DATA), model)
    return toy


@pytest.fixture
def toy(trained: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A copy of it, everything in it old."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    made = trained.copy(tmp_path / "toy")
    copied = Toy(made.root, monkeypatch, keyring=trained.root.parent / "keyring")
    age(copied.become(DATA))
    return copied


def age(workspace: Workspace) -> None:
    """Makes everything that is here a year old."""
    long_ago = time.time() - 365 * DAY
    for path in workspace.folder.rglob("*"):
        if path.is_file() and "index.sqlite" not in path.name:
            os.utime(path, (long_ago, long_ago))


def test_what_nothing_names_goes_and_everything_else_works_as_before(toy: Toy) -> None:
    workspace = toy.become(DATA)
    loose = workspace.store.put(b"nobody names it")
    age(workspace)
    before = set(workspace.store.names())
    said = collect(workspace.clone, remove=False)
    assert not said.removed and set(workspace.store.names()) == before
    assert said.gone[UNNAMED].count >= 1 and RESULTS in said.gone and said.missing == 0
    done = collect(workspace.clone, remove=True)
    after = set(workspace.store.names())
    assert {k: v.count for k, v in done.gone.items()} == {k: v.count for k, v in said.gone.items()}
    assert loose in before - after and done.kept[NAMED].count == len(after)
    assert not list(workspace.store.verify())
    for trial in trials(workspace):
        assert points(workspace, trial) and workspace.store.has(trial.weights or "")
    assert collect(workspace.clone, remove=True).gone == {}
    again = train(toy.become(SCIENCE), "side", seed=7)
    assert again.weights == trials(workspace)[1].weights and again.seconds == 0, "an equal training was done again"
    model = workspace.registry.all(Model)[0][0]
    said_again = toy.cdl(DATA, "reproduce", model)
    assert "weights" in said_again and "DIFFERENT" not in said_again


def test_a_result_whose_objects_went_is_made_again(toy: Toy) -> None:
    workspace = toy.become(DATA)
    claims = {c: workspace.store.claimed(c) for c in workspace.store.claims("jobs/")}
    done = collect(workspace.clone, remove=True, trials=True)
    left = set(workspace.store.claims("jobs/"))
    assert done.claims == len(claims) - len(left) > 0
    for claim in left:
        outputs = json.loads(workspace.store.claimed(claim) or b"{}")["outputs"].values()
        assert all(len(o) != 64 or workspace.store.has(o) for o in outputs)
    other = next(t for t in trials(workspace) if t.seed == 7)
    again = train(toy.become(SCIENCE), "side", seed=7)
    assert again.weights == other.weights and again.seconds > 0
    assert set(workspace.store.claims("jobs/")) > left


def test_a_claim_that_promises_what_is_gone_is_replaced(toy: Toy) -> None:
    workspace = toy.become(SCIENCE)
    trial = next(t for t in trials(workspace) if t.seed == 7)
    workspace.store.path(trial.weights or "").unlink()  # and the claim of its job still stands
    again = train(toy.become(SCIENCE), "side", seed=7)
    assert again.weights == trial.weights and workspace.store.has(trial.weights or "")


def test_trials_lose_their_weights_only_when_asked_and_never_those_of_a_model(toy: Toy) -> None:
    workspace = toy.become(SCIENCE)
    mine, other = trials(workspace)
    said = collect(workspace.clone, remove=True, trials=True)
    assert said.gone[TRIALS].count >= 1
    assert workspace.store.has(mine.weights or "") and not workspace.store.has(other.weights or "")
    assert points(workspace, load(workspace, other.id)) and load(workspace, other.id).metrics == other.metrics
    with pytest.raises(NotFound, match="weights of trial"):
        register(toy.become(SCIENCE), other)


def test_nothing_young_goes_and_putting_it_again_makes_it_young(toy: Toy) -> None:
    workspace = toy.become(DATA)
    loose, other = workspace.store.put(b"loose"), workspace.store.put(b"other")
    age(workspace)
    assert workspace.store.put(b"loose") == loose
    done = collect(workspace.clone, remove=True)
    assert done.kept[YOUNG].count == 1 and workspace.store.has(loose) and not workspace.store.has(other)
    collect(workspace.clone, remove=True, older_than=0)
    assert not workspace.store.has(loose)


def test_work_under_way_keeps_what_it_holds_and_a_killed_one_nothing(toy: Toy) -> None:
    workspace = toy.become(DATA)
    held_, added = workspace.store.put(b"held"), workspace.store.put(b"added")
    age(workspace)
    with holding(workspace.folder, [held_]) as add:
        add([added])
        assert held(workspace.folder) == {str(os.getpid()): frozenset({held_, added})}
        collect(workspace.clone, remove=True)
        assert workspace.store.has(held_) and workspace.store.has(added)
    code = (
        "import os, signal, sys; from pathlib import Path; from cdl.store.hold import holding\n"
        "with holding(Path(sys.argv[1]), [sys.argv[2]]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.folder), held_], check=False)
    assert len(list((workspace.folder / "holds").iterdir())) == 1
    collect(workspace.clone, remove=True)
    assert not workspace.store.has(held_) and not list((workspace.folder / "holds").iterdir())


def test_a_search_holds_what_its_trials_left_until_events_name_it(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = toy.become(SCIENCE)
    seen: list[int] = []

    def told(line: str) -> None:
        if "(rate" in line:  # a trial reached a rung, and no event says so yet
            age(workspace)
            seen.append(collect(toy.become(SCIENCE).clone, remove=True).missing)

    found = search(workspace_telling(workspace, told), "side", changes={"workers": 1, "max_trials": 3})
    assert len(seen) > 2 and not any(seen)
    for trial in found.trials:
        assert workspace.store.has(trial.weights or "") and workspace.store.has(trial.points or "")
    assert collect(workspace.clone, remove=False).missing == 0


def workspace_telling(workspace: Workspace, tell: "object") -> Workspace:
    """The same with somebody who hears progress."""
    return replace(workspace, tell=tell)


def test_what_killed_commands_left_goes_when_it_is_old(toy: Toy) -> None:
    folder = toy.root / ".cdl"
    left = [
        folder / "store/objects/ab/.tmp-x1",
        folder / "store/claims/jobs/.tmp-x2",
        folder / "observed.json.tmp",
        folder / ".stream-4711-ab",
        folder / "journal/.000001-4711-00ff00ff",
    ]
    note = folder / "trials" / ("0" * 32) / "epoch-1.json"
    for path in (*left, note):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    workspace = toy.become(DATA)
    collect(workspace.clone, remove=True)
    assert all(p.exists() for p in (*left, note))
    age(workspace)
    done = collect(workspace.clone, remove=True)
    assert done.gone[LEFT].count >= len(left) and done.gone[NOTES].count >= 1
    assert not any(p.exists() for p in (*left, note))
    assert (folder / "observed.json").exists() and (folder / "stream").exists()


def test_what_killed_commands_left_beside_git_goes_when_it_is_old(toy: Toy) -> None:
    folder = toy.root / ".git/cdl"
    left = [folder / name for name in ("index-4711-ab", "snapshot-4711-ab.lock", "intent-00ff.4711", "blobs-x1/0")]
    kept = [folder / name for name in ("trusted.json", "lock", "intent-00ff.json")]
    for path in (*left, kept[-1]):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"branch": "gone", "old": null, "new": "main"}')
    workspace = toy.become(DATA)
    kept[-1].touch()
    collect(workspace.clone, remove=True)
    assert all(path.exists() for path in left)
    for path in (*folder.rglob("*"),):
        os.utime(path, (0, 0))
    collect(workspace.clone, remove=True)
    assert not any(path.exists() for path in left) and not (folder / "blobs-x1").exists()
    assert all(path.exists() for path in kept)


def test_nothing_goes_where_something_needed_is_missing(toy: Toy) -> None:
    workspace = toy.become(DATA)
    record = workspace.registry.all(Dataset)[0][1]
    workspace.store.path(record.train).unlink()
    before = set(workspace.store.names())
    assert collect(workspace.clone, remove=False).missing == 1
    with pytest.raises(Conflict, match="1 objects that are needed are not here"):
        collect(workspace.clone, remove=True)
    assert set(workspace.store.names()) == before
    assert collect(workspace.clone, remove=True, incomplete=True).removed


WRITER = """
import sys
from pathlib import Path
from cdl.store.store import Store

store = Store(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    name = store.put(b"object %d" % n)
    assert store.has(name) and store.get(name) == b"object %d" % n
"""
MANY = 1500


def test_a_writer_beside_it_never_loses_what_it_named(tmp_path: Path) -> None:
    """Old objects are put again one by one, while another removes all that are old, over and over."""
    store = Store(tmp_path / "store")
    names = [store.put(b"object %d" % n) for n in range(MANY)]
    for name in names:
        os.utime(store.path(name), (0, 0))
    kept = removed = 0
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "store"), str(MANY)]) as writer:
        place = 0
        while writer.poll() is None:
            while place < MANY - 1 and store.has(names[place]) and store.changed(names[place]) > 0:
                place += 1  # where the writer is
            for name in names[max(0, place - 5) : place + 5]:
                removed += store.remove(name, older_than=1e9)
    kept = sum(store.has(name) for name in names)
    assert writer.returncode == 0 and removed > 0
    assert kept == MANY and not list(store.verify())


@pytest.mark.parametrize("step", ["rename", "stat", "unlink"])
@pytest.mark.parametrize("do", ["put", "read"])
def test_whoever_comes_in_between_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, do: str) -> None:
    store = Store(tmp_path)
    name = store.put(b"old")
    os.utime(store.path(name), (0, 0))
    real, calls = getattr(Path, step), list[Path]()

    def between(self: Path, *arguments: object, **options: object) -> object:
        if not calls and (self.parent.name == "going" or step == "rename"):
            calls.append(self)
            assert (Store(tmp_path).put(b"old") == name) if do == "put" else (Store(tmp_path).get(name) == b"old")
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, between)
        store.remove(name, older_than=1e9)
    assert calls and (do == "read" or store.get(name) == b"old")


def test_killed_at_any_point_it_leaves_a_store_that_works(toy: Toy) -> None:
    workspace = toy.become(DATA)
    names = [workspace.store.put(b"loose %d" % n) for n in range(300)]
    age(workspace)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cdl", "gc", "--remove"]
    for _ in range(3):
        here = subprocess.Popen(command, cwd=toy.root, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 20
        while here.poll() is None and all(workspace.store._path(n).exists() for n in names):
            assert time.monotonic() < deadline
        here.kill()
        here.wait()
        if here.stderr:
            here.stderr.close()
        assert not list(workspace.store.verify()) and collect(toy.become(DATA).clone, remove=False).missing == 0
        names = [n for n in names if workspace.store._path(n).exists()]
        if not names:
            break
    collect(toy.become(DATA).clone, remove=True)
    assert not any(workspace.store._path(n).exists() for n in names)
    assert not list((toy.root / ".cdl/store/going").iterdir())
