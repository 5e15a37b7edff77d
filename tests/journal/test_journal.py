import multiprocessing
import random
import shutil
from pathlib import Path

import pytest

from cdl.errors import ConfigError, Conflict, NotFound
from cdl.journal import stream
from cdl.journal.events import KINDS, head_event_id, record_event_id
from cdl.journal.journal import Journal

WHO = "a@example.org"


def fill(root: Path, number: int, events: int) -> None:
    journal = Journal(root)
    for i in range(events):
        journal.append("sealed.opened", who=WHO, tree=f"s:{number}", by="test", items=i)


def test_an_event_is_kept_in_order_and_found_by_prefix(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.append("project.initialized", who=WHO)
    second = journal.append("experiment.created", who=WHO, cause=first.id, name="x", commit="0")
    assert [e.id for e in journal.events()] == [first.id, second.id]
    assert (first.count, second.count, second.cause) == (1, 2, first.id)
    assert journal.event(second.id[:10]) == second
    assert journal.events("project.initialized") == [first]
    with pytest.raises(NotFound):
        journal.event("v-ffff")
    with pytest.raises(Conflict):
        journal.event("v-")


def test_one_fact_is_one_event(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    name = record_event_id("model.registered", "m-1")
    one = journal.append("model.registered", who=WHO, event_id=name, name="n", model="m-1")
    two = journal.append("model.registered", who="b@example.org", event_id=name, name="n", model="m-1")
    assert one == two and len(journal.events()) == 1


def test_ids_tell_facts_apart() -> None:
    assert record_event_id("a", "m-1") == record_event_id("a", "m-1") != record_event_id("a", "m-2")
    assert head_event_id("a", "p", None, "n", "w", 1) != head_event_id("a", "p", "o", "n", "w", 1)
    assert head_event_id("a", "p", None, "n", "w", 1) != head_event_id("a", "p", None, "n", "w", 2)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("no.such", {}), ("job.finished", {"job": "j"}), ("job.finished", {"job": "j", "seconds": "1"}),
     ("model.registered", {"name": "x" * 500, "model": "m"})],
)  # fmt: skip
def test_what_is_no_event_is_refused_and_nothing_written(tmp_path: Path, kind: str, fields: dict[str, object]) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ConfigError):
        journal.append_many([(kind, None, fields)], who=WHO)
    assert journal.events() == []


def test_the_index_deleted_is_rebuilt_row_by_row(tmp_path: Path) -> None:
    fill(tmp_path, 1, 20)
    before = Journal(tmp_path).index.rows()
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    assert Journal(tmp_path).index.rows() == before and len(before) == 20


def test_events_shuffled_and_doubled_give_the_same_rows(tmp_path: Path) -> None:
    fill(tmp_path / "a", 1, 30)
    events = Journal(tmp_path / "a").events()
    name = stream.own_stream(tmp_path / "a")
    shuffled = events * 2
    random.Random(1).shuffle(shuffled)
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "stream", tmp_path / "b" / "stream")
    with stream.writing(tmp_path / "b"):
        stream.append(tmp_path / "b", name, shuffled)
    assert Journal(tmp_path / "b").index.rows() == Journal(tmp_path / "a").index.rows()


def test_a_line_torn_by_a_kill_is_dropped_and_the_next_event_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("project.initialized", who=WHO)
    path = tmp_path / "journal" / stream.own_stream(tmp_path) / stream.name(1)
    with path.open("ab") as file:
        file.write(b'{"id":"v-half')
    again = Journal(tmp_path)
    assert len(again.events()) == 1
    again.append("project.initialized", who=WHO)
    assert [e.count for e in Journal(tmp_path).events()] == [1, 2]


def test_many_processes_append_and_all_is_there(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path, i, 15)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * 6
    events = Journal(tmp_path).events()
    assert len(events) == 90 and [e.count for e in events] == list(range(1, 91))


def test_following_sees_what_others_write(tmp_path: Path) -> None:
    Journal(tmp_path).append("project.initialized", who=WHO)
    follower = Journal(tmp_path).follow(since=0, idle=0.3)
    assert next(follower).kind == "project.initialized"
    Journal(tmp_path).append("experiment.created", who=WHO, name="x", commit="0")
    assert [e.kind for e in follower] == ["experiment.created"]


def test_every_kind_is_a_dotted_pair() -> None:
    assert all(kind.count(".") == 1 for kind in KINDS)


def test_an_index_that_is_no_database_is_rebuilt(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("project.initialized", who="a")
    rows = journal.index.rows()
    journal.index.close()
    for path in tmp_path.glob("index.sqlite-*"):
        path.unlink()
    (tmp_path / "index.sqlite").write_bytes(b"torn " * 2000)
    assert Journal(tmp_path).index.rows() == rows


def test_a_stream_whose_first_line_was_never_written_stops_nobody(tmp_path: Path) -> None:
    made = Journal(tmp_path).append("project.initialized", who=WHO)
    (tmp_path / "journal" / "c-0123456789abcdef").mkdir()
    (tmp_path / "index.sqlite").unlink()
    assert [e.id for e in Journal(tmp_path).events()] == [made.id]
