"""Played in name spaces of its own, with a systemd of its own: `cdl deploy apply --install` and what follows, by the real thing.

python under_systemd.py MANAGER PROJECT STAGE      ends with 0 and the line `played`, or raises
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdl.deployment import control
from tests.deployment.test_clients import BODY, HEAD, answers, connected
from tests.deployment.test_killed import asking
from tests.deployment.test_pipeline import ask

PATIENCE = 60.0  # seconds


def cdl(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "cdl", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout.strip()


def until(what: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def play(project: Path, stage: str) -> None:
    place = project / ".cdl/services" / stage
    said = cdl(project, "deploy", "apply", stage, "--install")
    assert "does not do it here" not in said, said
    unit = next(line.split()[-1] for line in said.splitlines() if line.startswith("install")).rpartition("/")[2]

    def kept(pid: int) -> bool:
        status = control.running(place)
        return status is not None and status["kept"] == "init" and status["pid"] != pid

    until(lambda: kept(0))
    status = control.ask(place, op="status")
    assert systemctl("is-active", unit) == "active" and systemctl("is-enabled", unit) == "enabled"
    assert systemctl("show", "--property=MainPID", "--value", unit) == str(status["pid"])
    for _ in range(2):
        with connected(status["port"], HEAD) as begun:
            time.sleep(0.3)
            os.kill(status["pid"], signal.SIGKILL)  # systemd brings it back, and what was begun is answered
            time.sleep(0.3)
            begun.sendall(BODY)
            assert answers(begun)[0].status == 200
        until(lambda before=status["pid"]: kept(before))  # type: ignore[misc]
        status = control.ask(place, op="status")
        assert ask(status["port"], 4.0)["category"] == "right"
    with asking(status["port"]) as told:  # a reload is a swap
        systemctl("reload", unit)
        until(lambda: not {*control.ask(place, op="status")["workers"]} & {*status["workers"]})
        cdl(project, "deploy", "restart", stage)
    assert told.failures == [] and told.answered > 10 and control.ask(place, op="status")["pid"] == status["pid"]
    systemctl("restart", unit)  # that of the init system is an end and a start
    assert kept(status["pid"]) and ask(status["port"], 4.0)["category"] == "right"
    cdl(project, "deploy", "stop", stage)
    until(lambda: systemctl("is-active", unit) == "inactive")
    cdl(project, "deploy", "apply", stage)
    until(lambda: kept(0))
    assert systemctl("is-active", unit) == "active"
    cdl(project, "deploy", "stop", stage, "--uninstall")
    until(lambda: systemctl("is-active", unit) == "inactive")
    assert unit not in systemctl("list-unit-files") and "nothing runs" in cdl(project, "deploy", "status", stage)


def main() -> None:
    manager, project, stage = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    runtime = Path("/run/user/0")
    for folder in (runtime, Path("/run/systemd/system")):
        folder.mkdir(parents=True)
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    with subprocess.Popen([manager, "--user", "--log-target=null"]) as process:
        try:
            until(lambda: systemctl("is-system-running") in ("running", "degraded"))
            sys.stdout.write("systemd runs\n")
            sys.stdout.flush()
            play(project, stage)
        finally:
            process.terminate()
    sys.stdout.write(json.dumps("played") + "\n")


if __name__ == "__main__":
    main()
