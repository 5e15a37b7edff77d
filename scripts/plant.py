"""Faults for the demo: each spoils one thing on the way, from outside, and the demo must notice.

`chapter` says before which chapter's first command it happens; `happen` gets the demo's Stage.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Spoil = Callable[[Any], None]


@dataclass(frozen=True)
class Fault:
    """What is spoilt, and when."""

    chapter: str
    happen: Spoil


def _write(path: str, old: str, new: str, message: str = "spoilt") -> Spoil:
    """Changes committed source."""

    def happen(stage: Any) -> None:
        target: Path = stage.root / path
        text = target.read_text()
        assert old in text, f"{path} holds no {old!r}"
        target.write_text(text.replace(old, new))
        stage.run("data@example.org", "git", "commit", "--quiet", "--all", "--message", message)

    return happen


def _corrupt_store(stage: Any) -> None:
    """One byte of the largest object is flipped."""
    path = max(
        (p for p in (stage.root / ".cdl/store/objects").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def _author_approves(stage: Any) -> None:
    """The validator's role is given to the scientist behind the back of the policy: the same person decides."""
    real = stage.run

    def run(who: str, *command: str, **options: Any) -> str:
        if command[:2] == ("cdl", "approve") and who == "review@example.org":
            who = "science@example.org"
        return str(real(who, *command, **options))

    stage.run = run


def _kill_service(stage: Any) -> None:
    """Every process of the services is killed, again and again, as they come."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if b"cdl.deployment.supervisor" in line and str(stage.folder).encode() in line:
            os.kill(int(folder.name), signal.SIGKILL)


def _lost_key(stage: Any) -> None:
    """Nobody holds the key any more."""
    stage.keyring.unlink()


def _tampered_record(stage: Any) -> None:
    """A record in the registry is changed and committed."""
    path = next((stage.root / "registry/datasets/digits").glob("d-*.yaml"))
    path.write_text(path.read_text().replace("train: ", "train: 1", 1))
    stage.run("data@example.org", "git", "commit", "--quiet", "--all", "--message", "a small correction")


def _no_rows(stage: Any) -> None:
    """What the services note is thrown away."""
    for path in (stage.root / ".cdl/services").glob("*/scoring"):
        path.rename(path.with_name("lost"))
        path.write_text("in the way")


def _no_labels(stage: Any) -> None:
    """The labels that come with the later images name an unknown class."""
    real = stage.run

    def run(who: str, *command: str, **options: Any) -> str:
        said = str(real(who, *command, **options))
        if "make_data.py" in command and "later" in command:
            table = stage.root / "incoming/labels.csv"
            table.write_text(table.read_text().replace(",7\n", ",seven\n"))
        return said

    stage.run = run


FAULTS = {
    "author-approves": Fault("7", _author_approves),
    "broken-model": Fault(
        "4", _write("model/network.py", "nn.Linear(2 * width * 16, 10)", "nn.Linear(2 * width * 16, 9)")
    ),
    "useless-model": Fault("4", _write("model/network.py", "nn.Flatten(),", "nn.Flatten(), nn.Hardtanh(0, 1e-6),")),
    "wrong-hash": Fault("15", _corrupt_store),
    "service-gone": Fault("9", _kill_service),
    "lost-key": Fault("5", _lost_key),
    "tampered-record": Fault("15", _tampered_record),
    "scoring-lost": Fault("9", _no_rows),
    "bad-labels": Fault("10", _no_labels),
    "cleaning-fails": Fault("3", _write("data/clean.py", 'image.convert("L")', 'image.convert("nothing")')),
}
