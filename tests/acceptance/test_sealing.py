"""A canary in the text, path and label of every item: of the test items' none is seen anywhere outside the sealed side."""

import base64
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cdl
from cdl.cycle import CYCLE
from cdl.data import labels, versions
from cdl.data.dataset import dataset_record, training
from cdl.data.history.reproduce import reproduce_data
from cdl.data.pipeline import ledger
from cdl.data.pipeline.split import ASIDE, TEST, TRAIN
from cdl.data.ready import released
from cdl.errors import JobFailed, NotFound
from cdl.git.repository import Git
from cdl.monitoring import select
from cdl.monitoring.window import monitor
from cdl.pages.overview import write_all
from cdl.registry.lineage import lineage, start
from cdl.registry.records import DeploymentHead
from cdl.report.write import Form
from cdl.workflow.run import run
from cdl.workflow.workspace import Workspace
from tests.acceptance.seen import CDL, Wanted, everything
from tests.monitoring.test_window import MONITORED, Service, draw
from tests.projects import DATA, OPS, REVIEW, SCIENCE, SIDE, Toy, make_toy, table

TOKEN = "5f3a91c0"  # the same always: with the tests' key every item has the same side in every run
COUNT = 40
FORMS: tuple[Form, ...] = ("html", "md")
WORDS = """\
cdl: 1
project: toy
data:
  words:
    source: {path: incoming}
    items: {files: "*.txt"}
    split: {test: 0.3, by: "data.steps:body"}
    steps:
      - clean: {run: "data.steps:clean"}
      - check: {run: [sh, check.sh], files: [check.sh]}
    labels: {classes: [CLASSES], origin: {csv: {path: labels.csv}}}
"""
BODY = "def body(content):\n    print(content)\n    return content\n\n"
CLEAN = """
from cdl.data.reject import Reject

def clean(content):
    number = int(content.split(b"-")[2][:3])
    print(content)
    if number % 4 == 1:
        raise Reject("not wanted: " + content.decode())
    if number % 8 == 3:
        raise Reject("three of eight")
    return content.strip()
"""
CHECK = "cat > kept; cat kept >&2; cat kept\n"
FAILING = {  # what fails, and the file of which it is
    "split.by": ("data/steps.py", "def body(content):\n    raise KeyError(content.decode())\n" + CLEAN),
    "a function": ("data/steps.py", BODY + "def clean(content):\n    raise ValueError(content.decode())\n"),
    "not bytes": ("data/steps.py", BODY + "def clean(content):\n    return content.decode()\n"),
    "a program": ("check.sh", "cat >&2; exit 1\n"),
}


def sides(workspace: Workspace, version: str, name: str) -> dict[str, str]:
    """The side of each source item by its name, those rejected later and set aside among them."""
    record = dataset_record(workspace, version)
    found = ledger.read(workspace.vault(name, by="test"), record.split.ledger)
    rows = [(identity, str(side)) for kind, identity, _, side, *_ in found.lines() if kind == ledger.ITEM]
    side = dict(rows) | {i: s for i, s in rows if s == ASIDE}  # an edited item has a row for what it was
    return {origin.name: side[identity] for identity, origin in found.origins.items()}


def test_every_form_of_a_secret_is_found() -> None:
    generator = random.Random(1)
    secret, wanted = b"TEXT-1a2b3c4d-007", Wanted()
    wanted.add("it", secret)
    for form, name in wanted.forms.items():
        for before in range(9):
            around = generator.randbytes(before), generator.randbytes(50)
            assert ("here", name) in wanted.seen({"here": form.join(around)}), name
        assert wanted.seen({"here": form[:-1]}) == []
    for before in range(6):
        coded = base64.b64encode(generator.randbytes(before) + secret + generator.randbytes(7))
        assert wanted.seen({"here": coded}), before


def test_text_path_and_label_of_a_test_item_stay_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through failing steps, rejections, items set aside, labels that disagree, analysis and reproduction."""
    classes = [f"LABEL-{TOKEN}-{i:03d}" for i in range(COUNT)]
    toy = make_toy(
        tmp_path / "words",
        monkeypatch,
        tmp_path / "keyring",
        yaml=WORDS.replace("CLASSES", ", ".join(classes)),
        files={"data/steps.py": BODY + CLEAN, "check.sh": CHECK},
    )
    names = [f"PATH-{TOKEN}-{i:03d}.txt" for i in range(COUNT)]
    texts = [f"TEXT-{TOKEN}-{i:03d} and more of it\n" for i in range(COUNT)]
    for name, text in zip(names, texts, strict=True):
        toy.write(f"incoming/{name}", text)
    toy.write("labels.csv", "file,label\n" + "".join(f"{n},{c}\n" for n, c in zip(names, classes, strict=True)))
    told = failing(toy)
    workspace = toy.become(DATA)
    first = versions.make(workspace, "words")
    toy.approve(DATA, "data")
    side = sides(workspace, first, "words")
    tested = [i for i, name in enumerate(names) if side[name] == TEST]
    trained = [i for i, name in enumerate(names) if side[name] == TRAIN]
    assert 4 < len(tested) < 25
    # an item that becomes equal to one of the other side is set aside, whichever side it was on
    toy.write(f"incoming/{names[trained[0]]}", texts[tested[0]])
    toy.write(f"incoming/{names[tested[1]]}", texts[trained[1]])
    told += typed(toy, "data", "run", code=0) + typed(toy, "data", "run", code=0)
    workspace = toy.become(DATA)
    second, _ = labels.current(workspace, "words")
    assert second != first and {n for n, s in sides(workspace, second, "words").items() if s == ASIDE} == {
        names[trained[0]],
        names[tested[1]],
    }
    toy.approve(DATA, "data")
    workspace = toy.become(REVIEW)
    known = labels.sides(workspace, dataset_record(workspace, second))
    labels.record(workspace, "words", {i: classes[0] for i, s in known.items() if s == TEST})
    labels.release(workspace, "words")
    for form in FORMS:
        write_all(workspace, form=form)
    assert all(same.identical for same in reproduce_data(workspace, second))
    Git(toy.root).run("gc", "--quiet", env={**os.environ, "GIT_OPTIONAL_LOCKS": "1"})
    places = everything(toy) | {"what a person was told": told.encode()}
    assert_control(places, texts[trained[5]].encode())
    wanted = Wanted()
    for i in tested:
        wanted.add(f"text {i}", texts[i][:17].encode())
        wanted.add(f"path {i}", names[i].encode())
        for content in (texts[i], texts[i].strip(), f"0\0{names[i]}", f"{names[i]},{classes[i]}", classes[i]):
            wanted.add_hashes(f"hash of {content!r}", content.encode())
    assert wanted.seen(places) == []
    # a class is public, which item has it is not: where a class of a test item stands, all of them stand
    for where, data in places.items():
        if any(classes[i].encode() in data for i in tested):
            assert all(c.encode() in data for c in classes), where


def failing(toy: Toy) -> str:
    """Everything that a person is told by pipelines that fail with an item in the message."""
    told = []
    for what, (path, text) in FAILING.items():
        before = (toy.root / path).read_text()
        toy.write(path, text)
        with pytest.raises(JobFailed) as caught:
            versions.make(toy.become(DATA), "words")
        told += [f"{what}: {caught.value}\n{caught.value!r}", typed(toy, "data", "run", code=1)]
        toy.write(path, before)
    assert re.search(r"data/steps.py:\d+: KeyError\n  cdl data logs s:", told[0]), told[0]
    return "\n".join(told)


def typed(toy: Toy, *arguments: str, code: int) -> str:
    """What a command says to whoever typed it."""
    done = subprocess.run([str(CDL), *arguments], cwd=toy.root, capture_output=True, text=True, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def assert_control(places: dict[str, bytes], text: bytes) -> None:
    """What is not sealed is found: the search looks where it should."""
    control = Wanted()
    control.add("a training item", text[:17])
    assert any("/.cdl/store/objects/" in where for where, _ in control.seen(places))


NOSY = (
    SIDE
    + '''

def look(context):
    """Everything that a training could find an item in."""
    import os, pathlib, sys
    found = repr(vars(context)) + repr(dict(os.environ)) + repr(sys.argv)
    for folder in (".", "..", "incoming", "../incoming", os.path.expanduser("~")):
        for path in pathlib.Path(folder).rglob("*"):
            found += str(path)
            if path.is_file():
                found += path.read_bytes().decode("latin-1")
    for items in (context.training, context.validation):
        found += repr(items.inputs.tolist())
    print(found)
'''
).replace("    x, y = context.training", "    look(context)\n    x, y = context.training")


class Whole:
    """A project that went all the way: each row with a name and a note that nobody else has, trained by code that looks
    everywhere, deployed, asked 80 things (some equal to items of both sides), and its inputs drifted."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        lines = table(160).splitlines()
        self.rows = [
            f"{'NAME-' + TOKEN}-{i:03d},{r.partition(',')[2]},NOTE-{TOKEN}-{i:03d}" for i, r in enumerate(lines[1:])
        ]
        self.source = "\n".join([lines[0] + ",note", *self.rows]) + "\n"
        toy.data(self.source)
        self.model = toy.promote()
        package = toy.package()
        workspace = toy.become(OPS)
        head = DeploymentHead(package=package, manifest=workspace.store.put(b"{}"))
        workspace.registry.commit(heads=[("production", head)], command="deploy apply", line="a stage", branch="main")
        workspace = toy.become(DATA)
        self.dataset, self.labels = released(workspace, "points")
        tree = workspace.vault("points", by="test").tree(dataset_record(workspace, self.dataset).test)
        self.sealed = tree.contents()
        self.training = training(workspace, self.dataset, self.labels)
        self.asked = [
            json.dumps({"note": f"ASKED-{TOKEN}-{i:03d}", "x": f"{x:.3f}", "y": f"{y:.3f}"}, sort_keys=True).encode()
            for i, (x, y) in enumerate(draw(60, seed=3, shift=30))
        ]
        service = Service(toy)
        for half in (0, 1):
            known = [*self.sealed.values()][half * 5 : half * 5 + 5] + [*self.training.contents][
                half * 5 : half * 5 + 5
            ]
            ids = service.sent(known + self.asked[half * 30 : half * 30 + 30])
            service.told(ids[:5], "right")
        monitor(toy.become(OPS), "production")
        run(toy.become(OPS), CYCLE, None)
        for form in FORMS:
            assert len(write_all(toy.become(REVIEW), form=form)) > 4

    def notes(self, contents: "list[bytes]") -> set[str]:
        return {json.loads(content)["note"] for content in contents}

    def wanted(self, contents: "list[bytes]") -> Wanted:
        """What of some items must not be seen: note, name, row, and the hashes of each."""
        wanted, row_of = Wanted(), {row.rpartition(",")[2]: row for row in self.rows}
        for content in contents:
            note = json.loads(content)["note"]
            row = row_of.get(note, "")
            wanted.add(note, note.encode())
            wanted.add_hashes(f"content of {note}", content)
            if row:
                name = row.partition(",")[0]
                wanted.add(f"name of {note}", name.encode())
                for text in (row, f"0\0{name}", row + "\n"):
                    wanted.add_hashes(f"row of {note}", text.encode())
        return wanted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("whole")
        yaml = MONITORED.replace("count: 12", "count: 80")
        yield Whole(
            make_toy(root / "toy", patch, root / "keyring", roles=True, yaml=yaml, files={"model/side.py": NOSY})
        )


def test_nothing_of_a_test_item_or_a_request_is_seen_after_the_whole_way(whole: Whole) -> None:
    given, hidden = whole.notes([*whole.training.contents]), [*whole.sealed.values()]
    assert 20 < len(hidden) < 90 and len(given) + len(hidden) == 160 and not given & whole.notes(hidden)
    events = whole.toy.become(DATA).journal.events
    assert len(events("monitor.window")) == 2 and len(events("monitor.drift")) == 1 and events("model.revised")
    places = everything(whole.toy)
    assert_control(places, sorted(given)[0].encode())
    assert whole.wanted(hidden + whole.asked).seen(places) == []


def test_take_training_and_lineage_do_not_reach_a_test_item(whole: Whole) -> None:
    workspace = whole.toy.become(SCIENCE)
    given, hidden = whole.notes([*whole.training.contents]), whole.notes([*whole.sealed.values()])
    data = cdl.open(whole.toy.root).data["points"]
    assert whole.notes([*data.contents]) == given and not set(data.ids) & whole.sealed.keys()
    assert whole.notes([*data.take(range(len(given))).contents]) == given
    with pytest.raises(IndexError):
        data.take([len(given)])
    unknown = "0" * 32
    with pytest.raises(NotFound) as caught:
        start(workspace.registry, workspace.store, unknown)
    for item in whole.sealed:
        with pytest.raises(NotFound) as found:
            start(workspace.registry, workspace.store, item)
        assert str(found.value).replace(item, unknown) == str(caught.value)
    traced = repr(
        [
            lineage(workspace.registry, workspace.store, identity, down=down)
            for identity in (whole.model, whole.dataset, whole.labels, DATA, whole.training.ids[0])
            for down in (True, False)
        ]
    )
    assert not [i for i in whole.sealed if i in traced] and not [n for n in hidden if n in traced]


def test_what_was_asked_comes_back_through_collection_and_gets_the_side_of_its_equal(whole: Whole) -> None:
    """Changes the project: the last one that uses it."""
    workspace = whole.toy.become(DATA)
    request = workspace.journal.events("request.opened")[-1].fields["request"]
    (name,) = select.bring_back(workspace, request, "points")
    back = (whole.toy.root / "incoming" / name).read_text().splitlines()
    assert len(back) == 81 and whole.training.ids == training(workspace, whole.dataset, whole.labels).ids
    # the same again by hand, under other names
    known = {row.rpartition(",")[2]: row for row in whole.rows}
    hidden, given = whole.notes([*whole.sealed.values()]), whole.notes([*whole.training.contents])
    copies = [f"again-{note}" + known[note][known[note].index(",") :] for note in sorted(hidden | given)[:40]]
    whole.toy.write("incoming/copies.csv", "\n".join([whole.source.splitlines()[0], *copies]) + "\n")
    made = versions.make(workspace, "points", answers=request)
    workspace = whole.toy.become(DATA)
    side, record = sides(workspace, made, "points"), dataset_record(workspace, made)
    for line in copies:
        note = line.rpartition(",")[2]
        assert side[line.partition(",")[0]] == (TEST if note in hidden else TRAIN), line
    now = training(workspace, made, None)
    tree = workspace.vault("points", by="test").tree(record.test)
    sealed = [*tree.contents().values()]
    trained, tested = whole.notes([*now.contents]), whole.notes(sealed)
    assert hidden <= tested and given <= trained and not trained & tested
    assert len(now) + len(sealed) == 160 + 80 + 40 and {TRAIN, TEST} == set(side.values())
    asked = whole.notes(whole.asked)
    assert asked & tested and asked & trained and asked <= tested | trained
    assert whole.wanted(sealed).seen(everything(whole.toy)) == []


def test_without_the_key_a_model_is_trained_and_nothing_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.data(table(60))
    (tmp_path / "keyring").rename(tmp_path / "away")
    opened = len(toy.become(SCIENCE).journal.events("sealed.opened"))
    assert opened and toy.model("exp/without").startswith("m-")
    assert len(toy.become(SCIENCE).journal.events("sealed.opened")) == opened
