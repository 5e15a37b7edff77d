"""Faults that were planted, and who names each: `cdl doctor`, `cdl store verify`, `cdl ci check`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from cdl.errors import CdlError, Conflict, Corrupt
from cdl.housekeeping.needed import missing
from cdl.journal import stream
from cdl.registry.records import Dataset, Decision, Model, Request, encode
from cdl.sharing import parcel
from cdl.store.table import Table
from tests.projects import DATA, REVIEW, SCIENCE, Toy
from tests.sharing.conftest import Team


def findings(toy: Toy, who: str, *options: str, wrong: int = 0) -> list[dict[str, str]]:
    """What the doctor finds that is a fault, by a real process; its exit code is 5 where there is one."""
    toy.sign(who)
    done = subprocess.run(
        [sys.executable, "-m", "cdl", "doctor", "--json", *options], cwd=toy.root, capture_output=True, check=False
    )
    found = json.loads(done.stdout)
    faults = [f for f in found["findings"] if f["fault"] and not f["mended"]]
    assert done.returncode == (5 if faults else 0) and found["wrong"] == len(faults), done.stderr
    assert all(f["where"] and f["what"] and f["remedy"] for f in faults), faults
    return faults


def only(toy: Toy, who: str, *options: str) -> dict[str, str]:
    """The only fault."""
    found = findings(toy, who, *options)
    assert len(found) == 1, found
    return found[0]


def test_where_nothing_is_wrong_nothing_is(shared: Team) -> None:
    for toy, who in ((shared.a, DATA), (shared.b, SCIENCE)):
        assert findings(toy, who) == [] == findings(toy, who, "--full")
    notes = shared.b.cdl(SCIENCE, "doctor")
    assert "note" in notes and "no key of points" in notes and not notes.startswith("wrong") and "\nwrong" not in notes


def test_a_flipped_bit_is_named_and_mended_from_the_shared_store(shared: Team) -> None:
    store = shared.b.become(SCIENCE).store
    place = store.path(shared.b.become(SCIENCE).registry.all(Model)[0][1].weights)
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.chmod(0o644)
    place.write_bytes(bytes(data))
    name = place.parent.name + place.name
    with pytest.raises(Corrupt, match="1 of .* objects are broken"):
        shared.b.cdl(SCIENCE, "store", "verify")
    assert name[:12] in only(shared.b, SCIENCE, "--full")["where"]
    assert findings(shared.b, SCIENCE, "--full", "--mend") == []
    assert not list(store.verify()) and findings(shared.b, SCIENCE, "--full") == []


def test_a_truncated_file_is_named_also_where_it_is_a_tree(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    tree = workspace.registry.all(Dataset)[0][1].train
    place = workspace.store.path(tree)
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[:-10])
    with pytest.raises(Corrupt, match="1 of .* objects are broken"):
        shared.b.cdl(SCIENCE, "store", "verify")
    assert tree[:12] in " ".join(f["where"] for f in findings(shared.b, SCIENCE))
    assert findings(shared.b, SCIENCE, "--mend") == []


def test_a_missing_object_is_named_with_what_needs_it(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    identity, model = workspace.registry.all(Model)[0]
    record = workspace.registry.all(Dataset)[0][1]
    item = Table(workspace.store, record.train).root["needs"][0]  # the pack that it lies in
    for name in (model.weights, item):
        workspace.store.path(name).unlink()
    found = findings(shared.b, SCIENCE)
    assert len(found) == 2 and identity[:10] in str(found) and f"tree {record.train[:12]}" in str(found)
    with pytest.raises(CdlError, match="not in the store"):
        workspace.store.get(item)
    assert findings(shared.b, SCIENCE, "--mend") == []
    assert workspace.store.get(item) and workspace.store.get(model.weights)


def test_a_lost_store_comes_back_at_once_and_what_is_alike_is_said_once(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    for name in list(workspace.store.names()):
        workspace.store.remove(name)
    with pytest.raises(Corrupt):
        shared.b.cdl(SCIENCE, "doctor")
    said = shared.b.cdl(SCIENCE, "doctor", "--mend")  # trees first, then what they name
    assert said.count("mended store:") == 5 and "more: cdl doctor --json" in said
    assert findings(shared.b, SCIENCE) == [] and not missing(workspace.clone)


@pytest.mark.parametrize("name", ["HEAD.lock", "index.lock", "refs/heads/main.lock", "packed-refs.lock"])
def test_a_lock_that_a_killed_git_left_is_named_once_it_is_old(shared: Team, name: str) -> None:
    lock = shared.a.root / ".git" / name
    lock.touch()
    assert findings(shared.a, DATA) == []  # some git works
    os.utime(lock, (0, 0))
    found = only(shared.a, DATA)
    assert found["where"] == str(lock) and "remove the file" in found["remedy"] and lock.exists()


def test_an_edited_record_is_named(shared: Team) -> None:
    path = next((shared.a.root / "registry/datasets/points").glob("d-*.yaml"))
    path.chmod(0o644)
    path.write_text(path.read_text().replace("train:", "train:  "))
    workspace = shared.a.become(DATA)
    workspace.git.run("commit", "--quiet", "--all", "--message", "edited")
    with pytest.raises(Corrupt, match="findings in the registry"):
        shared.a.cdl(DATA, "ci", "check")
    said = " ".join(f"{f['where']} {f['what']}" for f in findings(shared.a, DATA))
    assert path.name in said and "immutable record was changed" in said and "not the hash of the content" in said


def test_a_forged_decision_is_named(shared: Team) -> None:
    workspace = shared.a.become(DATA)
    before = next(d for _, d in workspace.registry.all(Decision) if d.gate == "data")
    made = msgspec.structs.replace(before.made, who="somebody@example.org")
    identity, path, data = encode(msgspec.structs.replace(before, made=made))
    (shared.a.root / path).write_bytes(data)
    workspace.git.run("add", path)
    workspace.git.run("commit", "--quiet", "--message", "decided")
    with pytest.raises(Corrupt, match="1 findings"):
        shared.a.cdl(DATA, "ci", "check")
    found = only(shared.a, DATA)
    assert identity in found["where"] and "somebody@example.org is no data_engineer" in found["what"]


@pytest.mark.parametrize("how", ["-s ours", "evil"])
def test_a_merge_that_drops_a_record_is_named(shared: Team, how: str) -> None:
    git = shared.a.become(DATA).git
    kept = git.text("ls-tree", "-r", "--name-only", "HEAD", "registry/labels/points/").split()
    old = git.text("log", "--format=%H", "--diff-filter=A", "-1", "--", *kept)
    git.run("switch", "--quiet", "-c", "side", f"{old}^")
    git.run("commit", "--quiet", "--allow-empty", "-m", "nothing")
    git.run("merge", "--quiet", "--no-commit", "--no-ff", *(["-s", "ours"] if how == "-s ours" else []), "main")
    if how == "evil":
        git.run("rm", "--quiet", "-r", "--cached", "-f", *kept)
    git.run("commit", "--quiet", "-m", "merge")
    git.run("branch", "--quiet", "--force", "main", "side")
    git.run("reset", "--quiet", "--hard")
    git.run("switch", "--quiet", "main")
    with pytest.raises(Corrupt):
        shared.a.cdl(REVIEW, "ci", "check")
    said = [f["what"] for f in findings(shared.a, REVIEW) if kept[0] in f["where"]]
    assert "an immutable record was removed" in said


def test_a_force_push_is_named_before_anything_follows_it(shared: Team) -> None:
    shared.b.become(SCIENCE)
    git = shared.a.become(DATA).git
    git.run("push", "--quiet", "--force", "origin", "main~1:main")
    found = only(shared.b, SCIENCE)
    assert found["where"] == "origin/main" and "rewritten" in found["what"] and "--accept main" in found["remedy"]


def test_records_of_the_same_short_id_are_told_apart(shared: Team) -> None:
    workspace = shared.a.become(DATA)
    made = next(d for _, d in workspace.registry.all(Decision) if d.gate == "data").made
    request = Request(to={"step": "collection", "role": "data_engineer"}, subject=None, made=made, because="0000000000")
    _, path, data = encode(request)
    seen: dict[str, bytes] = {}
    number = 0
    while True:
        number += 1
        now = data.replace(b"0000000000", b"%010d" % number)
        found = blake3(now).hexdigest()[:32]
        if found[:8] in seen:
            break
        seen[found[:8]] = now
    for each in (now, seen[found[:8]]):
        place = Path(path).parent / f"r-{blake3(each).hexdigest()[:32]}.yaml"
        (shared.a.root / place).parent.mkdir(exist_ok=True)
        (shared.a.root / place).write_bytes(each)
    workspace.git.run("add", "registry")
    workspace.git.run("commit", "--quiet", "--message", "two requests")
    with pytest.raises(Conflict, match="short for 2 records"):
        shared.a.cdl(DATA, "show", f"r-{found[:8]}")
    assert f"r-{found}" in shared.a.cdl(DATA, "show", f"r-{found}")
    assert findings(shared.a, DATA) == []
    shared.a.cdl(DATA, "ci", "check")


def test_a_twin_that_writes_the_same_stream_is_named(shared: Team, tmp_path: Path) -> None:
    twin = shared.b.copy(tmp_path / "twin")
    twin.become(SCIENCE).journal.append("project.initialized", who=SCIENCE)
    twin.cdl(SCIENCE, "sync")
    found = only(shared.b, SCIENCE)
    assert stream.own_stream(shared.b.root / ".cdl") in found["where"] and "another clone writes" in found["what"]
    shared.b.cdl(SCIENCE, "sync")
    assert findings(shared.b, SCIENCE) == []
    shared.b.become(SCIENCE).journal.append("project.initialized", who=SCIENCE)
    assert findings(shared.b, SCIENCE) == []


@pytest.mark.parametrize("which", ["first", "last"])
def test_an_edited_segment_is_named(shared: Team, which: str) -> None:
    folder = shared.b.root / ".cdl"
    other = next(s for s in stream.streams(folder) if s != stream.own_stream(folder))
    numbers = stream.segments(folder, other)
    place = stream.segment_path(folder, other, numbers[0] if which == "first" else numbers[-1])
    assert len(numbers) > 1
    place.write_text(place.read_text().replace("2026-", "2025-", 1).replace("2027-", "2025-", 1))
    found = only(shared.b, SCIENCE)
    assert other in found["where"] and ("follow" in found["what"] or "shared store holds" in found["what"])
    assert findings(shared.b, SCIENCE, "--mend") == [] == findings(shared.b, SCIENCE)


def test_a_parcel_that_lies_is_named(shared: Team) -> None:
    own = stream.own_stream(shared.b.root / ".cdl")
    last = stream.closed(shared.b.root / ".cdl", own)[-1]
    place = shared.store / parcel.remote_name(own, last)
    good = place.read_bytes()
    lie = msgspec.structs.replace(parcel.decode(good, "test"), objects=["ab" * 32])
    place.write_bytes(parcel.encode(lie))
    found = only(shared.a, DATA)
    assert "abababababab" in found["where"] and found["what"] == "it is not there"
    place.write_bytes(good[:-3])
    assert "not a parcel" in only(shared.a, DATA)["what"]
    place.write_bytes(good)
    named = parcel.decode(good, "test").objects[0]
    there = shared.store / "objects" / named[:2] / named[2:]
    there.write_bytes(there.read_bytes()[:-1])
    assert "bytes there and" in only(shared.b, SCIENCE)["what"]
    assert findings(shared.b, SCIENCE, "--mend") == [] == findings(shared.b, SCIENCE, "--full")


def test_an_index_that_says_otherwise_is_named_and_made_anew(shared: Team) -> None:
    workspace = shared.b.become(SCIENCE)
    workspace.journal.index._open().execute("DELETE FROM events WHERE kind = 'trial.finished'")
    workspace.journal.index.close()
    assert "index says otherwise" in only(shared.b, SCIENCE)["what"]
    assert findings(shared.b, SCIENCE, "--mend") == [] == findings(shared.b, SCIENCE)


def test_a_store_that_is_gone_or_anothers_is_named_and_the_rest_looked_at(shared: Team) -> None:
    marker = shared.store / "cdl.json"
    good = marker.read_text()
    marker.write_text(good.replace('"toy"', '"other"'))
    assert "project 'other'" in only(shared.b, SCIENCE)["what"]
    marker.write_text(good)
    shared.store.rename(shared.store.with_name("moved"))
    found = findings(shared.b, SCIENCE)
    assert found and all("not there" in f["what"] for f in found), found


def test_what_stands_around_the_project_is_looked_at(shared: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = shared.a.root.parent / "keys-a" / "keyring"
    keyring.chmod(0o644)
    (shared.a.root / ".cdl/services/staging").mkdir(parents=True)
    (shared.a.root / ".cdl/services/staging/control").touch()
    found = findings(shared.a, DATA)
    assert {f["area"] for f in found} == {"trust", "services"}
    assert findings(shared.a, DATA, "--mend") == [] == findings(shared.a, DATA)
    assert keyring.stat().st_mode & 0o777 == 0o600
    (shared.a.root / ".cdl/planted").touch()
    shared.a.become(DATA).git.run("add", "--force", ".cdl/planted")
    assert "git tracks" in only(shared.a, DATA)["what"]


def test_a_project_that_cannot_be_opened_is_looked_at_all_the_same(shared: Team) -> None:
    shared.a.write("cdl.yaml", "cdl: 1\nproject: [")
    found = findings(shared.a, DATA)
    assert any("cdl.yaml" in f["where"] for f in found)


def test_it_leaves_everything_as_it_was(shared: Team) -> None:
    def state(folder: Path) -> dict[str, bytes]:
        files = [p for p in folder.rglob("*") if p.is_file() and "index.sqlite" not in p.name]
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    before = state(shared.b.root), state(shared.store), os.listdir(shared.store)
    findings(shared.b, SCIENCE, "--full")
    assert (state(shared.b.root), state(shared.store), os.listdir(shared.store)) == before
