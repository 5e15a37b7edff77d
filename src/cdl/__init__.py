"""cdl: a team's deep-learning model from raw data to a monitored service and round again.

import cdl
cdl.open(".").data["articles"].take([3, 5])      a project
cdl.log(epoch=1, accuracy=0.9)                   a measure, from an unchanged training script
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
DISTRIBUTION = "continuous-deep-learning"  # the package index knows another project as `cdl`
LAZY = {"open": "cdl.project:open_project", "log": "cdl.model.script:log"}


def __getattr__(name: str) -> Any:
    """`open` and `log`, imported when they are asked for."""
    if name not in LAZY:
        raise AttributeError(f"module 'cdl' has no attribute '{name}'")
    module, _, attribute = LAZY[name].partition(":")
    return getattr(import_module(module), attribute)
