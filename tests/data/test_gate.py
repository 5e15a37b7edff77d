from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.data import versions
from cdl.errors import Refused
from cdl.registry.records import Decision, LabelsHead
from cdl.workflow.decide import decide, meant, waiting

from .test_versions import YAML, Again, again

__all__ = ["again"]


def ask(root: Path, requirement: str, again: Again) -> None:
    (root / "cdl.yaml").write_text(YAML.replace("    labels:", f"    require: [{requirement}]\n    labels:"))
    workspace = again()
    workspace.git.run("commit", "--quiet", "--all", "--message", "require")
    decide(workspace, CYCLE, "policy", meant(workspace, CYCLE, "policy").subject, "approve")


def test_a_new_version_waits_and_an_approval_ends_that(again: Again) -> None:
    workspace = again()
    assert waiting(workspace, CYCLE) == []
    made = versions.make(workspace, "words")
    opened = meant(workspace, CYCLE, None)
    assert (opened.gate, opened.subject) == ("data", made)
    decide(workspace, CYCLE, "data", made, "approve")
    assert waiting(again(), CYCLE) == [] and workspace.git.run("status", "--porcelain") == b""
    assert workspace.registry.head(LabelsHead, "words") is None


def test_what_require_asks_blocks_until_it_is_held(again: Again) -> None:
    ask(again().root, "items >= 41", again)
    workspace = again()
    made = versions.make(workspace, "words")
    with pytest.raises(Refused, match="items >= 41: 40"):
        decide(workspace, CYCLE, "data", made, "approve")
    (workspace.root / "incoming" / "more.txt").write_text("one more of them")
    made = versions.make(again(), "words")
    done = decide(again(), CYCLE, "data", made, "approve")
    assert done.decision.requirements == [{"require": "items >= 41", "value": 41, "held": True}]


def test_a_rejected_version_sends_back_to_collection_and_the_next_one_answers(again: Again) -> None:
    workspace = again()
    made = versions.make(workspace, "words")
    sent = decide(workspace, CYCLE, "data", made, "reject", because="too few")
    (workspace.root / "incoming" / "more.txt").write_text("one more of them")
    workspace = again()
    second = versions.make(workspace, "words", answers=sent.request)
    assert [o.subject for o in waiting(workspace, CYCLE)] == [second]
    assert len(workspace.registry.all(Decision)) == 2
    assert [e.fields["request"] for e in workspace.journal.events("request.answered")] == [sent.request]
