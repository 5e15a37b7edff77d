"""The demo: real `cdl` processes in a new folder, under four identities. Every step says what it expects.

python scripts/play.py [--quick] [--plant FAULT] [--keep FOLDER]      exit code 1 if anything did not happen
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from plant import FAULTS
from stage import DATA, OPS, REVIEW, ROLES, SCIENCE, SHORT, Stage, need, perform, somewhere, tell

REQUESTS = 1000
WINDOW = 250
SELECTED = 40


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
    need(stage.promoted() == second, "the model is promoted")
    need(stage.asked(SCIENCE, "cdl", "request", "list") == [], "the request is answered")
    accuracy = stage.asked(REVIEW, "cdl", "model", "evaluate", second)["measures"]["test.accuracy"]["value"]
    need(accuracy >= 0.95, f"the sealed accuracy is high enough: {accuracy}")
    return second


def stream(stage: Stage) -> tuple[str, str]:
    """The option of the client that names the images which were never ingested."""
    return "--from", str(stage.folder / "stream")


def serve(stage: Stage) -> str:
    """The first service and its requests."""
    stage.chapter("8. Int8, revised against the original, packaged, served; staging first.")
    url = stage.deploy(staging=True)

    stage.chapter("9. A thousand requests, drawn with repetition and small shifts from images never seen before.")
    found = stage.ask(url, REQUESTS, *stream(stage), "--shift", "small", "--seed", "1")
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
    need(stage.promoted() != before, "the new model is promoted")
    options = ["--from", str(stage.folder / "stream"), "--url", url, "--count", "600", "--shift", "none"]
    asking = subprocess.Popen([sys.executable, "ask.py", *options], cwd=stage.root, stdout=subprocess.PIPE, text=True)
    again = stage.deploy(staging=False)
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
    truths = "--truths", str(stage.folder / "truths.txt")
    asked = pending % WINDOW + 2 * WINDOW
    found = stage.ask(url, asked, *stream(stage), "--shift", "strong", "--seed", "2", *truths)
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
    stage.reproduced({"data, train", "data, test", "labels", "transformation", "weights", "package"})
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


def main() -> None:
    """Plays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short trials instead of sixteen")
    parser.add_argument("--plant", choices=sorted(FAULTS), help="spoil something on the way; the demo must notice")
    parser.add_argument("--keep", type=Path, help="play in this folder and leave it there")
    given = parser.parse_args()
    with somewhere(given.keep) as folder:
        stage = Stage(folder, "digits", quick=given.quick, fault=FAULTS.get(given.plant))
        perform(stage, play)


if __name__ == "__main__":
    main()
