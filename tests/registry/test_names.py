from pathlib import Path

import pytest

from cdl.errors import Conflict, NotFound
from cdl.registry.names import find
from cdl.registry.records import DatasetHead, DeploymentHead, ModelHead, short
from tests.registry.made import Kept


def test_an_id_its_first_digits_and_a_name_are_one_thing(kept: Kept) -> None:
    first = kept.dataset({"a": "1"})
    second = kept.dataset({"a": "2"})
    for what in (second, short(second), "points", "dataset:points", "points@~0", f"points@{short(second)}"):
        assert find(kept.registry, what).stored.id == second, what
    for what in ("points@~1", "points@v1", f"dataset:points@{first}"):
        assert find(kept.registry, what).stored.id == first, what
    assert find(kept.registry, "points@v2").stored.id == second


def test_the_branch_checked_out_counts_before_the_integration_branch(kept: Kept) -> None:
    first = kept.dataset({"a": "1"})
    kept.switch("exp/data")
    mine = kept.dataset({"a": "2"})
    assert find(kept.registry, "points").stored.id == mine and find(kept.registry, "points").said is None
    kept.switch("exp/other", "main")
    assert find(kept.registry, "points").stored.id == first
    # a branch without the head: the integration branch's, and it is said
    kept.switch("exp/empty", "main")
    kept.registry.git.run("rm", "--quiet", "registry/datasets/points.yaml")
    kept.registry.git.run("commit", "--quiet", "--message", "no data here")
    found = find(kept.registry, "points")
    assert found.stored.id == first and found.said == "as main names it"
    # numbers are the integration branch's: a version of another branch has none
    with pytest.raises(NotFound, match="no version v2") as caught:
        find(kept.registry, "points@v2")
    assert caught.value.remedy == "there is: v1"


def test_a_model_without_promotion_is_the_one_registered_last(kept: Kept) -> None:
    kept.switch("exp/a")
    one = kept.model(1)
    kept.switch("exp/b")
    two = kept.model(2)
    kept.switch("main", "main")
    found = find(kept.registry, "side")
    assert found.stored.id == two and "registered last" in (found.said or "")
    assert find(kept.registry, "side@~1").stored.id == one
    with pytest.raises(NotFound, match="no version v1"):
        find(kept.registry, "side@v1")


def test_numbers_of_a_model_are_promotions_on_the_integration_branch(kept: Kept) -> None:
    one, two, three = (kept.model(n) for n in (1, 2, 3))
    for model in (two, one, three, one):
        kept.promote(model)
    names = {v: find(kept.registry, f"side@{v}").stored.id for v in ("v1", "v2", "v3")}
    assert names == {"v1": two, "v2": one, "v3": three}
    assert [find(kept.registry, f"side@~{n}").stored.id for n in range(4)] == [one, three, one, two]
    with pytest.raises(NotFound, match="no version v4") as caught:
        find(kept.registry, "side@v4")
    assert caught.value.remedy == "there is: v1, v2, v3"
    with pytest.raises(NotFound, match="no version ~4"):
        find(kept.registry, "side@~4")


def test_a_promotion_on_a_branch_that_is_merged_counts_by_the_merge_alone(kept: Kept) -> None:
    one, two = kept.model(1), kept.model(2)
    kept.switch("exp/own")
    for model in (one, two):
        kept.commit(heads=[("side", ModelHead(promoted=model))], command="promote", line="side")
    kept.switch("main", "main")
    kept.tick()
    kept.registry.git.run("merge", "--quiet", "--no-ff", "--no-edit", "exp/own")
    assert find(kept.registry, "side@v1").stored.id == two
    with pytest.raises(NotFound, match="no version v2"):
        find(kept.registry, "side@v2")


def test_versions_of_a_merged_branch_count_in_their_chain(kept: Kept) -> None:
    first = kept.dataset({"a": "1"})
    kept.switch("exp/data")
    second, third = kept.dataset({"a": "2"}), kept.dataset({"a": "3"})
    kept.switch("main", "main")
    kept.registry.git.run("merge", "--quiet", "--no-ff", "--no-edit", "exp/data")
    found = [find(kept.registry, f"points@v{n}").stored.id for n in (1, 2, 3)]
    assert found == [first, second, third]
    assert find(kept.registry, "points@~2").stored.id == first


def test_labels_follow_what_their_head_says_of_before(kept: Kept) -> None:
    data = kept.dataset({"a": "1"})
    given = [kept.labels(data, {"a": (value, "l@example.org")}) for value in ("left", "right", "none")]
    assert [find(kept.registry, f"labels:points@~{n}").stored.id for n in range(3)] == given[::-1]
    assert [find(kept.registry, f"labels:points@v{n}").stored.id for n in (1, 2, 3)] == given
    # the letter of an id says which of the two is meant
    assert find(kept.registry, f"points@{short(given[0])}").stored.id == given[0]


def test_a_name_of_several_things_is_asked_back(kept: Kept) -> None:
    data = kept.dataset({"a": "1"})
    labels = kept.labels(data, {"a": ("left", "l@example.org")})
    with pytest.raises(Conflict, match="names 2 things") as caught:
        find(kept.registry, "points")
    assert caught.value.remedy == "say which: dataset:points, labels:points"
    taken = find(kept.registry, "points", prefer_dataset=True)
    assert taken.stored.id == data and "labels:points" in (taken.said or "")
    assert find(kept.registry, "labels:points").stored.id == labels
    kept.model(name="points")
    with pytest.raises(Conflict, match="names 3 things") as caught:
        find(kept.registry, "points", prefer_dataset=True)
    assert caught.value.remedy == "say which: dataset:points, labels:points, model:points"


def test_what_is_not_there_gives_the_nearest_names(kept: Kept) -> None:
    with pytest.raises(NotFound) as caught:
        find(kept.registry, "points")
    assert caught.value.remedy == "nothing has a name yet"
    kept.dataset({"a": "1"})
    kept.model(name="reader")
    for what, remedy in {
        "pionts": "did you mean points?",
        "zzz": "there is: points, reader",
        "model:points": "there is: dataset:points",
        "thing:points": "dataset:points, labels:points, model:points, stage:points",
        "points@newest": "points@v2, points@~1, or points@ and the begin of an id",
        "points@d-00000000": f"there is: {short(find(kept.registry, 'points').stored.id)}",
    }.items():
        with pytest.raises(NotFound) as caught:
            find(kept.registry, what)
        assert caught.value.remedy == remedy, what
    kept.switch("exp/new")
    elsewhere = kept.dataset({"a": "1"}, name="other")
    kept.switch("main", "main")
    with pytest.raises(NotFound, match="no version on this branch or main") as caught:
        find(kept.registry, "other")
    assert short(elsewhere) in (caught.value.remedy or "")


def test_a_stage_is_named_by_its_own_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path / "two", monkeypatch, production="production")
    kept.registry.git.run("branch", "production")
    one, two = (kept.package("m-" + "0" * 32, files=text) for text in ("1", "2"))

    def deploy(stage: str, package: str, branch: str, before: str | None = None) -> None:
        head = DeploymentHead(package=package, manifest="x", before=before)
        kept.commit(heads=[(stage, head)], command="deploy apply", line=stage, branch=branch)

    deploy("staging", one, "main")
    deploy("production", one, "production")
    kept.switch("exp/old", "main")
    deploy("staging", two, "main", one)
    deploy("production", two, "production", one)
    deploy("production", one, "production", two)
    assert find(kept.registry, "staging").stored.id == two
    assert find(kept.registry, "production").stored.id == one
    assert [find(kept.registry, f"production@~{n}").stored.id for n in (1, 2)] == [two, one]
    assert find(kept.registry, "stage:production@v2").stored.id == two
    assert find(kept.registry, f"production@{short(two)}").stored.id == two


def test_a_detached_head_names_its_own_versions(kept: Kept) -> None:
    first = kept.dataset({"a": "1"})
    kept.dataset({"a": "2"})
    kept.registry.git.run("switch", "--quiet", "--detach", "HEAD~1")
    assert find(kept.registry, "points").stored.id == first
    head = kept.registry.head(DatasetHead, "points", at=kept.registry.tip())
    assert head is not None and find(kept.registry, "points@v2").stored.id == head.version
