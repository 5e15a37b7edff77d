"""optional packages, each imported through one function that names the extra to install.

torch = optional("torch")            Unavailable: torch is not installed ... pip install 'continuous-deep-learning[train]'
require("onnx", "onnxruntime")       the same before a process is started that will need them; nothing is imported
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cdl import DISTRIBUTION
from cdl.errors import Unavailable

EXTRAS = {
    "torch": "train",
    "safetensors": "serve",
    "onnx": "train",
    "onnxscript": "train",
    "matplotlib": "train",
    "onnxruntime": "serve",
    "scipy": "serve",
    "uvicorn": "serve",
    "uvloop": "serve",
    "httptools": "serve",
    "obstore": "bucket",
    "pyarrow": "parquet",
}


def optional(name: str) -> Any:
    """The module of a package that an extra brings ('scipy.stats'). Unavailable when it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise _missing((error.name or name).partition(".")[0], name) from error


def require(*names: str) -> None:
    """Unavailable unless packages are installed; nothing is imported."""
    for name in names:
        if not present(name):
            raise _missing(name.partition(".")[0], name)


def present(name: str) -> bool:
    """Whether a package is installed."""
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _missing(package: str, asked: str) -> Unavailable:
    extra = EXTRAS.get(package) or EXTRAS.get(asked.partition(".")[0], "all")
    return Unavailable(f"{package} is not installed", remedy=f"pip install '{DISTRIBUTION}[{extra}]'")
