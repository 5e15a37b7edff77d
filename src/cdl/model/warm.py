"""What the template of torch trials does once, so that each trial forked from it need not.

After a bare import the first step of an optimizer still costs most of a second, since torch imports much when it is first used.
The step is done at one thread: a fork of a process that used more waits for ever for threads that did not come along. Each
fork sets its own number before it works (`settle`), and its generators start anew, as in a new interpreter.
"""

import ctypes
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from cdl.optional import optional

STEP = "cdl.model.warm:step"
BLAS = ("openblas_set_num_threads", "scipy_openblas_set_num_threads64_")  # as is, and as numpy's own builds call it


def step() -> Callable[[int], None]:
    """Imports torch and the trainer, trains a small network for a step; what each fork calls first."""
    torch = optional("torch")
    torch.set_num_threads(1)
    optional("safetensors.numpy")
    import_module("cdl.model.trainer")
    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2)
    )
    optimizer = torch.optim.AdamW(network.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    loss = nn.functional.cross_entropy(network(torch.zeros(2, 1, 4, 4)), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    scheduler.step()
    return settle


def settle(threads: int) -> None:
    """In a fork: its own number of threads, and random numbers that do not come from the template."""
    torch = sys.modules["torch"]
    torch.set_num_threads(threads)
    _blas(threads)
    np.random.seed()
    torch.default_generator.seed()


def _blas(threads: int) -> None:
    """Sets the threads of numpy's OpenBLAS, which reads the environment only when it is loaded."""
    if sys.platform != "linux" or threads == 1:
        return
    lines = Path("/proc/self/maps").read_text().splitlines()
    for path in {line.split()[-1] for line in lines if "openblas" in line.rpartition("/")[2]}:
        library = ctypes.CDLL(path)
        for name in BLAS:
            if hasattr(library, name):
                getattr(library, name)(threads)
