"""A step that joins another dataset by a key: what comes of it is what a plain dictionary gives, whatever was edited before."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cdl.config.load import parse
from cdl.cycle import CYCLE
from cdl.data import versions
from cdl.data.history.reproduce import reproduce_data
from cdl.data.pipeline import ledger
from cdl.data.pipeline.outcomes import claims
from cdl.data.pipeline.pending import pending
from cdl.errors import ConfigError, NotFound, Refused, Unavailable
from cdl.housekeeping.erase import erase, plan
from cdl.keys import Keyring
from cdl.registry.records import Dataset, DatasetHead, short
from cdl.store import table
from cdl.workflow.run import run
from tests.data.test_incremental import Worked, worked
from tests.projects import DATA, REVIEW, ROLES, Toy, make_toy

__all__ = ["worked"]
YAML = """\
cdl: 1
project: toy
data:
  scans:
    source: {path: scans.csv}
    items: {rows: {format: csv, id: id, text: note}}
    split: {test: 0.3}
    steps:
    - about: {join: patients, key: patient, matches: id}
  patients:
    source: {path: patients.csv}
    items: {rows: {format: csv, id: id}}
    split: {test: 0.3}
"""
SHOUT = '    - shout: {run: "data.steps:shout"}\n'
CODE = "def shout(content, fields):\n    return content + b' of ' + fields.get('age', '?').encode(), fields\n"
Scans = dict[str, tuple[str, str]]  # patient and note by id
Patients = dict[str, tuple[str, str]]  # age and site by id
SCANS: Scans = {f"s{n}": (f"p{n % 12}", f"scan {n}") for n in range(40)}
PATIENTS: Patients = {f"p{n}": (str(30 + n), "xy"[n % 2]) for n in range(12)}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Two tables whose trees have many pages."""
    monkeypatch.setattr(table, "PAGE_ROWS", 8)
    monkeypatch.setattr(table, "FEW_ROWS", 2)
    monkeypatch.setattr("cdl.data.sources.looked.TICK", 0)
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=YAML + ROLES)
    made.write(".gitignore", "*.csv\n.cdl/\n")
    made.write("data/steps.py", CODE)
    fill(made)
    return made


def fill(toy: Toy, scans: Scans = SCANS, patients: Patients = PATIENTS) -> None:
    """Makes the tables say this; one that says it is not touched."""
    told = {"scans.csv": ["id,patient,note", *(f"{i},{p},{note}" for i, (p, note) in scans.items())]}
    told["patients.csv"] = ["id,age,site", *(f"{i},{age},{site}" for i, (age, site) in patients.items())]
    for name, lines in told.items():
        text = "\n".join(lines) + "\n"
        if not (toy.root / name).exists() or (toy.root / name).read_text() != text:
            toy.write(name, text)


def declare(toy: Toy, old: str, new: str) -> None:
    """Changes cdl.yaml."""
    text = (toy.root / "cdl.yaml").read_text()
    assert old in text
    toy.write("cdl.yaml", text.replace(old, new))


def made(toy: Toy, name: str = "scans") -> Dataset:
    """The version that a run makes."""
    return toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), name))


def both(toy: Toy) -> Dataset:
    """A version of the patients, and then one of the scans."""
    made(toy, "patients")
    return made(toy)


def sides(toy: Toy, name: str, record: Dataset, stage: int = -1) -> dict[str, tuple[str, str, Mapping[str, Any]]]:
    """What a stage of a version holds by the name in the source: side, content, fields."""
    workspace = toy.become(DATA)
    vault = workspace.vault(name, by="test")
    origins, found = ledger.read(vault, record.split.ledger).origins, {}
    at = record.steps[stage]
    for side, tree in (("train", workspace.store.tree(at.train)), ("test", vault.tree(at.test))):
        for place, item in enumerate(tree.names):
            if not tree.erased(place):
                found[origins[item].name] = side, bytes(tree.view(place)).decode(), tree.meta(place)
    return found


def by_dictionary(toy: Toy, record: Dataset, scans: Scans, patients: Patients, missing: str) -> dict[str, Any]:
    """What a join is: a look into a dictionary, in which training items see training items alone."""
    version = record.lookups["about"].version
    theirs = sides(toy, "patients", toy.become(DATA).registry.record(Dataset, version))
    wanted = {}
    for scan, (side, _, _) in sides(toy, "scans", record, 0).items():
        patient, note = scans[scan]
        if patient in theirs and side in (theirs[patient][0], "test"):
            age, site = patients[patient]
            wanted[scan] = side, note, {"patient": patient, "age": age, "site": site}
        elif missing == "keep":
            wanted[scan] = side, note, {"patient": patient}
    return wanted


def edited(scans: Scans, patients: Patients, drawn: random.Random) -> None:
    """Some rows of one table or both are changed, removed, added, called otherwise, or have another key."""
    if drawn.random() < 0.7:
        for scan in drawn.sample(sorted(scans), 3):
            del scans[scan]
        scans[f"t{drawn.randrange(999)}"] = scans.pop(drawn.choice(sorted(scans)))
        for scan in [*drawn.sample(sorted(scans), 3), f"s{drawn.randrange(100, 999)}"]:
            scans[scan] = f"p{drawn.randrange(14)}", f"other {drawn.randrange(99)}"
    if drawn.random() < 0.7:
        del patients[drawn.choice(sorted(patients))]
        for patient in drawn.sample([f"p{n}" for n in range(14)], 2):
            patients[patient] = str(drawn.randrange(99)), drawn.choice("xy")


@pytest.mark.parametrize(("seed", "missing"), [(0, "aside"), (1, "aside"), (2, "keep")])
def test_any_edits_of_both_make_what_a_dictionary_gives(toy: Toy, seed: int, missing: str) -> None:
    drawn, scans, patients = random.Random(seed), dict(SCANS), dict(PATIENTS)
    declare(toy, "matches: id", f"matches: id, missing: {missing}")
    joined = dict(patients)
    for turn in range(6):
        fill(toy, scans, patients)
        if not turn or drawn.random() < 0.8:
            made(toy, "patients")
            joined = dict(patients)
        record = made(toy)
        wanted = by_dictionary(toy, record, scans, joined, missing)
        assert sides(toy, "scans", record) == wanted
        left = len(scans) - len(wanted) - record.split.set_aside["count"]
        assert record.rejected["reasons"] == ({"no item of patients has its key": left} if left else {})
        edited(scans, patients, drawn)


def test_only_items_whose_row_changed_are_worked_again(toy: Toy, worked: Worked) -> None:
    declare(toy, "matches: id}\n", "matches: id, missing: keep}\n" + SHOUT)
    first = both(toy)
    assert len(worked) == len(SCANS)
    worked.clear()
    assert made(toy) == first and worked == []
    changed = next(p for p, (side, _, _) in sides(toy, "patients", made(toy, "patients")).items() if side == "train")
    fill(toy, patients=PATIENTS | {changed: ("77", "x")})
    made(toy, "patients")
    assert pending(toy.become(DATA), "scans") and "a dataset that it joins" in toy.cdl(DATA, "data", "status", "scans")
    second = made(toy)
    mine = {scan: note for scan, (patient, note) in SCANS.items() if patient == changed}
    assert mine and sorted(content for _, content in worked) == sorted(note.encode() for note in mine.values())
    found = sides(toy, "scans", second)
    assert {scan: found[scan][1] for scan in mine} == {scan: f"{note} of 77" for scan, note in mine.items()}
    assert not pending(toy.become(DATA), "scans") and second.lookups != first.lookups
    shown = toy.cdl(DATA, "data", "show", "--of", "scans")
    assert f"joined in about: {short(second.lookups['about'].version)}" in shown


def test_a_version_is_made_again_with_what_it_joined(toy: Toy) -> None:
    both(toy)
    first = versions.make(toy.become(DATA), "scans")
    fill(toy, patients={p: ("1", "z") for p in PATIENTS})
    second_patients = versions.make(toy.become(DATA), "patients")
    second = versions.make(toy.become(DATA), "scans")
    assert toy.become(DATA).registry.record(Dataset, second).lookups["about"].version == second_patients
    for version in (first, second):
        told = {same.what: same.identical for same in reproduce_data(toy.become(DATA), version)}
        assert told == {"data, split": True, "data, train": True, "data, test": True}


def test_a_run_makes_what_is_joined_first(toy: Toy) -> None:
    with pytest.raises(NotFound, match="scans joins patients, which has no version") as raised:
        versions.make(toy.become(DATA), "scans")
    assert "cdl data run patients" in str(raised.value.remedy)
    done = [p.work.subject for p in run(toy.become(DATA), CYCLE, "data")]
    assert done == ["patients", "scans"]
    fill(toy, patients=PATIENTS | {"p0": ("99", "z")})
    assert [p.work.subject for p in run(toy.become(DATA), CYCLE, "data")] == ["patients", "scans"]
    assert run(toy.become(DATA), CYCLE, "data") == []


def test_the_open_side_holds_nothing_of_a_sealed_row(toy: Toy) -> None:
    fill(toy, patients={p: (f"<{p}>", "x") for p in PATIENTS})
    record = both(toy)
    sealed = {p for p, (side, _, _) in sides(toy, "patients", made(toy, "patients")).items() if side == "test"}
    assert sealed and sealed < PATIENTS.keys()
    stored = b"".join(p.read_bytes() for p in (toy.root / ".cdl" / "store").rglob("*") if p.is_file())
    assert {p for p in PATIENTS if f"<{p}>".encode() not in stored} == sealed
    seen = {fields["age"][1:-1] for side, _, fields in sides(toy, "scans", record).values() if side == "test"}
    assert seen & sealed and seen - sealed


@pytest.mark.parametrize(("first", "second"), [("train", "train"), ("train", "test"), ("test", "test")])
def test_a_key_twice_is_an_error_that_names_it_where_it_is_open(toy: Toy, first: str, second: str) -> None:
    declare(toy, "matches: id", "matches: age")
    theirs = sides(toy, "patients", made(toy, "patients"))
    one = next(p for p in theirs if theirs[p][0] == first)
    other = next(p for p in theirs if theirs[p][0] == second and p != one)
    fill(toy, patients=PATIENTS | {one: ("twice", "one"), other: ("twice", "other")})
    made(toy, "patients")
    with pytest.raises(ConfigError, match="two items of patients have") as raised:
        made(toy)
    assert raised.value.where == "cdl.yaml: data.scans.steps: about.matches"
    assert ("'twice'" in str(raised.value)) == (first == second == "train")
    assert not toy.become(DATA).registry.all(Dataset, "scans")


def test_files_that_stay_in_their_folder_stay_there_when_joined(toy: Toy) -> None:
    """The key is a field that a step before wrote."""
    declare(toy, "{path: scans.csv}", "{path: pictures, copy: false}")
    declare(toy, "{rows: {format: csv, id: id, text: note}}", '{files: "*.png"}')
    declare(toy, "    - about", '    - whose: {run: "data.steps:whose"}\n    - about')
    toy.write("data/steps.py", "def whose(content):\n    return content, {'patient': content.decode().split()[0]}\n")
    toy.write(".gitignore", "*.csv\n.cdl/\npictures/\n")
    for n in range(20):
        toy.write(f"pictures/{n}.png", f"p{n % 12} picture {n}")
    record = both(toy)
    scans = {f"{n}.png": (f"p{n % 12}", f"p{n % 12} picture {n}") for n in range(20)}
    assert sides(toy, "scans", record) == by_dictionary(toy, record, scans, PATIENTS, "aside")
    tree = toy.become(DATA).store.tree(record.train)
    assert len(tree) and tree.outside == {*tree.names}


def test_what_cannot_be_joined_is_named(toy: Toy) -> None:
    made(toy, "patients")
    declare(toy, "key: patient", "key: doctor")
    with pytest.raises(ConfigError, match="an item has no field 'doctor'") as raised:
        made(toy)
    assert raised.value.where == "cdl.yaml: data.scans.steps: about.key"
    declare(toy, "key: doctor, matches: id", "key: patient, matches: name")
    with pytest.raises(ConfigError, match="an item has no field 'name'") as raised:
        made(toy)
    assert raised.value.where == "cdl.yaml: data.scans.steps: about.matches"
    declare(toy, "matches: name", "matches: id")
    toy.write("patients.csv", "id,patient\np1,x\np2,y\np3,z\np4,v\n")
    made(toy, "patients")
    with pytest.raises(ConfigError, match="an item has a field 'patient', and what it joins too") as raised:
        made(toy)
    assert str(raised.value.remedy).startswith("prefix: patients_")
    declare(toy, "matches: id", "matches: id, prefix: their_")
    fields = [each for _, _, each in sides(toy, "scans", made(toy)).values()]
    assert fields and all(each.keys() == {"patient", "their_patient"} for each in fields)


def test_rows_join_rows_by_the_column_that_names_both(toy: Toy) -> None:
    """Numbers and text are one key, an empty one is nobody's, and masked fields stay where they are."""
    declare(toy, "patients, key: patient, matches: id", "patients, key: id")
    declare(
        toy, "    items: {rows: {format: csv, id: id}}", "    items: {rows: {format: jsonl, id: id}}\n    mask: [name]"
    )
    toy.write("patients.csv", '{"id": 1, "age": 7, "name": "x"}\n{"id": "b", "age": 8, "name": "y"}\n')
    declare(toy, "{path: patients.csv}", "{path: patients.csv, set: train}")
    toy.write("scans.csv", "id,patient,note\n1,,one\nb,,two\nc,,three\n")
    toy.commit(toy.become(DATA), "mask")
    toy.approve(REVIEW, "policy")
    record = both(toy)
    found = {name: fields for name, (_, _, fields) in sides(toy, "scans", record).items()}
    assert found == {"1": {"patient": "", "age": 7}, "b": {"patient": "", "age": 8}}
    assert record.rejected["reasons"] == {"no item of patients has its key": 1}
    declare(toy, "key: id", "key: patient, matches: id")
    assert made(toy).rejected["reasons"] == {"no item of patients has its key": 3}
    declare(toy, "mask: [name]", "mask: [age]")
    assert not pending(toy.become(DATA), "scans")  # not in force
    toy.commit(toy.become(DATA), "mask")
    toy.approve(REVIEW, "policy")
    assert pending(toy.become(DATA), "scans")
    told = {same.identical for same in reproduce_data(toy.become(DATA), versions.make(toy.become(DATA), "scans"))}
    assert told == {True}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("join: patient, key: patient", "no dataset 'patient'"),
        ("join: scans, key: patient", "joins in a circle: scans joins scans"),
        ("join: patients", "a join needs `key`"),
        ("join: patients, key: patient, retries: 2", "a join has no `retries`"),
        ("join: patients, key: patient, run: [cat]", "run and join exclude each other"),
        ("run: [cat], prefix: x", "only a join has `prefix`"),
        ("parameters: {}", "one is missing"),
    ],
)
def test_what_a_join_may_say(step: str, said: str) -> None:
    text = YAML.replace("join: patients, key: patient, matches: id", step)
    with pytest.raises(ConfigError) as raised:
        parse(text.encode(), where="cdl.yaml")
    assert raised.value.message == said and str(raised.value.where).startswith("cdl.yaml:")


def test_datasets_that_join_each_other_are_refused() -> None:
    text = YAML + "    steps: [{back: {join: scans, key: scan}}]\n"
    with pytest.raises(ConfigError, match="joins in a circle: scans joins patients joins scans") as raised:
        parse(text.encode(), where="cdl.yaml")
    assert raised.value.where == "cdl.yaml:8: data.scans.steps"
    parse(text.replace("key: scan}", "key: scan, off: true}").encode(), where="cdl.yaml")


@pytest.mark.parametrize("where", ["train", "test"])
def test_erasing_an_item_erases_what_joins_copied_from_it(toy: Toy, where: str) -> None:
    declare(toy, "matches: id}\n", "matches: id, missing: keep}\n" + SHOUT)
    fill(toy, patients={p: (f"<{p}>", "x") for p in PATIENTS})
    first = both(toy)
    theirs = sides(toy, "patients", made(toy, "patients"))
    before = sides(toy, "scans", first)
    joined = {scan: fields["patient"] for scan, (_, _, fields) in before.items() if "age" in fields}
    gone = next(p for p, (side, _, _) in theirs.items() if side == where and p in joined.values())
    mine = {scan for scan, patient in joined.items() if patient == gone}
    planned = plan(toy.become(DATA), "patients", gone)
    assert {k: len(v) for k, v in planned.copied.items()} == {"scans": len(mine)} and not planned.also
    assert planned.copies.keys() & {
        kept.tree for _, kept in claims(toy.become(DATA).store)
    }  # what steps keep for the next time
    assert {*planned.versions} == {i for i, _ in toy.become(DATA).registry.all(Dataset)}
    erase(toy.become(DATA), planned)
    assert not [
        p for p in (toy.root / ".cdl" / "store").rglob("*") if p.is_file() and f"<{gone}>".encode() in p.read_bytes()
    ]
    assert sides(toy, "scans", first) == {scan: each for scan, each in before.items() if scan not in mine}
    assert sides(toy, "scans", first, 0).keys() == SCANS.keys()  # what the scans are themselves stays
    why = {same.identical for same in reproduce_data(toy.become(DATA), planned.versions[0])}
    assert why == {None}
    wanted = before | {scan: (before[scan][0], f"{SCANS[scan][1]} of ?", {"patient": gone}) for scan in mine}
    assert sides(toy, "scans", made(toy)) == wanted  # as what told of it says: cdl data run
    fill(toy, patients={p: (f"<{p}>", "x") for p in PATIENTS if p != gone})
    assert sides(toy, "scans", both(toy)) == wanted


def test_what_others_have_too_stays_when_a_copy_goes(toy: Toy) -> None:
    """A step makes one content of many items: the rows of one patient's go, and nobody else's content."""
    declare(toy, "matches: id}\n", "matches: id, missing: keep}\n" + SHOUT)
    toy.write("data/steps.py", "def shout(content, fields):\n    return fields.get('site', '?').encode() * 20\n")
    first = both(toy)
    theirs = sides(toy, "patients", made(toy, "patients"))
    gone = next(p for p, (side, _, _) in theirs.items() if side == "train")
    before = sides(toy, "scans", first)
    erase(toy.become(DATA), plan(toy.become(DATA), "patients", gone))
    assert sides(toy, "scans", first) == {s: each for s, each in before.items() if SCANS[s][0] != gone}


def test_copies_of_copies_go_too(toy: Toy) -> None:
    """Scans join patients, which join sites."""
    steps = "    steps: [{place: {join: sites, key: site, matches: id}}]\n"
    sites = "  sites:\n    source: {path: sites.csv, set: train}\n    items: {rows: {format: csv, id: id}}\n"
    declare(toy, "{rows: {format: csv, id: id}}\n", "{rows: {format: csv, id: id}}\n" + steps)
    declare(toy, "roles:", sites + "roles:")
    Keyring().create("toy", "sites")
    toy.write("sites.csv", "id,city\nx,<here>\ny,<there>\n")
    made(toy, "sites")
    first = both(toy)
    before = sides(toy, "scans", first)
    assert {fields["city"] for _, _, fields in before.values()} == {"<here>", "<there>"}
    planned = plan(toy.become(DATA), "sites", "x")
    assert planned.copied.keys() == {"patients", "scans"}
    erase(toy.become(DATA), planned)
    left = {scan: each for scan, each in before.items() if each[2]["city"] == "<there>"}
    assert sides(toy, "scans", first) == left
    assert not [p for p in (toy.root / ".cdl" / "store").rglob("*") if p.is_file() and b"<here>" in p.read_bytes()]


def test_without_the_other_key_nothing_is_joined_made_again_or_erased(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(toy)
    version = versions.make(toy.become(DATA), "scans")
    backups = {name: Keyring().backup("toy", name) for name in ("scans", "patients")}
    for held, lacked in (("scans", "patients"), ("patients", "scans")):
        monkeypatch.setattr(toy, "_keyring", toy.root.parent / held)
        Keyring(toy.root.parent / held).restore(backups[held])
        (same,) = reproduce_data(toy.become(DATA), version)
        assert same.identical is None and f"you hold no key of {lacked}" in str(same.why)
        with pytest.raises(Unavailable, match=f"you hold no key of {lacked}"):
            plan(toy.become(DATA), lacked, "p1")
    with pytest.raises(Refused, match="scans joined patients, and you hold no key of scans"):
        plan(toy.become(DATA), "patients", "p1")
    fill(toy, SCANS | {"s99": ("p1", "new")})
    monkeypatch.setattr(toy, "_keyring", toy.root.parent / "scans")
    with pytest.raises(Unavailable, match="you hold no key of patients"):
        made(toy)


@pytest.mark.parametrize("moved", [False, True])
def test_a_merge_joins_steps_that_joined_the_same_version(toy: Toy, moved: bool) -> None:
    declare(toy, "{path: scans.csv}", "{path: tables}")
    toy.write(".gitignore", "*.csv\n.cdl/\ntables/\n")
    toy.commit(toy.become(DATA), "tables")
    table_of(toy, "a", 0)
    both(toy)
    git = toy.become(DATA).git
    git.run("branch", "theirs")
    table_of(toy, "b", 20)
    made(toy)
    git.run("switch", "--quiet", "theirs")
    (toy.root / "tables" / "b.csv").unlink()
    table_of(toy, "c", 40)
    patients = PATIENTS | ({"p0": ("99", "z")} if moved else {})
    fill(toy, patients=patients)
    both(toy)
    git.run("switch", "--quiet", "main")
    (toy.root / "tables" / "c.csv").unlink()
    table_of(toy, "b", 20)
    assert git.call("merge", "--no-edit", "theirs").returncode == 1
    toy.cdl(DATA, "data", "merge")
    git.run("commit", "--quiet", "--no-edit")
    head = toy.become(DATA).registry.head(DatasetHead, "scans")
    assert head is not None
    merged = toy.become(DATA).registry.record(Dataset, head.version)
    assert (len(merged.steps), merged.skipped) == ((1, ["about"]) if moved else (2, []))
    assert {same.identical for same in reproduce_data(toy.become(DATA), head.version)} == {True}
    record = made(toy) if moved else merged  # a run works what the merge left out
    scans = {f"s{n}": (f"p{n % 12}", f"scan {n}") for n in range(60)}
    assert sides(toy, "scans", record) == by_dictionary(toy, record, scans, patients, "aside")


def table_of(toy: Toy, name: str, start: int) -> None:
    """A table of 20 scans in a folder."""
    rows = "".join(f"s{n},p{n % 12},scan {n}\n" for n in range(start, start + 20))
    toy.write(f"tables/{name}.csv", "id,patient,note\n" + rows)
