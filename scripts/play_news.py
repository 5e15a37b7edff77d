"""The paper's first use case: 2,225 news articles through the whole cycle, under four identities. Like play.py.

python scripts/play_news.py [--zip FILE] [--quick] [--keep FOLDER]      exit code 1 if anything did not happen

The articles are not part of this project (their terms are non-commercial): FILE, else bbc-fulltext.zip in the folder
CDL_TEST_DATA, else in ../shared/data beside the checkout.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from stage import DATA, OPS, REVIEW, ROLES, SCIENCE, SHORT, Stage, need, perform, somewhere, tell

ZIP = "bbc-fulltext.zip"
ARTICLES = 2225
REJECTED = {"collect": "not *.txt", "validate": "shorter than 100 words"}
LENA = "lena@example.org"  # labels in Label Studio
LABELED = 40
TRIALS = 16
REQUESTS, WINDOW = 400, 200
ACCURATE = 0.95


def given_zip() -> Path:
    """Where the articles are looked for."""
    folder = os.environ.get("CDL_TEST_DATA")
    return (Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared/data") / ZIP


def begin(stage: Stage) -> None:
    """A project, its roles, and a source that a person has to fetch."""
    stage.chapter("1. The example makes the project. Its articles are fetched by whoever may use them.")
    stage.run(DATA, "cdl", "init", "--example", "news", str(stage.root), where=stage.folder)
    text = (stage.root / "cdl.yaml").read_text()
    if stage.quick:
        text = text.replace(f"max_trials: {TRIALS}", "max_trials: 3").replace("max_epochs: 18", "max_epochs: 6")
        text = text.replace("epochs: 18\n", "epochs: 6\n", 1)
    (stage.root / "cdl.yaml").write_text(text + ROLES)
    stage.run(DATA, "git", "commit", "--quiet", "--all", "--message", "roles")
    stage.run(DATA, "cdl", "approve", "policy")
    stage.run(DATA, "cdl", "run", "data", expect=2)


def collect(stage: Stage, articles: Path) -> None:
    """The articles: split by body, cleaned by a function, validated by a program."""
    stage.chapter(
        "2. Split by body, so that no text is on both sides; cleaned by a function, validated by an awk program."
    )
    (stage.root / "incoming").mkdir()
    shutil.copy(articles, stage.root / "incoming" / ZIP)
    stage.run(DATA, "cdl", "run", "data", "--yes")
    stage.run(DATA, "cdl", "data", "rejected")
    rejected = stage.asked(DATA, "cdl", "data", "rejected")
    need({r["step"]: r["reason"] for r in rejected} == REJECTED, f"what is no article is rejected: {rejected}")
    [counts] = stage.asked(DATA, "cdl", "data", "list")
    unfit = sum(r["step"] == "collect" for r in rejected)
    need(counts["items"] + counts["rejected"] - unfit == ARTICLES, f"every article is there or rejected: {counts}")
    share = counts["test"] / counts["items"]
    need(0.17 <= share <= 0.23, f"about 20 % are in the test: {share:.3f}")
    stage.run(DATA, "cdl", "approve")
    need(len(stage.events("dataset.ready")) == 1, "the labels came with the folders: the dataset is ready")


def label(stage: Stage) -> None:
    """Somebody checks labels in Label Studio, and disagrees once."""
    stage.chapter("3. Lena checks some labels in Label Studio: tasks go out, her export comes back as rows of hers.")
    stage.run(DATA, "cdl", "label", "export", "tasks.json", expect=3)  # git would keep it, and test items are in it
    stage.run(DATA, "cdl", "label", "export", str(stage.folder / "tasks.json"), "--all")
    tasks = json.loads((stage.folder / "tasks.json").read_text())
    folders = stage.run(DATA, sys.executable, "-c", FOLDERS, given=json.dumps(tasks[:LABELED]), show="nothing")
    truths = folders.split()
    truths[0] = "tech" if truths[0] != "tech" else "sport"  # she reads the first one otherwise
    export = [annotated(task, truth, at) for at, (task, truth) in enumerate(zip(tasks, truths, strict=False))]
    (stage.folder / "export.json").write_text(json.dumps(export))
    stage.run(DATA, "cdl", "label", "import", str(stage.folder / "export.json"))
    again = stage.act(DATA, "cdl", "label", "import", str(stage.folder / "export.json"))
    need(again["labels"] == 0, "the same export brings nothing new")
    made = stage.act(DATA, "cdl", "label", "release")
    need(made["conflicts"] == [tasks[0]["data"]["item"]], "the one item about which they disagree is named")
    right = stage.run(DATA, sys.executable, "-c", FOLDERS, given=json.dumps(tasks[:1]), show="nothing").strip()
    stage.run(DATA, "cdl", "label", "set", tasks[0]["data"]["item"], right)
    stage.run(DATA, "cdl", "label", "release")


FOLDERS = """
import json, sys, zipfile
sys.path.insert(0, ".")
from data.clean import article
with zipfile.ZipFile("incoming/bbc-fulltext.zip") as pack:
    folders = {article(pack.read(n)): n.split("/")[-2] for n in pack.namelist() if n.endswith(".txt")}
for task in json.load(sys.stdin):
    print(folders[task["data"]["text"].encode()])
"""


def annotated(task: dict[str, object], truth: str, at: int) -> dict[str, object]:
    """A task as Label Studio exports it."""
    result = {"type": "choices", "from_name": "label", "to_name": "item", "value": {"choices": [truth]}}
    when = f"2026-11-24T10:{at // 60:02}:{at % 60:02}.000000Z"
    person = {"id": 7, "email": LENA, "first_name": "Lena", "last_name": ""}
    annotation = {
        "id": 100 + at,
        "completed_by": person,
        "result": [result],
        "was_cancelled": False,
        "updated_at": when,
    }
    return {"id": at, **task, "annotations": [annotation], "predictions": []}


def train(stage: Stage) -> str:
    """The search, and the best trial as a model."""
    stage.chapter("4. An experiment: stem counts fitted on the training part, the search by successive halving.")
    stage.run(SCIENCE, "cdl", "experiment", "create", "first")
    stage.run(SCIENCE, "cdl", "data", "analyze")
    found = stage.act(SCIENCE, "cdl", "search", "--yes")
    need(len(found["trials"]) == (3 if stage.quick else TRIALS), "every trial ran")
    stage.run(SCIENCE, "cdl", "trial", "list", "--sort", "validation.accuracy")

    stage.chapter("5. The best trial becomes a model; somebody who holds the key evaluates it, sealed.")
    best = found["best"].partition("-")[0]
    model: str = stage.act(SCIENCE, "cdl", "model", "register", best)["model"]
    stage.run(REVIEW, "cdl", "run", "--yes")
    evaluated = stage.asked(REVIEW, "cdl", "model", "evaluate", model)
    need(set(evaluated["equal_items"].values()) == {0}, f"no text is on both sides: {evaluated['equal_items']}")
    accuracy = evaluated["measures"]["test.accuracy"]["value"]
    need(accuracy >= ACCURATE, f"the sealed accuracy is high enough: {accuracy}")
    tell(f"      sealed accuracy {accuracy:.4f}")
    return model


def review(stage: Stage, model: str) -> None:
    """The reviewer's page, and promotion."""
    stage.chapter("6. Submitted, reviewed, merged, promoted.")
    stage.run(SCIENCE, "cdl", "model", "submit")
    stage.run(SCIENCE, "cdl", "approve", model[:SHORT], expect=3)
    stage.run(REVIEW, "cdl", "report", model[:SHORT])
    stage.run(REVIEW, "cdl", "approve", model[:SHORT])
    stage.run(SCIENCE, "git", "switch", "--quiet", "main")
    need(stage.promoted() == model, "the model is promoted")


def serve(stage: Stage) -> None:
    """Int8, a service, and texts that it is asked about."""
    stage.chapter("7. Int8, revised against the original, packaged, served; text in, category and probabilities out.")
    url = stage.deploy(staging=True)
    found = stage.ask(url, REQUESTS, "--from", f"incoming/{ZIP}")
    need(found["failed"] == 0 and found["accuracy"] >= ACCURATE, f"the service answers well: {found}")
    time.sleep(2.5)  # the service writes what it was asked every two seconds
    windows = stage.act(OPS, "cdl", "monitor", "run", "production", "--once")
    need(len(windows) == REQUESTS // WINDOW, f"{REQUESTS // WINDOW} windows are measured, not {len(windows)}")
    need(all(w["alarms"] == [] for w in windows), "no alarm")
    stage.run(OPS, "cdl", "report", "production")


def end(stage: Stage) -> None:
    """What is kept, and all of it made again."""
    stage.chapter("8. Where everything stands, and all of it made again.")
    stage.run(OPS, "cdl", "status")
    stage.run(OPS, "cdl", "store", "verify")
    stage.run(OPS, "cdl", "ci", "check")
    stage.reproduced({"data, train", "data, test", "labels", "transformation", "weights", "weights, int8", "package"})


def main() -> None:
    """Plays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", type=Path, help="the articles", default=given_zip())
    parser.add_argument("--quick", action="store_true", help="three short trials instead of sixteen")
    parser.add_argument("--keep", type=Path, help="play in this folder and leave it there")
    given = parser.parse_args()
    if not given.zip.is_file():
        parser.error(f"there is no {given.zip}: --zip FILE; examples/news/README.md says where to get it")

    def play(stage: Stage) -> None:
        begin(stage)
        collect(stage, given.zip)
        label(stage)
        model = train(stage)
        review(stage, model)
        serve(stage)
        end(stage)

    with somewhere(given.keep) as folder:
        perform(Stage(folder, "news", quick=given.quick), play)


if __name__ == "__main__":
    main()
