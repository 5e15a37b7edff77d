"""The demo: real `cdl` processes in a new folder, under four identities. Every step says what it expects."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CDL = Path(sys.executable).with_name("cdl")
DATA, SCIENCE, REVIEW, OPS = (f"{name}@example.org" for name in ("data", "science", "review", "ops"))
ROLES = f"""\
roles:
  data_engineer: [{DATA}]
  data_labeler: [{DATA}]
  data_scientist: [{SCIENCE}]
  model_validator: [{REVIEW}]
  devops: [{OPS}]
"""


class Stage:
    """The folder that the demo plays in, and who is acting."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "digits"
        self.keyring = folder / "keyring"

    def run(self, who: str, *command: str, expect: int = 0, where: Path | None = None) -> str:
        """Runs a command as somebody, shows it as typed, and stops the demo when it did not do what it should."""
        around = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "CDL_"))}
        name = who.partition("@")[0]
        for role in ("AUTHOR", "COMMITTER"):
            around |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": who}
        around |= {"CDL_KEYRING": str(self.keyring), "GIT_CONFIG_GLOBAL": os.devnull}
        program = [str(CDL), *command[1:]] if command[0] == "cdl" else list(command)
        done = subprocess.run(program, cwd=where or self.root, env=around, capture_output=True, text=True, check=False)
        typed = " ".join("python" if part == sys.executable else part for part in command)
        tell(f"    {who} $ {typed}")
        said = (done.stderr + done.stdout).rstrip()
        if said and "--json" not in command:
            tell("\n".join(f"      {line}" for line in said.splitlines()))
        need(done.returncode == expect, f"exit code {done.returncode}, expected {expect}: {said}")
        return done.stdout

    def asked(self, who: str, *command: str) -> dict[str, object]:
        """The JSON that a command prints."""
        found = json.loads(self.run(who, *command, "--json"))
        return found if isinstance(found, dict) else {"list": found}


def tell(text: str) -> None:
    """A line of the story."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def need(true: bool, what: str) -> None:
    """Ends the demo with exit code 1 when something did not happen."""
    if not true:
        tell(f"DID NOT HAPPEN: {what}")
        sys.exit(1)


def begin(stage: Stage) -> str:
    """Start: a project, requirements, roles. Gives cdl.yaml as it then stands."""
    tell("1. One command makes the project; the one person there holds every role.")
    stage.run(DATA, "cdl", "init", "--example", "digits", str(stage.root), where=stage.root.parent)
    team = (stage.root / "cdl.yaml").read_text() + ROLES
    stage.run(DATA, "cdl", "status")

    tell("2. Requirements and roles are written down; alone, the same person puts them in force.")
    (stage.root / "cdl.yaml").write_text(team)
    stage.run(DATA, "git", "commit", "--quiet", "--all", "--message", "requirements and roles")
    stage.run(DATA, "cdl", "approve", "policy")
    return team


def govern(stage: Stage, team: str) -> None:
    """A changed policy: refused, sent back, answered, approved."""
    tell("3. From now on the policy is the Model Validator's. A changed one is named and not used.")
    (stage.root / "cdl.yaml").write_text(team.replace("0.95", "0.60"))
    stage.run(SCIENCE, "git", "commit", "--quiet", "--all", "--message", "an easier requirement")
    stage.run(SCIENCE, "cdl", "approve", "policy", expect=3)
    refused = stage.asked(SCIENCE, "cdl", "events", "--kind", "decision.refused")["list"]
    need(isinstance(refused, list) and len(refused) == 1, "the refused attempt is recorded")

    tell("4. The validator sends it back; the request is open until somebody answers it.")
    stage.run(REVIEW, "cdl", "reject", "policy", "--because", "0.60 is too little")
    found = stage.asked(DATA, "cdl", "request", "list")["list"]
    need(isinstance(found, list) and len(found) == 1, "a request is open")
    (stage.root / "cdl.yaml").write_text(team.replace("0.95", "0.97"))
    stage.run(SCIENCE, "git", "commit", "--quiet", "--all", "--message", "a stricter requirement")
    stage.run(DATA, "cdl", "request", "answer", str(found[0]["id"])[:10], "--because", "0.97")
    stage.run(REVIEW, "cdl", "approve", "policy")


def collect(stage: Stage) -> None:
    """Data arrive twice."""
    tell(
        "5. 70 % of the images arrive, four of them broken. Each gets a side that never moves; the test set is sealed."
    )
    stage.run(DATA, sys.executable, "make_data.py", "--part", "first", "--out", "incoming")
    stage.run(DATA, "cdl", "data", "run")
    rejected = stage.asked(DATA, "cdl", "data", "rejected")["list"]
    need(isinstance(rejected, list) and len(rejected) == 4, "four broken files are rejected")
    stage.run(DATA, "cdl", "data", "rejected")
    stage.run(SCIENCE, "cdl", "approve", "data", expect=3)
    stage.run(DATA, "cdl", "approve")
    ready = stage.asked(DATA, "cdl", "events", "--kind", "dataset.ready")["list"]
    need(isinstance(ready, list) and len(ready) == 1, "the dataset is ready")

    tell("6. 20 % more arrive: old items keep their side, only new ones are worked.")
    first = stage.asked(DATA, "cdl", "data", "list")["list"]
    stage.run(DATA, sys.executable, "make_data.py", "--part", "later", "--out", "incoming")
    stage.run(DATA, "cdl", "data", "run")
    stage.run(DATA, "cdl", "approve")
    second = stage.asked(DATA, "cdl", "data", "list")["list"]
    need(isinstance(first, list) and isinstance(second, list), "both versions are listed")
    need(second[0]["items"] > first[0]["items"], "the second version has more items")


def look_back(stage: Stage) -> None:
    """What is kept."""
    tell("7. What happened, what is kept, and that it is whole.")
    (stage.root / "notes.txt").write_text("work under way\n")
    stage.run(DATA, "cdl", "log")
    stage.run(DATA, "cdl", "events")
    stage.run(DATA, "cdl", "store", "verify")
    stage.run(DATA, "cdl", "ci", "check")
    status = stage.asked(DATA, "cdl", "status")
    need(status["waiting"] == [] and status["requests"] == [], "nothing waits any more")
    untouched = stage.run(DATA, "git", "status", "--porcelain")
    need(untouched == "?? notes.txt\n", "the work under way is untouched")
    tell(f"One commit names it all: {stage.run(DATA, 'git', 'rev-parse', 'HEAD').strip()}")


def main() -> None:
    """Plays in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="cdl-demo-") as folder:
        stage = Stage(Path(folder))
        team = begin(stage)
        govern(stage, team)
        collect(stage)
        look_back(stage)
    tell("Training, deployment and monitoring are not part of this version yet: docs/plan.md")


if __name__ == "__main__":
    main()
