"""People who type commands: each a clone, an identity and keys of their own, every command a real process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CDL = Path(sys.executable).with_name("cdl")
SECONDS = 300.0


@dataclass(frozen=True)
class Person:
    """Somebody at a clone. `keys` is the folder of this person's keyring and identity."""

    email: str
    root: Path
    keys: Path
    around: Mapping[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """What a process of this person is given."""
        name = self.email.partition("@")[0]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CDL_", "GIT_", "AWS_"))}
        env |= {
            f"GIT_{role}_{what}": v
            for role in ("AUTHOR", "COMMITTER")
            for what, v in (("NAME", name), ("EMAIL", self.email))
        }
        env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "XDG_CONFIG_HOME": str(self.keys)}
        return env | dict(self.around)

    def at(self, root: Path) -> "Person":
        """The same person at another clone."""
        return Person(self.email, root, self.keys, self.around)

    def run(self, *command: str, where: Path | None = None, given: str = "") -> "subprocess.CompletedProcess[str]":
        """A command, whatever its end."""
        return subprocess.run(
            command,
            cwd=where or self.root,
            env=self.env(),
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def cdl(self, *arguments: str, code: int = 0, given: str = "") -> str:
        """What `cdl` says on both outputs; its exit code must be `code`."""
        done = self.run(str(CDL), *arguments, given=given)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{self.email}$ cdl {' '.join(arguments)}: exit {done.returncode}\n{said}"
        return said

    def json(self, *arguments: str) -> Any:
        """What `cdl ... --json` says."""
        done = self.run(str(CDL), *arguments, "--json")
        assert done.returncode == 0, f"{self.email}$ cdl {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout)

    def git(self, *arguments: str) -> str:
        """What git says."""
        done = self.run("git", *arguments)
        assert done.returncode == 0, f"git {' '.join(arguments)}\n{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self, message: str) -> None:
        """Commits everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
