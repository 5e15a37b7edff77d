"""Two clones, a bare git remote and a shared folder: what one does the other has, and nobody loses anything."""

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdl.cycle import CYCLE
from cdl.data import versions
from cdl.errors import Conflict, Corrupt
from cdl.git.repository import Git
from cdl.journal import stream
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.results import evaluated
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.model.trials import load, new_id, trials
from cdl.pages.experiment import experiment_page
from cdl.registry.records import Dataset, Labels, Model
from cdl.report.html import html
from cdl.sharing import parcel
from cdl.workflow.decide import decide
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, REVIEW, SCIENCE, Toy, table
from tests.sharing.conftest import Team


def trained(toy: Toy, who: str, branch: str) -> str:
    """A model trained and registered on a branch of its own."""
    workspace = toy.become(who)
    workspace.git.run("switch", "--quiet", "-C", branch, "main")
    return register(workspace, train(workspace, "side"))


def test_what_one_did_the_other_has_and_can_build_on(team: Team) -> None:
    b = team.b.become(SCIENCE)
    assert [d.name for _, d in b.registry.all(Dataset)] == ["points"] and b.registry.all(Labels)
    assert not b.holds_key("points")
    model = trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    team.a.cdl(DATA, "sync")
    a = team.a.become(DATA)
    assert a.registry.get(model).id == model and len(trials(a)) == 1
    assert evaluate(a, model).number == 1
    team.a.cdl(DATA, "sync")
    team.b.cdl(SCIENCE, "sync")
    b = team.b.become(SCIENCE)
    found = evaluated(b, model)
    assert found is not None and found.measures() == evaluated(team.a.become(DATA), model).measures()  # type: ignore[union-attr]
    assert [e.id for e in b.journal.events()] == [e.id for e in team.a.become(DATA).journal.events()]


def test_a_clone_that_has_a_record_before_its_objects_keeps_nobody_from_sending_them(team: Team) -> None:
    """The record came by git; its objects are sent afterwards by the clone that made them."""
    team.a.write("incoming/points.csv", table(140))
    version = versions.make(team.a.become(DATA), "points")
    team.a.become(DATA).git.run("push", "--quiet", "origin", "main")
    git = team.b.become(SCIENCE).git
    git.run("pull", "--quiet", "origin", "main")
    team.b.become(SCIENCE).journal.append("experiment.created", who=SCIENCE, name="any", commit=git.head())
    for toy, who in ((team.b, SCIENCE), (team.a, DATA), (team.b, SCIENCE)):
        toy.cdl(who, "sync")
    assert " 0 faults" in team.b.cdl(SCIENCE, "data", "verify", version)


def test_both_decide_at_once_and_both_decisions_stand_in_one_line(team: Team) -> None:
    first, second = trained(team.a, SCIENCE, "exp/a"), trained(team.b, SCIENCE, "exp/b")
    for toy in (team.b, team.a):
        toy.cdl(SCIENCE, "sync")
    for model in (first, second):
        evaluate(team.a.become(DATA), model)
    team.a.cdl(DATA, "sync")
    team.b.cdl(SCIENCE, "sync")
    for toy, branch, model in ((team.a, "exp/a", first), (team.b, "exp/b", second)):
        toy.become(SCIENCE).git.run("switch", "--quiet", branch)
        offer(toy.become(SCIENCE), model)
        decide(toy.become(SCIENCE), CYCLE, "submission", model, "submit")
    team.a.cdl(SCIENCE, "sync")
    said = team.b.cdl(SCIENCE, "sync")
    assert "origin/main: replayed by 1 commit" in said and "origin/main: sent" in said
    team.a.cdl(SCIENCE, "sync")
    tips = {toy.become(SCIENCE).registry.tip() for toy in (team.a, team.b)}
    assert len(tips) == 1
    workspace = team.a.become(SCIENCE)
    assert {model for model in workspace.registry.decisions(str(workspace.registry.tip()))["submission"]} == {
        first,
        second,
    }
    assert workspace.git.text("rev-list", "--merges", "--count", "main") == "0"
    assert team.a.cdl(DATA, "ci", "check").startswith("the registry")
    assert team.b.become(SCIENCE).git.text("status", "--porcelain", "--untracked-files=no") == ""


def test_the_index_and_all_caches_come_back(team: Team) -> None:
    trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    before = [e.id for e in team.b.become(SCIENCE).journal.events()]
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "observed.json"):
        (team.b.root / ".cdl" / name).unlink(missing_ok=True)
    shutil.rmtree(team.b.root / ".cdl" / "shared")
    assert [e.id for e in team.b.become(SCIENCE).journal.events()] == before
    team.b.cdl(SCIENCE, "sync")
    assert {e.id for e in team.b.become(SCIENCE).journal.events()} == set(before)
    assert team.b.cdl(SCIENCE, "sync") == "everything is everywhere already\n"


def test_a_clone_that_lost_everything_of_its_own_gets_it_back(team: Team) -> None:
    model = trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    own = stream.own_stream(team.b.root / ".cdl")
    before = {e.id for e in team.b.become(SCIENCE).journal.events()}
    shutil.rmtree(team.b.root / ".cdl")
    team.b.cdl(SCIENCE, "sync")
    b = team.b.become(SCIENCE)
    assert stream.own_stream(team.b.root / ".cdl") != own
    assert before <= {e.id for e in b.journal.events()} and len(trials(b)) == 1
    assert not list(b.store.verify()) and b.registry.record(Model, model).name == "side"


@pytest.mark.parametrize("at_once", [False, True])
def test_a_copied_clone_takes_a_stream_of_its_own_and_loses_nothing(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    team.b.cdl(SCIENCE, "sync")
    twin = team.b.copy(tmp_path / "twin")
    made = team.b.become(SCIENCE).made("data_scientist")
    monkeypatch.setattr(Workspace, "made", lambda *_, **__: made)
    first = trained(team.b, SCIENCE, "exp/one")
    with monkeypatch.context() as later:
        for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
            later.setenv(name, "2040-01-01T00:00:00Z")
        if not at_once:
            later.setattr(Workspace, "made", lambda *_, **__: replace(made, when="2040-01-01T00:00:00Z"))
        second = trained(twin, SCIENCE, "exp/two")
    assert (first == second) is at_once
    own = stream.own_stream(team.b.root / ".cdl")
    team.b.cdl(SCIENCE, "sync")
    twin.said.clear()
    twin.cdl(SCIENCE, "sync")
    assert stream.own_stream(team.b.root / ".cdl") == own != stream.own_stream(twin.root / ".cdl")
    twin.cdl(SCIENCE, "sync")
    team.b.cdl(SCIENCE, "sync")
    told = [{e.id for e in toy.become(SCIENCE).journal.events()} for toy in (team.b, twin)]
    assert told[0] == told[1]
    for toy in (team.b, twin, team.a):
        toy.cdl(DATA, "sync")
        workspace = toy.become(DATA)
        assert {first, second} <= {i for i, _ in workspace.registry.all(Model)}
    for name in stream.streams(team.b.root / ".cdl"):
        ours = [stream.segment_path(toy.root / ".cdl", name, 1).read_bytes() for toy in (team.b, twin, team.a)]
        assert len(set(ours)) == 1


def test_a_broken_sync_goes_on_where_it_broke(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(team.b, SCIENCE, "exp/one")
    puts: list[str] = []
    real = type(team.b.become(SCIENCE).shared.remote).put  # type: ignore[union-attr]

    def failing(self: object, name: str, data: bytes) -> None:
        if len(puts) >= 3:
            raise OSError(28, "No space left on device", name)
        puts.append(name)
        real(self, name, data)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("cdl.store.remote.Folder.put", failing)
        patch.setattr("cdl.sharing.place.THREADS", 1)
        with pytest.raises(OSError, match="No space"):
            team.b.cdl(SCIENCE, "sync")
    team.a.cdl(DATA, "sync")
    assert len(trials(team.a.become(DATA))) == 0, "half of a segment was seen"
    again: list[str] = []

    def counting(self: object, name: str, data: bytes) -> None:
        again.append(name)
        real(self, name, data)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("cdl.store.remote.Folder.put", counting)
        team.b.cdl(SCIENCE, "sync")
    assert not set(again) & set(puts) and again
    team.a.cdl(DATA, "sync")
    assert len(trials(team.a.become(DATA))) == 1


def test_what_is_not_what_it_says_is_named_not_taken_and_mended_by_who_has_it(team: Team, tmp_path: Path) -> None:
    trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    own = stream.own_stream(team.b.root / ".cdl")
    last = stream.closed(team.b.root / ".cdl", own)[-1]
    named = parcel.decode((team.store / parcel.remote_name(own, last)).read_bytes(), "test").objects
    everything = (team.store, team.a.root, team.b.root)
    for place in everything:
        shutil.copytree(place, tmp_path / "before" / place.name, symlinks=True)
    here = team.a.become(DATA).store
    lacking = [name for name in named if not here.has(name)]
    assert len(lacking) > 5
    for name in lacking:
        for place in everything:
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "before" / place.name, place, symlinks=True)
        broken = team.store / f"objects/{name[:2]}/{name[2:]}"
        broken.write_bytes(broken.read_bytes() + b"?")
        with pytest.raises(Corrupt, match="1 fault,"):
            team.a.cdl(DATA, "sync")
        assert len(trials(team.a.become(DATA))) == 0
        team.b.cdl(SCIENCE, "sync", "--whole")  # which a's own parcel, without this one, does not mislead
        team.a.cdl(DATA, "sync")
        assert len(trials(team.a.become(DATA))) == 1, name


def test_history_that_was_rewritten_is_named_and_not_followed(team: Team, tmp_path: Path) -> None:
    team.a.data(table(140), DATA)
    team.a.cdl(DATA, "sync")
    team.b.cdl(SCIENCE, "sync")
    a = team.a.become(DATA)
    a.git.run("push", "--quiet", "--force", "origin", "main~1:main")
    tip = team.b.become(SCIENCE).registry.tip()
    with pytest.raises(Corrupt, match="1 fault,"):
        team.b.cdl(SCIENCE, "sync")
    assert team.b.become(SCIENCE).registry.tip() == tip
    team.b.cdl(SCIENCE, "sync", "--accept", "main")
    assert team.b.become(SCIENCE).registry.tip() == a.git.resolve("main~1")


@pytest.mark.parametrize("how", ["-s ours", "evil"])
def test_a_merge_that_drops_a_record_is_named(team: Team, how: str) -> None:
    workspace = team.a.become(DATA)
    old = workspace.git.head()
    team.a.data(table(140), DATA)
    git = team.a.become(DATA).git
    git.run("switch", "--quiet", "-c", "side", old)
    git.run("commit", "--quiet", "--allow-empty", "-m", "nothing")
    git.run("merge", "--quiet", "--no-commit", *(["-s", "ours"] if how == "-s ours" else []), "main")
    if how == "evil":
        git.run("rm", "--quiet", "-r", "--cached", "registry/datasets/points", "registry/labels/points")
        git.run("checkout", "--quiet", "HEAD", "--", "registry/datasets/points", "registry/labels/points")
    git.run("commit", "--quiet", "-m", "merge")
    git.run("branch", "--quiet", "--force", "main", "side")
    git.run("switch", "--quiet", "main")
    git.run("push", "--quiet", "origin", "main")
    with pytest.raises(Corrupt, match="fault"):
        team.b.cdl(SCIENCE, "sync")
    with pytest.raises(Corrupt):
        team.a.cdl(REVIEW, "ci", "check")


def test_own_work_beside_others_code_is_left_to_the_person(team: Team) -> None:
    for toy, who, path in ((team.a, DATA, "one.txt"), (team.b, SCIENCE, "two.txt")):
        toy.write(path, "x")
        toy.commit(toy.become(who), path)
    team.a.cdl(DATA, "sync")
    tip = team.b.become(SCIENCE).git.head()
    with pytest.raises(Conflict, match="main is not brought together"):
        team.b.cdl(SCIENCE, "sync")
    assert team.b.become(SCIENCE).git.head() == tip
    team.b.become(SCIENCE).git.run("pull", "--quiet", "--rebase", "origin", "main")
    team.b.cdl(SCIENCE, "sync")
    team.a.cdl(DATA, "sync")
    assert team.a.become(DATA).git.head() == team.b.become(SCIENCE).git.head()


def test_a_store_of_another_project_is_refused(team: Team) -> None:
    (team.store / "cdl.json").write_text('{"format": 1, "id": "x", "project": "another"}')
    with pytest.raises(Conflict, match="of project 'another'"):
        team.a.cdl(DATA, "sync")


def test_another_store_gets_everything(team: Team, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    team.a.write("cdl.yaml", (team.a.root / "cdl.yaml").read_text().replace("../shared", "../elsewhere"))
    assert "not used in this clone: store" in team.a.cdl(DATA, "status")
    team.a.cdl(DATA, "trust", "--yes")
    team.a.cdl(DATA, "sync")
    count = {
        h.relative_to(s): h.read_bytes() for s in (team.store, tmp_path / "elsewhere") for h in s.rglob("objects/*/*")
    }
    assert count and all((tmp_path / "elsewhere" / name).read_bytes() == data for name, data in count.items())


def test_a_detached_shallow_checkout_shares_what_is_in_the_store(team: Team, tmp_path: Path) -> None:
    model = trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    root = tmp_path / "shallow"
    team.b.become(SCIENCE).git.run("clone", "--quiet", "--depth=1", f"file://{team.origin}", str(root))
    shallow = Toy(root, team.a._patch, keyring=tmp_path / "keys-a" / "keyring")
    git = Git(root)
    git.run("checkout", "--quiet", "--detach")
    git.run("branch", "--quiet", "-D", "main")
    shallow.cdl(DATA, "trust", "--yes")
    shallow.cdl(DATA, "sync")
    assert git.text("rev-list", "--count", "HEAD") == "1"
    workspace = shallow.become(DATA)
    assert workspace.registry.record(Model, model).name == "side" and workspace.store.has(
        workspace.registry.record(Model, model).weights
    )


def test_a_lost_store_comes_back_and_trials_are_not_numbered_again(team: Team) -> None:
    trained(team.b, SCIENCE, "exp/one")
    team.b.cdl(SCIENCE, "sync")
    before = list(team.b.become(SCIENCE).store.names())
    shutil.rmtree(team.b.root / ".cdl" / "store")
    assert team.b.cdl(SCIENCE, "sync") == "everything is everywhere already\n"
    team.b.cdl(SCIENCE, "sync", "--whole")
    b = team.b.become(SCIENCE)
    assert set(b.store.names()) <= set(before) and b.store.has(trials(b)[0].weights or "")
    shutil.rmtree(team.b.root / ".cdl" / "store")
    again = new_id(team.b.become(SCIENCE))
    assert again.startswith("e2-"), "a trial got the number of another"


def test_nothing_where_the_store_was_is_no_new_store(team: Team) -> None:
    team.store.rename(team.store.with_name("away"))
    team.store.mkdir()
    with pytest.raises(Conflict, match="not the store .* it is empty") as caught:
        team.a.cdl(DATA, "sync")
    assert "cdl sync --whole" in (caught.value.remedy or "") and not list(team.store.iterdir())
    team.a.cdl(DATA, "sync", "--whole")
    assert (team.store / "cdl.json").exists() and list(team.store.rglob("objects/*/*"))


def test_the_same_data_run_again_leaves_its_ref_and_a_ref_of_equal_work_is_no_fault(team: Team) -> None:
    team.a.cdl(DATA, "sync")
    ref = next(iter(team.a.become(DATA).git.refs("refs/cdl/data/")))
    before = team.a.become(DATA).git.resolve(ref)
    team.a.write("notes.txt", "anything")
    versions.make(team.a.become(DATA), "points")
    git = team.a.become(DATA).git
    assert git.resolve(ref) == before
    git.set_ref(ref, git.text("commit-tree", "HEAD^{tree}", "-m", "equal work of another clone"))
    team.a.cdl(DATA, "sync")


def test_a_bare_number_means_the_trial_of_this_clone(team: Team) -> None:
    for toy in (team.a, team.b):
        trained(toy, SCIENCE, "exp/one" if toy is team.a else "exp/two")
    team.a.cdl(SCIENCE, "sync")
    team.b.cdl(SCIENCE, "sync")
    b = team.b.become(SCIENCE)
    assert len(trials(b)) == 2
    assert load(b, "e1").id.endswith(stream.own_stream(team.b.root / ".cdl")[2:6])


def test_experiments_of_others_are_seen(team: Team) -> None:
    trained(team.b, SCIENCE, "exp/stems")
    team.b.cdl(SCIENCE, "sync")
    team.a.cdl(DATA, "sync")
    assert "exp/stems" in team.a.cdl(DATA, "experiment", "list") and "of others: git switch exp/stems" in team.a.cdl(
        DATA, "experiment"
    )
    assert "is gone" not in html(experiment_page(team.a.become(DATA), "exp/stems"))
