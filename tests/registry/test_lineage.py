import pytest

from cdl.errors import Conflict, NotFound
from cdl.registry.lineage import Edge, describe, lineage, start
from cdl.registry.outline import outline
from cdl.registry.records import Decision, DeploymentHead, Made, Request, short
from tests.registry.made import Kept

ITEM, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
MINE, YOURS = "mine@example.org", "your-team@example.org"


class Whole:
    """Two versions of a dataset; the second holds ITEM no more. A model of each; the first one's package is deployed."""

    def __init__(self, kept: Kept) -> None:
        self.data = kept.dataset({ITEM: "1", OTHER: "2"})
        self.labels = kept.labels(self.data, {ITEM: ("left", MINE), OTHER: ("left", YOURS)})
        self.fitted = kept.transformation(self.data)
        self.model = kept.model(1, data=(self.data, self.labels), transformation=self.fitted)
        self.later = kept.dataset({OTHER: "2"})
        self.labels_later = kept.labels(self.later, {OTHER: ("right", YOURS)})
        self.model_later = kept.model(2, data=(self.later, self.labels_later))
        self.smaller = kept.model(3, data=(self.data, self.labels), origin={"model": self.model, "by": "compression"})
        self.package = kept.package(self.smaller, self.fitted)
        self.after = kept.package(self.model_later)
        kept.commit(heads=[("staging", DeploymentHead(package=self.package, manifest="x"))])
        kept.commit(heads=[("staging", DeploymentHead(package=self.after, manifest="x", before=self.package))])
        made = Made(who=MINE, when=kept.tick())
        verdict = Decision(gate="model", subject=self.model, verdict="approve", made=made, policy=None, seen={})
        self.decision = kept.commit(verdict)
        request = Request(to={"step": "s", "role": "r"}, subject=self.model, made=made, because="x")
        self.request = kept.commit(request)


@pytest.fixture
def whole(kept: Kept) -> Whole:
    return Whole(kept)


def traced(kept: Kept, identity: str, *, down: bool) -> list[Edge]:
    return lineage(kept.registry, kept.store, identity, down=down)


def test_from_a_training_item_to_everything_made_of_it(kept: Kept, whole: Whole) -> None:
    assert start(kept.registry, kept.store, ITEM[:9]).id == ITEM
    found = traced(kept, ITEM, down=True)
    made = {e.source for e in found}
    assert made == {
        whole.data, whole.labels, whole.fitted, whole.model, whole.smaller, whole.package, "stage:staging",
        whole.decision, whole.request,
    }  # fmt: skip
    # the later version has lost the item: neither it nor what was made of it
    assert Edge(whole.data, "train", ITEM) in found and Edge("stage:staging", "before", whole.package) in found
    assert traced(kept, ITEM, down=False) == []
    other = {e.source for e in traced(kept, OTHER, down=True)}
    assert made | {whole.later, whole.labels_later, whole.model_later, whole.after} == other


def test_from_a_labeler_to_everything_made_of_their_labels(kept: Kept, whole: Whole) -> None:
    assert start(kept.registry, kept.store, YOURS).id == YOURS
    mine = {e.source for e in traced(kept, MINE, down=True)}
    assert mine == {
        whole.labels, whole.model, whole.smaller, whole.package, "stage:staging", whole.decision, whole.request,
    }  # fmt: skip
    assert {whole.labels, whole.labels_later, whole.after} < {e.source for e in traced(kept, YOURS, down=True)}
    with pytest.raises(NotFound, match="labeled no training item"):
        start(kept.registry, kept.store, "nobody@example.org")


def test_lineage_goes_both_ways(kept: Kept, whole: Whole) -> None:
    above = {(e.source, e.field, e.target) for e in traced(kept, whole.smaller, down=False)}
    assert above == {
        (whole.smaller, "from.model", whole.model),
        (whole.smaller, "data.dataset", whole.data),
        (whole.smaller, "data.labels", whole.labels),
        (whole.model, "data.dataset", whole.data),
        (whole.model, "data.labels", whole.labels),
        (whole.model, "transformation", whole.fitted),
        (whole.fitted, "fitted_on.dataset", whole.data),
        (whole.labels, "dataset", whole.data),
        (whole.labels, "rows.train", MINE),
        (whole.labels, "rows.train", YOURS),
    }
    assert traced(kept, whole.decision, down=True) == []
    assert Edge(whole.decision, "subject", whole.model) in traced(kept, whole.decision, down=False)
    # a successor is named, and what was made of it in turn is not
    below = {e.source for e in traced(kept, whole.data, down=True)}
    assert whole.later in below and whole.model_later not in below
    above_later = {e.target for e in traced(kept, whole.model_later, down=False)}
    assert whole.data in above_later and MINE not in above_later


def test_an_answer_to_a_request_is_not_made_of_what_the_request_is_about(kept: Kept, whole: Whole) -> None:
    answer = kept.model(9, origin={"model": whole.model_later, "by": "retraining", "answers": whole.request})
    assert answer not in {e.source for e in traced(kept, whole.model, down=True)}
    assert [e.source for e in traced(kept, whole.request, down=True)] == [answer]


def test_what_is_meant_is_unique_or_not_there(kept: Kept, whole: Whole) -> None:
    twin = ITEM[:-1] + "0"
    kept.dataset({ITEM: "1", twin: "2"}, name="twins")
    with pytest.raises(Conflict, match="2 items"):
        start(kept.registry, kept.store, ITEM[:12])
    assert start(kept.registry, kept.store, twin).id == twin
    with pytest.raises(NotFound, match="no training item 00000000 "):
        start(kept.registry, kept.store, "00000000")
    with pytest.raises(NotFound, match="nothing is named"):
        start(kept.registry, kept.store, ITEM[:7])
    kept.model(name="deadbeef")
    for what, identity in {"side@~1": None, "staging": whole.after, "deadbeef": None, "points": whole.later}.items():
        found = start(kept.registry, kept.store, what).id
        assert found == identity or (identity is None and found.startswith("m-")), what
    assert "labels:points" in (start(kept.registry, kept.store, "points").said or "")


def test_a_clone_without_the_store_follows_the_records(kept: Kept, whole: Whole) -> None:
    for path in (kept.root / ".cdl" / "store" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    assert whole.package in {e.source for e in traced(kept, whole.data, down=True)}
    assert {e.target for e in traced(kept, whole.model, down=False)} == {whole.data, whole.labels, whole.fitted}
    with pytest.raises(NotFound, match="whose tree is here"):
        start(kept.registry, kept.store, ITEM)


def test_the_outline_shows_each_thing_once_where_the_way_is_longest(kept: Kept, whole: Whole) -> None:
    found = traced(kept, ITEM, down=True)
    names = describe(kept.registry, [ITEM, *(e.source for e in found)])
    d, t, m = short(whole.data), short(whole.fitted), short(whole.model)
    assert outline(ITEM, found, names, down=True) == [
        f"{ITEM[:8]}  item",
        f"  {d}  dataset points  by train",
        f"    {short(whole.labels)}  labels points  by dataset",
        f"      {m}  model side  by data.labels; transformation {t}; data.dataset {d}",
        f"        {short(whole.smaller)}  model side  by from.model; data.labels {short(whole.labels)}; data.dataset {d}",
        f"          {short(whole.package)}  package  by model; transformation {t}",
        "            staging  stage  by before",
        f"        {short(whole.decision)}  decision model: approve  by subject",
        f"        {short(whole.request)}  request at s  by subject",
        f"    {t}  transformation m:T  by fitted_on.dataset",
    ]
    up = traced(kept, whole.labels, down=False)
    described = describe(kept.registry, [whole.labels, *(e.target for e in up)])
    assert outline(whole.labels, up, described, down=False) == [
        f"{short(whole.labels)}  labels points",
        f"  {d}  dataset points  by dataset",
        f"  {MINE}  labeler  by rows.train",
        f"  {YOURS}  labeler  by rows.train",
    ]
