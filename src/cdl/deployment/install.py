"""The service of a stage as a systemd user unit (Linux) or a launchd agent (macOS): it comes back after a crash and after a boot.

    ~/.config/systemd/user/cdl-toy-production-1a2b3c4d.service        ~/Library/LaunchAgents/cdl-toy-production-1a2b3c4d.plist

Both run `python -m cdl.deployment.supervisor FOLDER` in the foreground, which serves what was served last. Where a command
started the service, that supervisor takes the port over from it, so installing loses no request. Where the init system cannot be
reached the file is written all the same, and what to type is said. Nothing of the environment stands in it but where things are.
"""

import os
import plistlib
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from cdl.deployment import control
from cdl.deployment.protocol import LOG
from cdl.deployment.stages import folder
from cdl.deployment.workers import GONE_SECONDS, around
from cdl.errors import Refused, Unavailable
from cdl.workflow.workspace import Workspace

COMMAND_SECONDS = 120.0  # that the init system may take: it waits until the service is ready
AGAIN_SECONDS = 2  # between restarts; it never gives up
STOP_SECONDS = int(GONE_SECONDS) + 20
KEPT = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG", "TZ", "LD_LIBRARY_PATH")
DIGITS = 8
LINGER = Path("/var/lib/systemd/linger")  # of users whose units run without a login
Command = tuple[str, ...]


class Init(msgspec.Struct, frozen=True, kw_only=True):
    """What an init system is given and told."""

    name: str
    file: Path
    content: bytes
    enable: tuple[Command, ...]
    start: Command
    disable: tuple[Command, ...]
    forget: tuple[Command, ...] = ()


def init(workspace: Workspace, stage: str, platform: str = sys.platform) -> Init:
    """That of this machine. Unavailable where there is none; Refused for a path that cannot be written in its file."""
    place = folder(workspace, stage).absolute()
    command = [*control.SUPERVISOR, str(place)]
    settings = {k: v for k, v in around().items() if k in KEPT}
    if any(re.search(r"[\x00-\x1f\x7f]", text) for text in (*command, *settings.values())):
        raise Refused(
            "a path with control characters cannot be installed", where=str(place), remedy="rename the folder"
        )
    name = f"cdl-{workspace.config.project}-{stage}-{blake3(os.fsencode(place)).hexdigest()[:DIGITS]}"
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if platform == "linux":
        return _systemd(f"{name}.service", f"cdl: {workspace.config.project} at {stage}", place, command, settings)
    if platform == "darwin":
        return _launchd(name, place, command, settings)
    raise Unavailable(f"{platform} has neither systemd nor launchd", remedy=f"keep running: {shlex.join(command)}")


def install(workspace: Workspace, stage: str) -> None:
    """Writes and enables the unit, and hands the running service over to it. What could not be done is told."""
    made = init(workspace, stage)
    made.file.parent.mkdir(parents=True, exist_ok=True)
    temporary = made.file.with_name(made.file.name + ".tmp")
    temporary.write_bytes(made.content)
    temporary.replace(made.file)
    workspace.tell(f"install   {made.file}")
    running = control.running(folder(workspace, stage))
    starts = (made.start,) if running is not None and running.get("kept") != "init" else ()
    _do(workspace, made, (*made.enable, *starts))
    if made.name == "systemd" and not (LINGER / _user()).exists():
        workspace.tell("          so that it starts at boot, before you log in: loginctl enable-linger")


def take_over(workspace: Workspace, stage: str) -> None:
    """Where a stage is installed: its init system keeps the service that a command has just started."""
    made = init(workspace, stage) if sys.platform in ("linux", "darwin") else None
    if made is not None and made.file.exists():
        _do(workspace, made, (made.start,))


def uninstall(workspace: Workspace, stage: str) -> bool:
    """Disables and removes the unit; whether there was one. The service itself goes on."""
    made = init(workspace, stage)
    if not made.file.exists():
        return False
    _do(workspace, made, made.disable)
    made.file.unlink()
    for command in made.forget:
        _said_against(command)
    workspace.tell(f"removed   {made.file}")
    return True


def installed(workspace: Workspace, stage: str) -> bool:
    """Whether a stage has its unit."""
    return sys.platform in ("linux", "darwin") and init(workspace, stage).file.exists()


def _do(workspace: Workspace, made: Init, commands: Sequence[Command]) -> None:
    """Gives the commands; where one fails, tells which remain to be typed."""
    for number, command in enumerate(commands):
        why = _said_against(command)
        if why is not None:
            workspace.tell(f"          {made.name} does not do it here ({why}); type:")
            for left in commands[number:]:
                workspace.tell(f"          {shlex.join(left)}")
            return


def _said_against(command: Command) -> str | None:
    """Gives one command; why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except FileNotFoundError:
        return f"no {command[0]}"
    except subprocess.TimeoutExpired:
        return f"no answer in {COMMAND_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _systemd(unit: str, about: str, place: Path, command: Sequence[str], settings: Mapping[str, str]) -> Init:
    if re.search(r"[\\\"']", command[0]):  # systemd refuses such a program, but not such an argument
        command = ["/usr/bin/env", *command]
    program, *arguments = command
    words = [_quoted(program), *(_quoted(part).replace("$", "$$") for part in arguments)]
    lines = [
        "[Unit]",
        f"Description={_specifiers(about)}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(words)}",
        "ExecReload=kill -HUP $MAINPID",
        f"WorkingDirectory={_specifiers(str(place))}",
        *(f"Environment={_quoted(f'{k}={v}')}" for k, v in sorted(settings.items())),
        f"StandardOutput=append:{_specifiers(str(place / LOG))}",
        f"StandardError=append:{_specifiers(str(place / LOG))}",
        "Restart=on-failure",
        f"RestartSec={AGAIN_SECONDS}",
        f"TimeoutStartSec={int(COMMAND_SECONDS)}",
        f"TimeoutStopSec={STOP_SECONDS}",
        "KillMode=process",  # workers end with their supervisor by themselves, and answer first what was begun
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    tell = ("systemctl", "--user")
    return Init(
        name="systemd",
        file=home / "systemd/user" / unit,
        content=("\n".join(lines) + "\n").encode(),
        enable=((*tell, "daemon-reload"), (*tell, "enable", unit)),
        start=(*tell, "restart", unit),
        disable=((*tell, "disable", unit),),
        forget=((*tell, "daemon-reload"),),
    )


def _launchd(label: str, place: Path, command: Sequence[str], settings: Mapping[str, str]) -> Init:
    content = {
        "Label": label,
        "ProgramArguments": list(command),
        "WorkingDirectory": str(place),
        "EnvironmentVariables": dict(settings),
        "StandardOutPath": str(place / LOG),
        "StandardErrorPath": str(place / LOG),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": AGAIN_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
    }
    file = Path.home() / "Library/LaunchAgents" / f"{label}.plist"
    domain = f"gui/{os.getuid()}"
    return Init(
        name="launchd",
        file=file,
        content=plistlib.dumps(content),
        enable=(("launchctl", "enable", f"{domain}/{label}"),),
        start=("launchctl", "bootstrap", domain, str(file)),
        disable=(("launchctl", "disable", f"{domain}/{label}"),),
    )


def _specifiers(text: str) -> str:
    """Text with systemd's specifiers (%h and so on) taken for what they are: two characters."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """A word of a line of a unit, by systemd's rules."""
    return '"' + _specifiers(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _user() -> str:
    return os.environ.get("USER") or Path.home().name
