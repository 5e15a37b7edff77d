import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdl.errors import NotFound
from cdl.git.repository import Git
from cdl.registry.history import Entry, history
from cdl.registry.records import Decision, DeploymentHead, Made, Model, Request, short
from tests.registry.made import WHO, Kept

REVIEW = "review@example.org"


def lines(found: list[Entry]) -> list[tuple[str, str, str | None, bool]]:
    return [(short(e.id), e.kind, e.version, e.current) for e in found]


def decision(subject: str, when: str) -> Decision:
    made = Made(who=REVIEW, role="model_validator", when=when)
    return Decision(gate="model", subject=subject, verdict="approve", made=made, policy=None, seen={})


def test_the_history_of_a_model_is_what_happened_newest_first(kept: Kept) -> None:
    first, second = kept.model(1), kept.model(2)
    other = kept.model(3, name="other")
    kept.become(REVIEW)
    approved = kept.commit(decision(first, kept.tick()), command="approve", line="it")
    kept.commit(decision(other, kept.tick()), command="approve", line="it")
    kept.promote(first)
    kept.promote(second)
    found = history(kept.registry, "side")
    assert lines(found) == [
        (short(second), "promotion", "v2", False),
        (short(first), "promotion", "v1", False),
        (short(approved), "decision", None, False),
        (short(second), "model", "v2", True),
        (short(first), "model", "v1", False),
    ]
    assert [e.who for e in found] == [REVIEW, REVIEW, REVIEW, WHO, WHO]
    record = kept.registry.get(first).record
    assert isinstance(record, Model) and found[-1].when == record.made.when  # the commit came a minute later
    assert [e.line for e in found][2:] == ["approve: it", "model register: side 2", "model register: side 1"]
    assert sorted((e.when for e in found), reverse=True) == [e.when for e in found]


def test_records_without_a_person_have_author_and_time_of_their_first_commit(kept: Kept) -> None:
    kept.become("data@example.org")
    made = kept.dataset({"a": "1"})
    when = kept.registry.git.text("log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%ad")
    kept.become(REVIEW)
    kept.registry.git.run("switch", "--quiet", "-c", "copy", "main~1")
    kept.registry.git.run("cherry-pick", "main")  # brought a second time, by somebody else as committer
    (entry,) = history(kept.registry, "dataset:points")
    assert (entry.id, entry.who, entry.when, entry.line) == (made, "data@example.org", when, "data run: points")
    assert entry.current


def test_all_of_it_and_what_is_about_one_record(kept: Kept) -> None:
    data = kept.dataset({"a": "1"})
    labels = kept.labels(data, {"a": ("left", "l@example.org")})
    model = kept.model(1, data=(data, labels))
    sent_back = kept.commit(
        Request(to={"step": "s", "role": "r"}, subject=model, made=Made(who=REVIEW, when=kept.tick()), because="x")
    )
    package = kept.package(model)
    head = DeploymentHead(package=package, manifest="x")
    kept.commit(heads=[("staging", head)], command="deploy apply", line="staging")
    every = history(kept.registry)
    assert [(e.kind, short(e.id)) for e in every] == [
        ("deployment", short(package)),
        ("package", short(package)),
        ("request", short(sent_back)),
        ("model", short(model)),
        ("labels", short(labels)),
        ("dataset", short(data)),
    ]
    assert [e.kind for e in every if e.current] == ["deployment", "model", "labels", "dataset"]
    assert [e.id for e in history(kept.registry, short(model))] == [sent_back, model]
    assert [e.kind for e in history(kept.registry, "points")] == ["labels", "dataset"]
    assert [e.kind for e in history(kept.registry, "staging")] == ["deployment"]
    with pytest.raises(NotFound, match="nothing is named"):
        history(kept.registry, "stagin")


def test_an_earlier_cache_of_what_was_seen_is_found_again(kept: Kept) -> None:
    kept.promote(kept.model(1))
    before = history(kept.registry)
    path = kept.root / ".cdl" / "observed.json"
    for text in ('{"version": 1, "tips": [], "records": {}}', ""):
        path.unlink()
        if text:
            path.write_text(text)
        assert history(kept.opened()) == before
    seen = json.loads(path.read_text())
    path.write_text(json.dumps(seen | {"tips": []}))
    assert history(kept.opened()) == before and json.loads(path.read_text()) == seen  # a second look adds nothing


def test_what_was_seen_does_not_depend_on_the_order_in_which_it_came(kept: Kept) -> None:
    """Equal records on two branches, and heads that move side by side: seen as they come, and all at once."""
    first = kept.dataset({"a": "1"})
    for branch, minute in (("exp/b", 50), ("exp/a", 10)):  # b is seen first and says a later time
        kept.switch(branch)
        kept.minute = minute
        kept.become(f"{branch[-1]}@example.org")
        data = kept.dataset({"a": "2"})
        kept.labels(data, {"a": ("left", "l@example.org")})
    kept.switch("main", "main")
    kept.minute = 55
    kept.tick()
    kept.registry.git.run("merge", "--quiet", "--no-ff", "--no-edit", "exp/a")
    kept.registry.observe()
    path = kept.root / ".cdl" / "observed.json"
    seen = json.loads(path.read_text())
    path.unlink()
    kept.opened().observe()
    assert json.loads(path.read_text()) == seen
    (entry, earlier) = history(kept.opened(), "dataset:points")
    assert (entry.id, entry.who, earlier.id) == (data, "a@example.org", first)


def test_a_merge_in_the_same_second_did_not_bring_what_it_merged(kept: Kept) -> None:
    """Ten times, since the ids of commits are as good as drawn."""
    kept.patch.setattr(kept, "tick", lambda: "2026-01-01T00:00:00Z")
    git = kept.registry.git
    for seed in range(10):
        kept.switch("exp/a")
        model = kept.model(seed)
        brought = git.head()
        git.run("switch", "--quiet", "main")
        git.run("merge", "--quiet", "--no-ff", "--no-edit", "exp/a")
        kept.registry.observe()
        assert kept.registry.brought(model).id == brought != git.head()


def test_no_git_process_for_each_record(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    run = Git.call

    def counted(git: Git, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[bytes]":
        if arguments[0] != "for-each-ref":  # asked again while refs have just moved
            calls.append(arguments[0])
        return run(git, *arguments, **more)

    def cost() -> int:
        registry = kept.opened()
        calls.clear()
        assert history(registry)
        return len(calls)

    kept.promote(kept.model(0))
    monkeypatch.setattr(Git, "call", counted)
    few = cost()
    for seed in range(1, 9):
        kept.model(seed)
    cost()
    assert cost() == few
    (kept.root / ".cdl" / "observed.json").unlink()
    assert cost() <= few + 8  # a scan from nothing takes as many, however many commits there are


def test_records_of_a_branch_that_is_gone_are_forgotten_and_nothing_fails(kept: Kept) -> None:
    stays = kept.model(1)
    kept.switch("exp/gone")
    goes = kept.model(2)
    assert {e.id for e in history(kept.registry)} == {stays, goes}
    git = kept.registry.git
    kept.switch("main", "main")
    git.run("branch", "--quiet", "-D", "exp/gone")
    git.run("reflog", "expire", "--expire=now", "--all")
    git.run("gc", "--quiet", "--prune=now", env={**os.environ, "GIT_OPTIONAL_LOCKS": "1"})
    again = kept.opened()
    assert [e.id for e in history(again)] == [stays]
    with pytest.raises(NotFound, match="no record"):
        again.get(goes)


def test_a_subject_or_a_path_with_control_characters_changes_nothing_else(kept: Kept, tmp_path: Path) -> None:
    made = kept.model(1)
    git = kept.registry.git
    odd = kept.root / "registry" / "models" / "\x01odd\x02.txt"
    odd.write_text("x")
    git.run("add", "--all")
    kept.tick()
    git.run("commit", "--quiet", "--message", "\x01" + "0" * 40 + "\x021\x02a\x02forged")
    second = kept.model(2)
    assert [e.id for e in history(kept.registry)] == [second, made]
