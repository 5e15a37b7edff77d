import shutil
from pathlib import Path
from typing import Any

import pytest

from cdl.errors import Conflict, Corrupt, NotFound
from cdl.git.commit import make_commit
from cdl.git.repository import Git
from cdl.journal.journal import Journal
from cdl.registry.chain import Chain
from cdl.registry.check import check_registry
from cdl.registry.records import (
    Decision,
    Gate,
    Made,
    Model,
    ModelHead,
    Request,
    Transformation,
    decode,
    encode,
    is_head,
    is_record,
    short,
)
from cdl.registry.registry import TRIAL_REFS, Registry

MADE = Made(who="a@example.org", when="2026-01-01T00:00:00Z")


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    root = tmp_path / "r"
    root.mkdir()
    git = Git.init(root)
    (root / ".gitignore").write_text(".cdl/\n")
    git.run("add", ".gitignore")
    git.run("commit", "--quiet", "--message", "start")
    return opened(root)


def opened(root: Path) -> Registry:
    return Registry(Git(root), Journal(root / ".cdl"), root / ".cdl", integration="main")


def transformation(call: str = "m:T") -> Transformation:
    return Transformation(call=call, code="c", parameters={}, fitted_on={}, state="s")


def model(name: str = "toy", seed: int = 0) -> Model:
    return Model(
        name=name, made=MADE, code={"commit": "0"}, data={"dataset": "d-1"}, transformation=None, environment={},
        trial={"seed": seed}, weights="w", metrics={}, output={"classes": ["a"]},
    )  # fmt: skip


def test_a_record_is_named_by_its_bytes_and_read_back() -> None:
    identity, path, data = encode(model())
    assert path == f"registry/models/toy/{identity}.yaml" and decode(path, data) == model()
    assert encode(model())[0] == identity != encode(model(seed=1))[0]
    with pytest.raises(Corrupt, match="not the hash"):
        decode(path, data + b"x: 1\n")
    assert is_record(path) and not is_head(path) and is_head("registry/models/toy.yaml")


def test_equal_work_is_one_file_and_one_commit(registry: Registry) -> None:
    one = registry.commit(transformation(), command="transform", line="t")
    two = registry.commit(transformation(), command="transform", line="t")
    assert one == two
    message = registry.git.text("log", "-1", "--format=%B")
    assert f"Cdl-Command: transform\nCdl-Record: {one.ids[0]}" in message


def test_records_are_found_by_prefix_from_any_branch(registry: Registry) -> None:
    registry.git.run("switch", "--quiet", "-c", "exp/x")
    made = registry.commit(model(), command="model register", line="toy").ids[0]
    registry.git.run("switch", "--quiet", "main")
    assert registry.get(short(made)).record == model()
    assert registry.all(Model) == [(made, model())] and registry.all(Model, at="main") == []
    with pytest.raises(NotFound):
        registry.get("m-ffffffff")
    with pytest.raises(NotFound, match="not an id"):
        registry.get("nonsense")


def test_two_branches_that_register_merge_without_conflict(registry: Registry) -> None:
    git = registry.git
    for number, branch in enumerate(("one", "two")):
        git.run("switch", "--quiet", "-c", branch, "main")
        registry.commit(model(seed=number), transformation(), command="model register", line="toy")
    git.run("merge", "--quiet", "--no-edit", "one")
    assert len(registry.all(Model, at="HEAD")) == 2 and len(registry.all(Transformation, at="HEAD")) == 1
    assert check_registry(git, "HEAD") == []


def test_on_a_detached_head_nothing_is_lost(registry: Registry) -> None:
    registry.git.run("switch", "--quiet", "--detach")
    with pytest.raises(Conflict, match="detached"):
        registry.commit(model(), command="x", line="x")


def test_events_are_the_same_for_maker_and_puller(registry: Registry, tmp_path: Path) -> None:
    registry.commit(model(), command="model register", line="toy")
    registry.commit(heads=[("toy", ModelHead(promoted="m-1"))], command="promote", line="toy")
    made = {e.id: (e.kind, e.fields) for e in registry.journal.events()}
    assert sorted(kind for kind, _ in made.values()) == ["model.promoted", "model.registered"]
    registry.git.run("clone", "--quiet", str(registry.git.root), str(tmp_path / "clone"))
    other = opened(tmp_path / "clone")
    other.observe()
    assert {e.id: (e.kind, e.fields) for e in other.journal.events()} == made
    assert other.observe() == []


def test_a_revert_is_another_event_and_an_amend_the_same(registry: Registry) -> None:
    registry.commit(heads=[("toy", ModelHead(promoted="m-1"))], command="promote", line="toy")
    registry.commit(heads=[("toy", ModelHead(promoted="m-2", before="m-1"))], command="promote", line="toy")
    registry.git.run("commit", "--quiet", "--amend", "--message", "other words")
    registry.observe()
    assert len(registry.journal.events("model.promoted")) == 2
    registry.git.run("revert", "--no-edit", "HEAD")
    registry.observe()
    last = registry.journal.events("model.promoted")[-1]
    assert last.fields["model"] == "m-1" and len(registry.journal.events("model.promoted")) == 3


def test_what_was_observed_can_be_thrown_away(registry: Registry) -> None:
    made = registry.commit(model(), command="x", line="x").ids[0]
    rows = registry.journal.index.rows()
    shutil.rmtree(registry.git.root / ".cdl" / "none", ignore_errors=True)
    (registry.git.root / ".cdl" / "observed.json").unlink()
    again = opened(registry.git.root)
    assert again.get(made).id == made and again.journal.index.rows() == rows


def test_a_chain_lands_in_one_move_or_not_at_all(registry: Registry) -> None:
    start = registry.tip()
    chain = Chain(registry, "main")
    chain.commit(model(), command="approve", line="a")
    chain.commit(heads=[("toy", ModelHead(promoted="m-1"))], command="promote", line="b")
    assert registry.tip() == start
    late = Chain(registry, "main")
    late.commit(model(seed=2), command="approve", line="late")
    tip = chain.land()
    assert registry.git.resolve(f"{tip}~2") == start
    with pytest.raises(Conflict):
        late.land()
    assert registry.tip() == tip and registry.git.run("status", "--porcelain") == b""


def test_the_line_knows_which_commit_brought_an_event(registry: Registry) -> None:
    git = registry.git
    git.run("switch", "--quiet", "-c", "side")
    registry.commit(model(), command="model register", line="toy")
    event = registry.journal.events("model.registered")[0]
    assert registry.line_commit(event.id) is None
    git.run("switch", "--quiet", "main")
    git.run("merge", "--quiet", "--no-ff", "--no-edit", "side")
    registry.observe()
    assert registry.line_commit(event.id) == git.head()


def test_a_changed_or_removed_record_is_found(registry: Registry) -> None:
    made = registry.commit(
        Request(to={"step": "collection", "role": "data_engineer"}, subject=None, made=MADE, because="x"),
        command="x",
        line="x",
    )
    path = f"registry/requests/{made.ids[0]}.yaml"
    (registry.git.root / path).write_text("kind: request\n")
    registry.git.run("commit", "--quiet", "--all", "--message", "edit")
    found = check_registry(registry.git, "HEAD")
    assert {f.what for f in found} == {"an immutable record was changed", "the name is not the hash of the content"}
    registry.git.run("rm", "--quiet", path)
    registry.git.run("commit", "--quiet", "--message", "remove")
    assert "an immutable record was removed" in {f.what for f in check_registry(registry.git, "HEAD")}


@pytest.mark.parametrize("many", [2, 30])
def test_looking_again_takes_as_many_calls_of_git_for_few_refs_as_for_many(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    git = registry.git
    tree = git.text("rev-parse", "HEAD^{tree}")
    for number in range(many):
        git.set_ref(f"{TRIAL_REFS}{number}", make_commit(git, tree, [git.head()], f"{number}\n"))
    registry.observe()
    asked = []
    real = Git.call

    def call(self: Git, *arguments: str, **more: Any) -> Any:
        asked.append(arguments[0])
        return real(self, *arguments, **more)

    monkeypatch.setattr(Git, "call", call)
    registry.commit(model(), command="x", line="x")
    assert asked.count("rev-parse") <= 3 and len(asked) < 30
    assert [m.name for _, m in registry.all(Model)] == ["toy"]


def test_decisions_are_found_by_gate_and_subject_as_of_a_commit(registry: Registry) -> None:
    def decided(gate: Gate, subject: str) -> Decision:
        return Decision(gate=gate, subject=subject, verdict="approve", made=MADE, policy=None, seen={})

    first = registry.commit(decided("data", "d-1"), decided("model", "m-1"), command="x", line="x")
    second = registry.commit(decided("model", "m-2"), command="x", line="x")
    found = registry.decisions(first.commit)
    assert {gate: sorted(subjects) for gate, subjects in found.items()} == {"data": ["d-1"], "model": ["m-1"]}
    assert [i for i, _ in found["model"]["m-1"]] == [first.ids[1]]
    assert sorted(registry.decisions(second.commit)["model"]) == ["m-1", "m-2"]
    assert "m-2" not in registry.decisions(first.commit)["model"]
