"""An unchanged script as a trial: `cdl train -- python train.py --lr 0.1`.

It runs in a folder with its closure and finds in its environment

    CDL_DATA         a folder with {training,validation}_{inputs,labels}.npy and classes.json
    CDL_PARAMETERS   hyperparameters, epochs and seed as JSON
    CDL_OUT          a folder for weights.safetensors or model.onnx, and metrics.jsonl: one JSON object a line,
                     also written by `import cdl; cdl.log(epoch=1, accuracy=0.9)`

    {op: script, argv, parameters, classes, paths}   -> {report: {...}} *   {done: weights, format: safetensors | onnx}
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cdl.errors import JobFailed
from cdl.jobs.channel import Channel
from cdl.jobs.folder import held_folder
from cdl.jobs.local import Worker
from cdl.jobs.worker import ends_with_this

LOOP = "cdl.model.script:serve"
POLL_SECONDS = 0.05
METRICS = "metrics.jsonl"
WEIGHTS = {"model.onnx": "onnx", "weights.safetensors": "safetensors"}


class Made(msgspec.Struct, frozen=True):
    """What a script left."""

    weights: bytes
    format: str


def run(worker: Worker, message: Mapping[str, Any], told: Callable[[Mapping[str, float]], object]) -> Made:
    """The parent's side: passes on reports until the script ends. JobFailed when it failed or left no weights."""
    argv = message["call"]
    parameters = {**message["hyperparameters"], "epochs": message["epochs"], "seed": message["seed"]}
    worker.tell(
        {
            "op": "script",
            "argv": list(argv),
            "parameters": parameters,
            "classes": message["classes"],
            "paths": message["paths"],
        }
    )
    while "done" not in (answer := worker.receive()):
        told({k if k == "epoch" or "." in k else f"validation.{k}": v for k, v in answer["report"].items()})
    if not answer["done"]:
        raise JobFailed(
            f"the script left neither {' nor '.join(WEIGHTS)} in CDL_OUT", remedy="write one, then the command again"
        )
    return Made(answer["done"], answer["format"])


def serve(channel: Channel) -> None:
    """The worker's side: starts the script, reports what it logs, hands over its weights."""
    message = channel.receive()
    with held_folder("script") as folder:
        data, out = folder / "data", folder / "out"
        data.mkdir()
        out.mkdir()
        for part, path in message["paths"].items():
            (data / f"{part}.npy").symlink_to(path)
        (data / "classes.json").write_text(json.dumps(list(message["classes"])))
        around = {"CDL_DATA": str(data), "CDL_OUT": str(out), "CDL_PARAMETERS": json.dumps(message["parameters"])}
        argv = [sys.executable if message["argv"][0] in ("python", "python3") else message["argv"][0]]
        argv += message["argv"][1:]
        process = subprocess.Popen(argv, env={**os.environ, **around}, preexec_fn=ends_with_this())
        read = 0
        while process.poll() is None:
            read = _report(channel, out / METRICS, read)
            time.sleep(POLL_SECONDS)
        _report(channel, out / METRICS, read)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(message['argv'])}: exit code {process.returncode}")
        found = next((n for n in WEIGHTS if (out / n).is_file()), None)
        weights = (out / found).read_bytes() if found else b""
        channel.send({"done": weights, "format": WEIGHTS.get(found or "", "")})


def log(**numbers: float) -> None:
    """Two lines make a script's measures known: `import cdl; cdl.log(epoch=1, accuracy=0.9)`. Outside a trial: nothing."""
    folder = os.environ.get("CDL_OUT")
    if folder is None:
        return
    with Path(folder, METRICS).open("a") as file:
        file.write(json.dumps({k: float(v) for k, v in numbers.items()}) + "\n")


def _report(channel: Channel, path: Path, read: int) -> int:
    """Sends the whole lines after byte `read`; where to read on."""
    if not path.is_file():
        return read
    with path.open("rb") as file:
        file.seek(read)
        data = file.read()
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError(f"{METRICS}: a line is no object")
        channel.send({"report": {str(k): float(v) for k, v in found.items()}})
    return read + data.rfind(b"\n") + 1
