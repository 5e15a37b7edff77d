"""The demo: real `cdl` processes in a new folder, under four identities. Every step says what it expects.

python scripts/play.py [--quick] [--plant FAULT] [--keep FOLDER]      exit code 1 if anything did not happen
"""

import argparse
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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from plant import FAULTS

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
REQUESTS = 1000
WINDOW = 250
SELECTED = 40


class Stage:
    """The folder that the demo plays in, and who is acting. `plant` may spoil something before a chapter."""

    def __init__(self, folder: Path, *, quick: bool, plant: str | None) -> None:
        self.folder = folder
        self.root = folder / "digits"
        self.keyring = folder / "keyring"
        self.quick = quick
        self.plant = plant
        self.began = time.monotonic()

    def chapter(self, title: str) -> None:
        """A new chapter; a planted fault of this chapter happens here."""
        tell(f"\n{title}    [{time.monotonic() - self.began:.0f} s]")
        number = title.partition(".")[0]
        if self.plant and FAULTS[self.plant].chapter == number:
            FAULTS[self.plant].happen(self)

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

    def ask(self, url: str, *, count: int, shift: str, seed: int) -> dict[str, Any]:
        """Sends requests to a service; what came back."""
        truths = ["--truths", str(self.folder / "truths.txt")] if shift == "strong" else []
        options = ["--from", str(self.folder / "stream"), "--url", url, "--count", str(count), "--shift", shift]
        out = self.run("client", sys.executable, "ask.py", *options, "--seed", str(seed), *truths)
        found: dict[str, Any] = json.loads(out)
        return found


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


def begin(stage: Stage) -> None:
    """Start: a project, requirements, roles, and a policy that nobody changes alone."""
    stage.chapter("1. One command makes the project; the one person there holds every role.")
    stage.run(DATA, "cdl", "init", "--example", "digits", str(stage.root), where=stage.folder)
    text = (stage.root / "cdl.yaml").read_text()
    if stage.quick:
        text = text.replace("max_trials: 16", "max_trials: 3").replace("max_epochs: 27", "max_epochs: 9")
        text = text.replace("epochs: 27\n", "epochs: 9\n", 1)
    (stage.root / "cdl.yaml").write_text(text + ROLES)
    stage.run(DATA, "git", "commit", "--quiet", "--all", "--message", "roles")
    stage.run(DATA, "cdl", "approve", "policy")

    stage.chapter("2. From now on requirements are the Model Validator's: an easier one is named and not used.")
    agreed = (stage.root / "cdl.yaml").read_text()
    (stage.root / "cdl.yaml").write_text(agreed.replace("test.accuracy >= 0.95", "test.accuracy >= 0.5"))
    stage.run(SCIENCE, "git", "commit", "--quiet", "--all", "--message", "an easier requirement")
    stage.run(SCIENCE, "cdl", "approve", "policy", expect=3)
    need(len(stage.events("decision.refused")) == 1, "the refused attempt is recorded")
    stage.run(REVIEW, "cdl", "reject", "policy", "--because", "0.5 is too little")
    opened = stage.asked(SCIENCE, "cdl", "request", "list")
    need(len(opened) == 1, "a request is open")
    (stage.root / "cdl.yaml").write_text(agreed)
    stage.run(SCIENCE, "git", "commit", "--quiet", "--all", "--message", "the requirement as agreed")
    stage.run(DATA, "cdl", "request", "answer", opened[0]["id"][:SHORT], "--because", "taken back")


def collect(stage: Stage) -> None:
    """The first data."""
    stage.chapter(
        "3. 70 % of the images arrive, four of them broken. Each gets a side that never moves; the test is sealed."
    )
    stage.run(DATA, sys.executable, "make_data.py", "--part", "first", "--out", "incoming")
    stage.run(DATA, sys.executable, "make_data.py", "--part", "stream", "--out", str(stage.folder / "stream"))
    stage.run(DATA, "cdl", "run", "data", "--yes")
    need(len(stage.asked(DATA, "cdl", "data", "rejected")) == 4, "four broken files are rejected")
    stage.run(DATA, "cdl", "data", "rejected")
    stage.run(SCIENCE, "cdl", "approve", "data", expect=3)
    stage.run(DATA, "cdl", "approve")
    need(len(stage.events("dataset.ready")) == 1, "the dataset is ready")
    need(stage.run(DATA, "cdl", "run", "--yes").startswith("nothing to do"), "a second run does nothing")


def train(stage: Stage) -> str:
    """An experiment, a search, a model. The scientist holds no key."""
    stage.chapter("4. An experiment is a branch. 16 trials by asynchronous successive halving; the best goes on.")
    stage.run(SCIENCE, "cdl", "experiment", "create", "first")
    stage.run(SCIENCE, "cdl", "data", "analyze")
    found = stage.act(SCIENCE, "cdl", "search", "--yes")
    trials = [t["id"].partition("-")[0] for t in found["trials"]]
    need(len(trials) == (3 if stage.quick else 16), "every trial ran")
    stage.run(SCIENCE, "cdl", "trial", "list", "--sort", "validation.accuracy")
    stage.run(SCIENCE, "cdl", "trial", "compare", *trials[:4], "--plot", "validation.accuracy")
    need((stage.root / "reports/trials.png").read_bytes().startswith(b"\x89PNG"), "curves are drawn")
    need(bool(list((stage.root / "reports").glob("digits-*.html"))), "the analysis is written")

    stage.chapter("5. The chosen trial becomes a model; somebody who holds the key evaluates it, sealed.")
    best = found["best"].partition("-")[0]
    tell(f"      the best is {best}")
    model: str = stage.act(SCIENCE, "cdl", "model", "register", best)["model"]
    tell(f"      {model[:SHORT]}")
    stage.run(REVIEW, "cdl", "run", "--yes")
    evaluated = stage.events("model.evaluated")
    need([e["fields"]["model"] for e in evaluated] == [model], "the model is evaluated once")
    return model


def review(stage: Stage, model: str) -> str:
    """Submission, a refused approval, a rejection with a request, its answer, promotion."""
    stage.chapter("6. Submitted: nobody approves his own model, and the validator may send it back.")
    stage.run(SCIENCE, "cdl", "model", "submit")
    stage.run(SCIENCE, "cdl", "approve", model[:SHORT], expect=3)
    stage.run(REVIEW, "cdl", "report", model[:SHORT])
    stage.run(
        REVIEW, "cdl", "reject", model[:SHORT], "--to", "training", "--because", "show that another seed does as well"
    )
    opened = stage.asked(SCIENCE, "cdl", "request", "list")
    need([r["to"]["step"] for r in opened] == ["training"], "a request is open at training")

    stage.chapter("7. The answer: trained again with another seed, evaluated, approved, merged.")
    best = stage.asked(SCIENCE, "cdl", "show", model)["trial"]["hyperparameters"]
    settings = [part for k, v in best.items() for part in ("--set", f"{k}={v}")]
    made = stage.act(SCIENCE, "cdl", "train", "--seed", "7", *settings)[0]
    trial = made["id"].partition("-")[0]
    second: str = stage.act(SCIENCE, "cdl", "model", "register", trial, "--answers", opened[0]["id"][:SHORT])["model"]
    tell(f"      {second[:SHORT]}")
    stage.run(REVIEW, "cdl", "run", "--yes")
    stage.run(SCIENCE, "cdl", "model", "submit", second[:SHORT])
    stage.run(REVIEW, "cdl", "approve", second[:SHORT])
    stage.run(SCIENCE, "git", "switch", "--quiet", "main")
    need(promoted(stage) == second, "the model is promoted")
    need(stage.asked(SCIENCE, "cdl", "request", "list") == [], "the request is answered")
    accuracy = stage.asked(REVIEW, "cdl", "model", "evaluate", second)["measures"]["test.accuracy"]["value"]
    need(accuracy >= 0.95, f"the sealed accuracy is high enough: {accuracy}")
    return second


def promoted(stage: Stage) -> str:
    """The promoted model."""
    found = [e["fields"]["model"] for e in stage.events("model.promoted")]
    return str(found[-1]) if found else ""


def deploy(stage: Stage, *, first: bool) -> str:
    """Compression, revision, package, and a service; where it answers."""
    stage.run(OPS, "cdl", "run", "deployment", "--yes")
    revised = stage.events("model.revised")
    need(len(revised) == (1 if first else 2), "the small model is compared with its original")
    stage.run(REVIEW, "cdl", "approve")
    stage.run(OPS, "cdl", "run", "deployment", "--yes")
    if first:
        stage.run(OPS, "cdl", "deploy", "apply", "staging")
    url = str(stage.act(OPS, "cdl", "deploy", "apply", "production")["url"])
    tell(f"      production answers at {url}")
    return url


def serve(stage: Stage) -> str:
    """The first service and its requests."""
    stage.chapter("8. Int8, revised against the original, packaged, served; staging first.")
    url = deploy(stage, first=True)

    stage.chapter("9. A thousand requests, drawn with repetition and small shifts from images never seen before.")
    found = stage.ask(url, count=REQUESTS, shift="small", seed=1)
    need(found["failed"] == 0 and found["accuracy"] >= 0.9, f"the service answers well: {found}")
    time.sleep(2.5)  # the service writes what it was asked every two seconds
    windows = stage.act(OPS, "cdl", "monitor", "run", "production", "--once")
    need(len(windows) == REQUESTS // WINDOW, f"{REQUESTS // WINDOW} windows are measured, not {len(windows)}")
    need(all(w["alarms"] == [] for w in windows), "no alarm")
    stage.run(OPS, "cdl", "report", "production")
    return url


def grow(stage: Stage, before: str, url: str) -> None:
    """New data go round: the trigger evaluates and trains, the new model is compared, approved and swapped in."""
    stage.chapter(
        "10. 20 % more arrive. Ready data start a trigger: the current model is evaluated, and trained again."
    )
    stage.run(DATA, sys.executable, "make_data.py", "--part", "later", "--out", "incoming")
    stage.run(DATA, "cdl", "run", "data", "--yes")
    stage.run(DATA, "cdl", "approve")
    need(len(stage.events("trigger.finished")) == 1, "the trigger ran")
    listed = "git", "for-each-ref", "--format=%(refname:short)", "refs/heads/cdl/"
    branch = stage.run(SCIENCE, *listed, show="nothing").split()
    need(len(branch) == 1, "the new model stands on a branch of its own")

    stage.chapter("11. Compared on the same test version, approved, and swapped in while requests go on.")
    stage.run(SCIENCE, "git", "switch", "--quiet", branch[0])
    stage.run(SCIENCE, "cdl", "model", "submit")
    stage.run(REVIEW, "cdl", "run", "--yes")
    stage.run(SCIENCE, "git", "switch", "--quiet", "main")
    stage.run(REVIEW, "cdl", "approve", "model")
    need(promoted(stage) != before, "the new model is promoted")
    options = ["--from", str(stage.folder / "stream"), "--url", url, "--count", "600", "--shift", "none"]
    asking = subprocess.Popen([sys.executable, "ask.py", *options], cwd=stage.root, stdout=subprocess.PIPE, text=True)
    again = deploy(stage, first=False)
    said, _ = asking.communicate()
    need(again == url, "the service keeps its address")
    need(json.loads(said)["failed"] == 0, f"no request is lost in the swap: {said}")


def drift(stage: Stage, url: str) -> None:
    """Shifted requests: alarm, selection, request, collection, labels."""
    stage.chapter("12. Requests change: everything is shifted by two pixels. An alarm after exactly two windows.")
    time.sleep(2.5)
    stage.act(OPS, "cdl", "monitor", "run", "production", "--once")
    before = len(stage.events("monitor.window"))
    need(stage.events("monitor.drift") == [], "nothing drifted so far")
    pending = WINDOW - stage_rows(stage) % WINDOW
    found = stage.ask(url, count=pending % WINDOW + 2 * WINDOW, shift="strong", seed=2)
    need(found["failed"] == 0, "every request is answered")
    time.sleep(2.5)
    stage.run(OPS, "cdl", "monitor", "run", "production", "--once")
    after = stage.events("monitor.window")[before:]
    raised = stage.events("monitor.drift")
    need(len(raised) == 1, f"one alarm, not {len(raised)}")
    failing = [
        e["fields"]["window"] for e in after if any(m.startswith("failing.drift") for m in e["fields"]["measures"])
    ]
    need(raised[0]["fields"]["window"] == failing[1], "the alarm came with the second window in a row")
    opened = [r for r in stage.asked(DATA, "cdl", "request", "list") if r["to"]["step"] == "collection"]
    need(len(opened) == 1, "a request is open at collection")

    stage.chapter("13. The least confident inputs come back as items, get a side by the key, and are labeled.")
    request = opened[0]["id"][:SHORT]
    stage.run(DATA, "cdl", "data", "collect", request)
    stage.run(DATA, "cdl", "data", "run", "--answers", request)
    stage.run(DATA, "cdl", "approve")
    need(stage.asked(DATA, "cdl", "request", "list") == [], "the request is answered")
    label(stage)
    stage.run(DATA, "cdl", "label", "release")
    need(len(stage.events("dataset.ready")) == 3, "the dataset is ready again")
    need(len(stage.events("trigger.finished")) == 3, "and the trigger trained on it")


def stage_rows(stage: Stage) -> int:
    """How many requests the current model of production has answered so far, as far as they were collected."""
    package = stage.asked(OPS, "cdl", "deploy", "status", "production")[0]["declared"]
    model = stage.asked(OPS, "cdl", "show", package)["model"]
    return sum(e["fields"]["rows"] for e in stage.events("scoring.collected") if e["fields"]["model"] == model)


def label(stage: Stage) -> None:
    """Somebody looks at each picture and says what it is: here the truth that the client noted."""
    lines = (stage.folder / "truths.txt").read_text().splitlines()
    truths = dict(line.split(" ") for line in lines)
    show = "import sys,io,json,base64\nfrom PIL import Image\n"
    show += "for i in json.load(sys.stdin)['items']:\n"
    show += " print(Image.open(io.BytesIO(base64.b64decode(i['content']))).tobytes().hex())\n"
    items = stage.run(DATA, "cdl", "label", "next", "--json", show="nothing")
    pixels = stage.run(DATA, sys.executable, "-c", show, given=items, show="nothing").split()
    need(len(pixels) == SELECTED, f"{SELECTED} items wait for a label, not {len(pixels)}")
    stage.run(DATA, "cdl", "label", "next", given="".join(truths[p] + "\n" for p in pixels), show="progress")


def end(stage: Stage) -> None:
    """A rollback, and what is kept."""
    stage.chapter("14. A rollback is a swap and a forward commit.")
    before = stage.asked(OPS, "cdl", "deploy", "status", "production")[0]["running"]
    stage.run(OPS, "cdl", "deploy", "rollback", "production", "--because", "shifted pictures are read badly")
    after = stage.asked(OPS, "cdl", "deploy", "status", "production")[0]
    need(after["running"] != before and after["running"] == after["declared"], "the package before runs again")

    stage.chapter("15. Where everything stands, the commit that names it, and all of it made again.")
    (stage.root / "notes.txt").write_text("work under way\n")
    stage.run(OPS, "cdl", "status")
    stage.run(OPS, "cdl", "store", "verify")
    stage.run(OPS, "cdl", "ci", "check")
    tell(f"    one commit names it all: {stage.run(OPS, 'git', 'rev-parse', 'HEAD').strip()}")
    found = stage.act(OPS, "cdl", "reproduce", "HEAD")
    for line in found:
        tell(f"      {line['what']:<14} {line['name'][:12]}  {'identical' if line['identical'] else 'DIFFERENT'}")
    need(
        {f["what"] for f in found} >= {"data, train", "data, test", "labels", "transformation", "weights", "package"},
        "all is made again",
    )
    need(all(f["identical"] is True for f in found), "everything is identical")
    need(stage.run(OPS, "git", "status", "--porcelain") == "?? notes.txt\n", "the work under way is untouched")


def play(stage: Stage) -> None:
    """All chapters."""
    begin(stage)
    collect(stage)
    model = train(stage)
    second = review(stage, model)
    url = serve(stage)
    grow(stage, second, url)
    drift(stage, url)
    end(stage)
    tell(f"\nall of it happened, in {time.monotonic() - stage.began:.0f} s")


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
    """Ends the services."""
    for name in ("staging", "production"):
        if (stage.root / ".cdl/services" / name / "control").exists():
            with contextlib.suppress(SystemExit):
                stage.run(OPS, "cdl", "deploy", "stop", name)


def main() -> None:
    """Plays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short trials instead of sixteen")
    parser.add_argument("--plant", choices=sorted(FAULTS), help="spoil something on the way; the demo must notice")
    parser.add_argument("--keep", type=Path, help="play in this folder and leave it there")
    given = parser.parse_args()
    with somewhere(given.keep) as folder:
        stage = Stage(folder, quick=given.quick, plant=given.plant)
        try:
            play(stage)
        finally:
            stop(stage)


if __name__ == "__main__":
    main()
