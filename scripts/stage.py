"""What every demo plays with: real `cdl` processes in a new folder, as somebody, and checks of what they did."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from plant import Fault

CDL = Path(sys.executable).with_name("cdl")
DATA, SCIENCE, REVIEW, OPS = (f"{name}@example.org" for name in ("data", "science", "review", "ops"))
ROLES = f"""\
roles:
  data_engineer: [{DATA}]
  data_labeler: [{DATA}]
  data_scientist: [{SCIENCE}]
  model_validator: [{REVIEW}]
  software_engineer: [{OPS}]
  devops: [{OPS}]
"""
SHOWN_LINES = 14  # of a long output
PROGRESS_SECONDS = 2.0
SHORT = 10  # characters that name a record


class Stage:
    """The folder that a demo plays in, and who is acting. `fault` may spoil something before a chapter."""

    def __init__(self, folder: Path, name: str, *, quick: bool, fault: Fault | None = None) -> None:
        self.folder = folder
        self.root = folder / name
        self.keyring = folder / "keyring"
        self.quick = quick
        self.fault = fault
        self.began = time.monotonic()

    def chapter(self, title: str) -> None:
        """A new chapter; a planted fault of this chapter happens here."""
        tell(f"\n{title}    [{time.monotonic() - self.began:.0f} s]")
        if self.fault and self.fault.chapter == title.partition(".")[0]:
            self.fault.happen(self)

    def run(
        self,
        who: str,
        *command: str,
        expect: int = 0,
        where: Path | None = None,
        given: str = "",
        show: str = "all",
    ) -> str:
        """Runs a command as somebody and stops the demo when it did not do what it should; what it printed.

        `show`: all; `progress` without what it prints at its end; `nothing` for what only checks.
        """
        program = [str(CDL), *command[1:]] if command[0] == "cdl" else list(command)
        typed = shlex.join("python" if part == sys.executable else part for part in command if part != "--json")
        if show != "nothing":
            tell(f"    {who} $ {typed}")
        process = subprocess.Popen(
            program,
            cwd=where or self.root,
            env=self._around(who),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        complained: list[str] = []
        watcher = threading.Thread(target=follow, args=(process.stderr, complained, show != "nothing"))
        watcher.start()
        assert process.stdin is not None and process.stdout is not None
        feeder = threading.Thread(target=feed, args=(process.stdin, given))
        feeder.start()
        said = process.stdout.read()
        for thread in (watcher, feeder):
            thread.join()
        process.stdout.close()
        if show == "all":
            tell_some(said)
        code = process.wait()
        need(code == expect, f"{typed}: exit code {code}, expected {expect}: {''.join(complained)[-800:]}")
        return said

    def _around(self, who: str) -> dict[str, str]:
        """The environment of a person; the scientist and the client hold no key."""
        around = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "CDL_"))}
        for role in ("AUTHOR", "COMMITTER"):
            around |= {f"GIT_{role}_NAME": who.partition("@")[0], f"GIT_{role}_EMAIL": who}
        keyring = self.keyring if who in (DATA, REVIEW, OPS) else self.folder / "no-keys"
        return around | {"CDL_KEYRING": str(keyring), "GIT_CONFIG_GLOBAL": os.devnull}

    def act(self, who: str, *command: str) -> Any:
        """The JSON of a command that does something."""
        return json.loads(self.run(who, *command, "--json", show="progress"))

    def asked(self, who: str, *command: str) -> Any:
        """The JSON of a command that only tells: a check of the demo's own, not part of its story."""
        return json.loads(self.run(who, *command, "--json", show="nothing"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        found: list[dict[str, Any]] = self.asked(REVIEW, "cdl", "events", "--kind", kind)
        return found

    def ask(self, url: str, count: int, *options: str) -> dict[str, Any]:
        """Sends requests to a service by the example's own client; what came back."""
        out = self.run("client", sys.executable, "ask.py", "--url", url, "--count", str(count), *options)
        found: dict[str, Any] = json.loads(out)
        return found

    def promoted(self) -> str:
        """The promoted model."""
        found = [e["fields"]["model"] for e in self.events("model.promoted")]
        return str(found[-1]) if found else ""

    def deploy(self, *, staging: bool) -> str:
        """Compression, revision, package, and a service; where it answers."""
        before = len(self.events("model.revised"))
        self.run(OPS, "cdl", "run", "deployment", "--yes")
        need(len(self.events("model.revised")) == before + 1, "the small model is compared with its original")
        self.run(REVIEW, "cdl", "approve")
        self.run(OPS, "cdl", "run", "deployment", "--yes")
        if staging:
            self.run(OPS, "cdl", "deploy", "apply", "staging")
        url = str(self.act(OPS, "cdl", "deploy", "apply", "production")["url"])
        tell(f"      production answers at {url}")
        return url

    def reproduced(self, parts: set[str]) -> None:
        """Everything is made again, and is identical."""
        found = self.act(OPS, "cdl", "reproduce", "HEAD")
        for line in found:
            tell(f"      {line['what']:<14} {line['name'][:12]}  {'identical' if line['identical'] else 'DIFFERENT'}")
        need({f["what"] for f in found} >= parts, "all is made again")
        need(all(f["identical"] is True for f in found), "everything is identical")


def feed(stream: IO[str], given: str) -> None:
    """Types what a command is to read."""
    with contextlib.suppress(BrokenPipeError), stream:
        stream.write(given)


def follow(stream: IO[str], kept: list[str], show: bool) -> None:
    """Tells a command's progress while it runs; of the lines that trials report, one every two seconds and the last."""
    last = 0.0
    hidden = ""
    with stream:
        for line in stream:
            kept.append(line)
            if not show:
                continue
            repeated = " epoch " in line
            if repeated and time.monotonic() - last < PROGRESS_SECONDS:
                hidden = line
                continue
            if hidden and not repeated:
                tell(f"      {hidden.rstrip()}")
            tell(f"      {line.rstrip()}")
            last, hidden = (time.monotonic() if repeated else last), ""
    if hidden:
        tell(f"      {hidden.rstrip()}")


def tell_some(text: str) -> None:
    """What a command printed; of a long output its two ends."""
    lines = text.rstrip().splitlines()
    half = SHOWN_LINES // 2
    if len(lines) > SHOWN_LINES:
        lines = [*lines[:half], f"... {len(lines) - 2 * half} lines", *lines[-half:]]
    for line in lines:
        tell(f"      {line}")


def tell(text: str) -> None:
    """A line of the story."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def need(true: bool, what: str) -> None:
    """Ends the demo with exit code 1 when something did not happen."""
    if not true:
        tell(f"DID NOT HAPPEN: {what}")
        raise SystemExit(1)


@contextlib.contextmanager
def somewhere(keep: Path | None) -> Iterator[Path]:
    """A folder to play in, removed afterwards unless it is to be kept."""
    folder = keep or Path(tempfile.mkdtemp(prefix="cdl-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if keep is None:
            shutil.rmtree(folder)


def stop(stage: Stage) -> None:
    """Ends the services of a demo."""
    for name in ("staging", "production"):
        if (stage.root / ".cdl/services" / name / "control").exists():
            with contextlib.suppress(SystemExit):
                stage.run(OPS, "cdl", "deploy", "stop", name)


def perform(stage: Stage, *acts: Callable[[Stage], None]) -> None:
    """Plays act after act, and ends the services whatever happens."""
    try:
        for act in acts:
            act(stage)
        tell(f"\nall of it happened, in {time.monotonic() - stage.began:.0f} s")
    finally:
        stop(stage)
