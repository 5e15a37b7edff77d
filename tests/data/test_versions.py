import base64
import hashlib
import os
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from click.testing import CliRunner

from cdl.cli.main import cli
from cdl.config.load import load
from cdl.data import versions
from cdl.data.history.reproduce import reproduce_data
from cdl.data.pipeline import pending
from cdl.data.pipeline.ledger import read
from cdl.data.pipeline.work import rejections
from cdl.errors import ConfigError, JobFailed, Unavailable
from cdl.git.repository import Git
from cdl.keys import Keyring
from cdl.project import open_workspace
from cdl.registry.records import Dataset, encode
from cdl.sharing.trust import Trusted, note
from cdl.workflow import start
from cdl.workflow.workspace import Workspace

YAML = """\
cdl: 1
project: words
data:
  words:
    source: {path: incoming}
    items: {files: "*.txt"}
    split: {test: 0.3, by: "data.clean:body"}
    steps:
    - clean: {run: "data.clean:strip"}
    - validate: {run: "data.clean:long_enough"}
    labels: {classes: [a, b]}
"""
CODE = """
from cdl.data.reject import Reject

def body(content):
    return content.strip()

def strip(content, fields):
    print("working", content)
    return content.strip(), {"length": len(content)}

def long_enough(content, fields):
    if len(content) < 3:
        raise Reject("shorter than 3")
    return content
"""
CANARY = "CANARY-4711"
Again = Callable[[], Workspace]


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """A project with 40 items, opened anew at each call."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "keyring"))
    monkeypatch.delenv("CDL_KEY", raising=False)
    root = tmp_path / "project"
    laid = start.lay_out(root, name="words")
    (root / "cdl.yaml").write_text(YAML)
    (root / "data").mkdir()
    (root / "data" / "clean.py").write_text(CODE)
    (root / "incoming").mkdir()
    for i in range(40):
        (root / "incoming" / f"{CANARY}-name-{i}.txt").write_text(f"  {CANARY} content {i}\n")
    keyring = Keyring()
    keyring.create("words", "words", secret=bytes(range(32)))
    start.draw_keys(load(root), keyring)
    start.first_policy(open_workspace(root), (*laid.written, "data/clean.py"))
    return lambda: open_workspace(root)


def version(workspace: Workspace, identity: str) -> Dataset:
    record = workspace.registry.get(identity).record
    assert isinstance(record, Dataset)
    return record


def train(workspace: Workspace, dataset: Dataset) -> dict[str, bytes]:
    return workspace.store.tree(dataset.train).contents()


def test_a_version_holds_every_stage_and_leaves_the_work_tree_clean(again: Again) -> None:
    workspace = again()
    made = version(workspace, versions.make(workspace, "words"))
    assert [s.name for s in made.steps] == ["ingest", "clean", "validate"]
    assert sum(made.items.values()) == 40 and 4 <= made.items["test"] <= 20
    assert all(not data.startswith(b" ") for data in train(workspace, made).values())
    assert workspace.git.run("status", "--porcelain") == b""
    assert [e.fields["name"] for e in workspace.journal.events("dataset.versioned")] == ["words"]


def test_nothing_changed_makes_no_commit(again: Again) -> None:
    workspace = again()
    first = versions.make(workspace, "words")
    head = workspace.git.head()
    assert versions.make(again(), "words") == first and workspace.git.head() == head


def test_a_file_that_moved_to_another_folder_is_something_to_do(again: Again) -> None:
    folder = again().root / "incoming"
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "a" / "x.txt").write_text("of a, or of b")
    versions.make(again(), "words")
    assert not pending.pending(again(), "words")
    (folder / "a" / "x.txt").rename(folder / "b" / "x.txt")
    assert pending.pending(again(), "words")


def test_only_what_changed_is_worked_again(again: Again) -> None:
    workspace = again()
    first = version(workspace, versions.make(workspace, "words"))
    done = len(workspace.journal.events("job.finished"))
    (workspace.root / "incoming" / "new.txt").write_text(" another one ")
    (workspace.root / "incoming" / "short.txt").write_text(" x ")
    workspace = again()
    second = version(workspace, versions.make(workspace, "words"))
    assert sum(second.items.values()) == 41 and second.rejected["reasons"] == {"shorter than 3": 1}
    before, after = train(workspace, first), train(workspace, second)
    assert before.items() <= after.items()
    assert len(workspace.journal.events("job.finished")) - done == 3, "split, clean and validate, for the two new items"
    third = version(again(), versions.make(again(), "words"))
    assert third == second


def test_equal_work_in_another_clone_gives_the_equal_record(again: Again, tmp_path: Path) -> None:
    workspace = again()
    first = versions.make(workspace, "words")
    workspace.git.run("reset", "--quiet", "--hard", "HEAD~1")
    workspace.git.run("clone", "--quiet", str(workspace.root), str(tmp_path / "other"))
    note(Git(tmp_path / "other"), Trusted(code=True))
    (tmp_path / "other" / "incoming").symlink_to(workspace.root / "incoming")
    assert versions.make(open_workspace(tmp_path / "other"), "words") == first


def test_nothing_of_a_test_item_or_a_source_name_is_seen_anywhere(again: Again) -> None:
    workspace = again()
    made = version(workspace, versions.make(workspace, "words"))
    tested = [
        i for i in range(40) if not any(d == f"{CANARY} content {i}".encode() for d in train(workspace, made).values())
    ]
    assert len(tested) == made.items["test"]
    everything = b""
    for folder in (workspace.root / ".cdl", workspace.root / ".git"):
        everything += b"".join(p.read_bytes() + p.name.encode() for p in folder.rglob("*") if p.is_file())
    blobs = workspace.git.run("cat-file", "--batch-all-objects", "--batch")
    for i in range(40):
        assert f"{CANARY}-name-{i}".encode() not in everything + blobs
    for i in tested:
        text = f"{CANARY} content {i}"
        for data in (f"  {text}\n".encode(), text.encode()):
            traces = [
                blake3(data).hexdigest().encode(),
                hashlib.sha256(data).hexdigest().encode(),
                base64.b64encode(data),
            ]
            assert not any(t in everything + blobs for t in traces), i
        assert f"{text}\n".encode() not in everything + blobs
        assert not any(line == text.encode() for line in everything.splitlines())


def test_without_the_key_nothing_is_made(again: Again, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "empty"))
    workspace = again()
    with pytest.raises(Unavailable, match="no key of words"):
        versions.make(workspace, "words")


def test_a_step_that_fails_is_named_without_its_item_and_nothing_is_lost(again: Again) -> None:
    workspace = again()
    first = versions.make(workspace, "words")
    code = workspace.root / "data" / "clean.py"
    code.write_text(CODE.replace("return content.strip(), ", "raise ValueError(content)\n    return content.strip(), "))
    with pytest.raises(JobFailed) as caught:
        versions.make(again(), "words")
    assert caught.value.where == "data/clean.py:9" and CANARY not in str(caught.value)
    code.write_text(CODE)
    assert versions.make(again(), "words") == first


def test_a_module_that_is_missing_is_named(again: Again) -> None:
    root = again().root
    (root / "cdl.yaml").write_text(YAML.replace("data.clean:strip", "data.claen:strip"))
    with pytest.raises(ConfigError, match="no module 'data.claen'"):
        versions.make(again(), "words")


def test_a_command_may_be_a_step(again: Again) -> None:
    root = again().root
    command = '[sh, -c, "read x; case $x in *7) echo ends in seven >&2; exit 3;; esac; echo $x"]'
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', command))
    workspace = again()
    made = version(workspace, versions.make(workspace, "words"))
    assert made.rejected["reasons"] == {"ends in seven": 4} and sum(made.items.values()) == 36


def test_a_command_that_fails_tells_nothing_of_its_item(again: Again) -> None:
    root = again().root
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', '[sh, -c, "cat >&2; exit 1"]'))
    with pytest.raises(JobFailed) as caught:
        versions.make(again(), "words")
    assert CANARY not in f"{caught.value}" and "exit code that means an error" in caught.value.message
    log = (caught.value.remedy or "").rpartition(" ")[2]
    assert CANARY in again().vault("words", by="data").get(log).decode()  # who holds the key can read it


def test_a_program_that_is_not_here_is_named(again: Again) -> None:
    root = again().root
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', "[no-such-program, x]"))
    with pytest.raises(ConfigError, match="no program 'no-such-program' here") as caught:
        versions.make(again(), "words")
    assert caught.value.where == "cdl.yaml: data.words.steps: clean"


def test_a_program_of_the_project_runs_in_a_folder_with_itself_only(again: Again) -> None:
    root = again().root
    (root / "data/clean.sh").write_text("#!/bin/sh\nread -r x && ls data && echo $x\n")
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', "[./data/clean.sh]"))
    workspace = again()
    made = version(workspace, versions.make(workspace, "words"))
    first = next(iter(workspace.store.tree(made.steps[1].train).contents().values()))
    assert first.decode().startswith(f"clean.sh\n{CANARY}")


def test_files_that_do_not_fit_are_rejected_where_cdl_yaml_says_so(again: Again) -> None:
    root = again().root
    (root / "incoming/read me.TXT").write_text(f"{CANARY} about this")
    first = version(again(), versions.make(again(), "words"))
    assert first.rejected == {"reasons": {}, "tree": None}  # ignored
    (root / "cdl.yaml").write_text(YAML.replace('{files: "*.txt"}', '{files: "*.txt", others: rejected}'))
    workspace = again()
    identity = versions.make(workspace, "words")
    made = version(workspace, identity)
    assert made.rejected["reasons"] == {"not *.txt": 1} and made.items == first.items
    vault = workspace.vault("words", by="test")
    [(item, (step, reason))] = rejections(vault, made).items()
    assert (step, reason) == ("collect", "not *.txt")
    assert read(vault, made.split.ledger).origins[item].name == "read me.TXT"
    assert all(same.identical for same in reproduce_data(workspace, identity))
    assert versions.make(again(), "words") == identity  # nothing changed


def test_other_files_than_those_of_a_pattern_there_are_not(again: Again) -> None:
    rows = "rows: {format: csv, id: id}, others: rejected"
    (again().root / "cdl.yaml").write_text(YAML.replace('files: "*.txt"', rows))
    with pytest.raises(ConfigError, match="a table has no other files"):
        again()


def test_a_file_that_a_person_has_to_fetch_says_where(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    root = again().root
    declared = "{path: incoming/words.zip, get: ask Lena for it}"
    (root / "cdl.yaml").write_text(YAML.replace("{path: incoming}", declared))
    with pytest.raises(ConfigError, match="incoming/words.zip: there is no such file") as caught:
        versions.make(again(), "words")
    assert caught.value.remedy == "put it there: ask Lena for it"
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError, match="ask Lena for it"):
        CliRunner().invoke(cli, ["run", "data"], catch_exceptions=False, standalone_mode=False)
    said = CliRunner().invoke(cli, ["run"], catch_exceptions=False, standalone_mode=False).stdout
    assert said.startswith("nothing to do\nincoming/words.zip: there is no such file")
    with zipfile.ZipFile(root / "incoming/words.zip", "w") as pack:
        for path in sorted((root / "incoming").glob("*.txt")):
            pack.write(path, path.name)
    made = version(again(), versions.make(again(), "words"))
    assert sum(made.items.values()) == 40 and "get" not in encode(made)[2].decode()


@pytest.mark.parametrize("field", ["float('nan')", "b'bytes'", "'\\udcff'"])
def test_a_field_that_no_record_can_hold_is_the_step_s_error(again: Again, field: str) -> None:
    root = again().root
    path = root / "data/clean.py"
    path.write_text(path.read_text().replace('"length": len(content)', f'"length": {field}'))
    with pytest.raises(JobFailed) as caught:
        versions.make(again(), "words")
    assert "data logs" in (caught.value.remedy or "")


def test_a_file_that_is_an_item_lies_once_and_a_version_adds_what_is_new(again: Again) -> None:
    root = again().root
    (root / "cdl.yaml").write_text(
        YAML.replace(', by: "data.clean:body"', "").partition("    steps:")[0] + "    labels: {classes: [a]}\n"
    )
    for i in range(300):
        (root / "incoming" / f"large-{i:03d}.txt").write_bytes(random.Random(i).randbytes(5_000))
    workspace = again()
    first = version(workspace, versions.make(workspace, "words"))
    store = workspace.store
    held = {name: store.size(name) for name in store.names()}
    assert sum(held.values()) < 1.15 * 300 * 5_000, "raw files, and once more as items"
    raw = workspace.vault("words", by="data").tree(first.sources[0].raw)
    files = {p.name: p.read_bytes() for p in (root / "incoming").iterdir()}
    assert raw.contents() == files
    open_packs = {need for need in raw.rows.needs if not need.startswith("s:")}
    assert open_packs == {*store.tree(first.train).rows.needs}
    (root / "incoming" / "one-more.txt").write_bytes(random.Random(999).randbytes(5_000))
    workspace = again()
    second = version(workspace, versions.make(workspace, "words"))
    new = {name: store.size(name) for name in store.names() if name not in held}
    assert sum(second.items.values()) == 341 and sum(new.values()) < 120_000, new
    assert workspace.vault("words", by="data").tree(second.sources[0].raw).contents() == files | {
        "one-more.txt": random.Random(999).randbytes(5_000)
    }
    assert [same.identical for same in reproduce_data(workspace, encode(second)[0])] == [True] * 3


def finished(workspace: Workspace) -> int:
    return len(workspace.journal.events("job.finished"))


def test_parameters_are_part_of_a_step_s_work_and_patience_is_not(again: Again) -> None:
    root = again().root
    (root / "data/clean.py").write_text(CODE + "def cut(content, width):\n    return content.strip()[:width]\n")

    def made(options: str) -> tuple[Dataset, int]:
        (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', f'"data.clean:cut", {options}'))
        workspace = again()
        before = finished(workspace)
        return version(workspace, versions.make(workspace, "words")), finished(workspace) - before

    first, jobs = made("parameters: {width: 6}")
    assert jobs == 3 and set(train(again(), first).values()) == {CANARY[:6].encode()}
    patient = "retries: 2, timeout: 60, on_error: aside, resources: {cpus: 1}"
    assert made(f"parameters: {{width: 6}}, {patient}") == (first, 0)
    second, jobs = made("parameters: {width: 7}")
    assert jobs == 3 and set(train(again(), second).values()) == {CANARY[:7].encode()}


def test_items_that_fail_are_set_aside_sealed_and_tried_again(again: Again) -> None:
    workspace = again()
    root = workspace.root
    failing = CODE.replace(
        "return content.strip(), ",
        'if b"7\\n" in content:\n        raise KeyError(content)\n    return content.strip(), ',
    )
    (root / "data/clean.py").write_text(failing)
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', '"data.clean:strip", on_error: aside'))
    said: list[str] = []
    workspace = open_workspace(root, tell=said.append)
    identity = versions.make(workspace, "words")
    made = version(workspace, identity)
    assert sum(made.items.values()) == 36 and sum(made.rejected["reasons"].values()) == 4
    assert set(made.rejected["reasons"]) <= {"failed: KeyError", versions.UNSAID}
    vault = workspace.vault("words", by="data")
    kept = rejections(vault, made)
    assert set(kept.values()) == {("clean", "failed: KeyError")} and len(kept) == 4
    [line] = [line for line in said if "cdl data logs" in line]
    assert f"KeyError: b'  {CANARY} content 7".encode() in vault.get(line.split()[-1])
    sealed = [data for name, data in vault.tree(made.rejected["tree"] or "").contents().items() if name in kept]
    test = vault.tree(made.steps[0].test).contents()
    everything = b"".join(p.read_bytes() for p in (root / ".cdl").rglob("*") if p.is_file())
    assert sealed and not any(data in everything for data in sealed if data in test.values())
    before = finished(workspace)
    assert versions.make(again(), "words") == identity and finished(again()) - before == 2, "split, and the four again"


def test_a_step_over_all_items_never_sees_both_sets(again: Again) -> None:
    root = again().root
    count = "def count(items):\n    return [b'%d of %d' % (n, len(items)) for n, _ in enumerate(items)]\n"
    (root / "data/clean.py").write_text(CODE + count)
    (root / "cdl.yaml").write_text(YAML.replace('"data.clean:strip"', '"data.clean:count", per: all'))

    def made() -> tuple[str, Dataset]:
        workspace = again()
        identity = versions.make(workspace, "words")
        dataset = version(workspace, identity)
        test = workspace.vault("words", by="data").tree(dataset.test).contents()
        for contents, side in ((train(workspace, dataset), "train"), (test, "test")):
            count = dataset.items[side]
            assert sorted(contents.values()) == sorted(b"%d of %d" % (n, count) for n in range(count))
        return identity, dataset

    identity, first = made()
    done = finished(again())
    assert made() == (identity, first) and finished(again()) == done
    assert all(same.identical for same in reproduce_data(again(), identity))
    done = finished(again())
    (root / "incoming" / "new.txt").write_text("another one")
    _, second = made()
    assert sum(second.items.values()) == 41
    assert finished(again()) - done == 3, "the split, count over the set that has it, validate"
    (root / "incoming" / "new.txt").unlink()
    assert made()[1].items == first.items


def test_a_file_that_went_soon_after_it_came_is_missed(again: Again) -> None:
    new = again().root / "incoming" / "new.txt"
    first = version(again(), versions.make(again(), "words"))
    new.write_text("another one")
    os.utime(new, (soon := time.time() + 3600, soon))  # so that its times tell nothing, as just after it was written
    assert sum(version(again(), versions.make(again(), "words")).items.values()) == 41
    new.unlink()
    assert version(again(), versions.make(again(), "words")).items == first.items


def test_a_record_says_the_most_frequent_reasons_alone(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_REASONS", 3)
    workspace = again()
    each_its_own = "from cdl.data.reject import Reject\ndef own(content):\n    raise Reject(content.decode())\n"
    (workspace.root / "data/clean.py").write_text(CODE + each_its_own)
    (workspace.root / "cdl.yaml").write_text(YAML.replace("data.clean:strip", "data.clean:own"))
    workspace = again()
    reasons = version(workspace, versions.make(workspace, "words")).rejected["reasons"]
    assert sum(reasons.values()) == 40 and len(reasons) == 4 and {versions.UNSAID, versions.OTHERS} <= reasons.keys()
