"""Services that an init system keeps: the unit and the agent, by systemd's and Python's own readers, and their very command."""

import json
import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdl.deployment import apply, control, install, stages
from cdl.errors import Refused, Unavailable
from tests.deployment.test_killed import asking, until
from tests.deployment.test_load import workers_of
from tests.deployment.test_pipeline import ask, supervisors
from tests.projects import OPS, Toy, make_toy, table

STAGE = "production"
ODD = 'a b%h $HOME "c" \\d é'
SYSTEMCTL = """\
#!{python}
import os, sys
from pathlib import Path

home = Path({home!r})
with (home / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if (home / "down").exists():
    sys.exit("Failed to connect to bus: No medium found")
if sys.argv[2] == "restart":
    (home / "restart").touch()
    while (home / "restart").exists():
        os.sched_yield()
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("CDL_KEY", "a secret of the one who installs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    programs, systemd = tmp_path / "programs", tmp_path / "systemd"
    for folder in (programs, systemd):
        folder.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.format(python=sys.executable, home=str(systemd)))
    (programs / "systemctl").chmod(0o755)
    (systemd / "down").touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    root = tmp_path / ODD / "toy"
    root.parent.mkdir()
    made = make_toy(root, monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(120))
    made.promote()
    made.package()
    yield made
    place = root / ".cdl/services" / STAGE
    if control.running(place):
        control.stop(place)


def unescaped(word: str, *, variables: bool) -> str:
    """A quoted word of a unit as systemd reads it: quotes and backslashes, then specifiers, then variables."""
    found = re.sub(r"\\(.)", r"\1", word).replace("%%", "%")
    return re.sub(r"\$\$|\$\{?\w+\}?", lambda m: "$" if m[0] == "$$" else "", found) if variables else found


def verified(path: Path) -> list[str]:
    """What systemd has against a unit; of other units of this machine it speaks too."""
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not installed: the unit is not verified")
        return []
    around = os.environ | {"XDG_RUNTIME_DIR": "/tmp"}
    command = ["systemd-analyze", "verify", "--user", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, env=around)
    return [line for line in (said.stdout + said.stderr).splitlines() if path.name in line]


class Unit:
    """A unit file, as an init system of a few lines reads and runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = [line.partition("=") for line in path.read_text().splitlines() if "=" in line]

    def values(self, key: str) -> list[str]:
        return [value for name, _, value in self.lines if name == key]

    def words(self, key: str, *, variables: bool = False) -> list[str]:
        words = re.findall(r'"((?:[^"\\]|\\.)*)"', " ".join(self.values(key)))
        return [unescaped(word, variables=variables) for word in words]

    def run(self, notify: str = "") -> "subprocess.Popen[bytes]":
        """Its ExecStart as a child, in its folder and environment and nothing more."""
        (log,) = self.values("StandardError")
        around = dict(word.split("=", 1) for word in self.words("Environment")) | (
            {"NOTIFY_SOCKET": notify} if notify else {}
        )
        with open(log.removeprefix("append:").replace("%%", "%"), "ab") as out:
            (where,) = self.values("WorkingDirectory")
            command = self.words("ExecStart", variables=True)
            return subprocess.Popen(
                command, cwd=where.replace("%%", "%"), env=around, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )


def installed(toy: Toy) -> Unit:
    (path,) = (Path(os.environ["HOME"]) / ".config/systemd/user").iterdir()
    return Unit(path)


def kept(toy: Toy, *, not_pid: int = 0) -> dict[str, Any]:
    """The status of the service once an init system keeps it."""
    place = toy.root / ".cdl/services" / STAGE

    def look() -> bool:
        status = control.running(place)
        return status is not None and status["kept"] == "init" and status["pid"] != not_pid

    until(look)
    return control.ask(place, op="status")


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_a_unit_that_systemd_reads_brings_the_service_back_after_kills(toy: Toy) -> None:
    found = apply.apply(toy.become(OPS), STAGE, installed=True)
    assert found.running and found.port
    unit, place = installed(toy), toy.root / ".cdl/services" / STAGE
    said = "\n".join(toy.said)
    assert "systemd does not do it here (Failed to connect to bus: No medium found); type:" in said
    assert f"systemctl --user enable {unit.path.name}" in said and f"systemctl --user restart {unit.path.name}" in said
    text = unit.path.read_text()
    assert "secret" not in text and "CDL_KEY" not in text and "AWS" not in text
    assert unit.words("ExecStart", variables=True)[-1] == str(place)
    assert verified(unit.path) == []

    before = control.ask(place, op="status")
    with asking(found.port) as told:  # taken over from the one that the command started, and no request is lost
        process = unit.run()
        status = kept(toy)
        assert status["pid"] == process.pid and status["port"] == found.port
        until(lambda: supervisors(toy.root) == [process.pid])
        until(lambda: not {*before["workers"], *before["spares"]} & {*workers_of(place)})
    assert told.failures == [] and told.answered > 10
    for _ in range(2):  # as after a crash
        process.kill()
        process.wait()
        assert control.running(place) is None
        assert "nothing runs: cdl deploy apply production" in stages.status(toy.become(OPS), STAGE).line
        process = unit.run()
        status = kept(toy, not_pid=status["pid"])
        assert ask(found.port, 4.0)["category"] == "right"
    process.send_signal(signal.SIGTERM)  # as at the end of a session
    assert process.wait(60) == 0 and (place / "spec.json").exists()
    process = unit.run()
    kept(toy, not_pid=status["pid"])
    threading.Thread(target=process.wait).start()  # as whoever started it does
    apply.stop(toy.become(OPS), STAGE, uninstalled=True)
    assert process.wait(60) == 0 and not unit.path.exists()
    assert not (place / "spec.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_where_systemd_runs_it_is_told_and_keeps_what_a_command_started(toy: Toy, tmp_path: Path) -> None:
    home = tmp_path / "systemd"
    (home / "down").unlink()
    processes: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.02):
            if (home / "restart").exists():
                processes.append(installed(toy).run())
                kept(toy)
                (home / "restart").unlink()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        found = apply.apply(toy.become(OPS), STAGE, installed=True)
        assert found.running and kept(toy)["pid"] == processes[0].pid
        apply.apply(toy.become(OPS), STAGE, installed=True)  # nothing changes
        assert len(processes) == 1 and kept(toy)["pid"] == processes[0].pid
        processes[0].kill()
        processes[0].wait()
        apply.apply(toy.become(OPS), STAGE)  # it is handed over again
        assert kept(toy)["pid"] == processes[1].pid
        apply.stop(toy.become(OPS), STAGE)
        assert processes[1].wait(60) == 0
        again = installed(toy).run()  # at the next boot
        assert again.wait(60) == 0 and "nothing is to be served" in control.tail(toy.root / ".cdl/services" / STAGE)
        with pytest.raises(Exception, match="no service runs here"):
            apply.stop(toy.become(OPS), STAGE)
        apply.stop(toy.become(OPS), STAGE, uninstalled=True)
    finally:
        over.set()
        thread.join()
    name = install.init(toy.become(OPS), STAGE).file.name
    enable = ["--user daemon-reload", f"--user enable {name}"]
    start, end = [f"--user restart {name}"], [f"--user disable {name}", "--user daemon-reload"]
    assert (home / "calls").read_text().splitlines() == [*enable, *start, *enable, *start, *end]


MANAGER = Path("/usr/lib/systemd/systemd")
SPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def spaces() -> bool:
    """Whether a systemd of its own may be started here."""
    if not MANAGER.exists() or not shutil.which("unshare") or not shutil.which("systemctl"):
        return False
    return subprocess.run([*SPACES, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not spaces(), reason="no systemd, or no name spaces to run it in")
def test_a_real_systemd_keeps_it(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "programs/systemctl").unlink()
    toy.sign(OPS)
    command = [*SPACES, sys.executable, "-m", "tests.deployment.under_systemd", str(MANAGER), str(toy.root), STAGE]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    if "systemd runs" not in done.stdout:
        pytest.skip(f"systemd does not run in name spaces here: {done.stderr[-300:]}")
    assert done.returncode == 0 and done.stdout.endswith('"played"\n'), done.stdout + done.stderr[-4000:]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_a_program_whose_path_is_odd(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    program = toy.root.parents[1] / "a b%h $HOME é/python"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    monkeypatch.setattr(control, "SUPERVISOR", (str(program), *control.SUPERVISOR[1:]))
    made = install.init(toy.become(OPS), STAGE)
    made.file.parent.mkdir(parents=True)
    made.file.write_bytes(made.content)
    assert verified(made.file) == []
    for right, wrong in ((b"%%h", b"%h"), (b" $H", b" $$H"), (b"Type=notify", b"Type=no")):
        assert right in made.content
        made.file.write_bytes(made.content.replace(right, wrong))
        assert verified(made.file), wrong
    monkeypatch.setattr(control, "SUPERVISOR", (str(toy.root / "no python"), *control.SUPERVISOR[1:]))
    made.file.write_bytes(install.init(toy.become(OPS), STAGE).content)
    assert verified(made.file) == []


def test_an_agent_that_launchd_reads(toy: Toy) -> None:
    made = install.init(toy.become(OPS), STAGE, "darwin")
    content = plistlib.loads(made.content)
    place = toy.root / ".cdl/services" / STAGE
    assert content["ProgramArguments"] == [*control.SUPERVISOR, str(place)] and content["Label"] == made.file.stem
    assert content["KeepAlive"] == {"SuccessfulExit": False} and content["RunAtLoad"] is True
    assert "secret" not in json.dumps(content) and made.file.parent.name == "LaunchAgents"
    with pytest.raises(Unavailable, match="neither systemd nor launchd"):
        install.init(toy.become(OPS), STAGE, "win32")


def test_two_projects_of_one_name_have_units_of_their_own(toy: Toy, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "other")
    names = [install.init(t.become(OPS), STAGE).name for t in (toy, other)]
    files = [install.init(t.become(OPS), STAGE).file for t in (toy, other)]
    assert names == ["systemd", "systemd"] and files[0] != files[1]
    odd = toy.copy(tmp_path / "line\nbreak")
    with pytest.raises(Refused, match="control characters"):
        install.init(odd.become(OPS), STAGE)
