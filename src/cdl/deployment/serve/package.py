"""A package: an immutable folder with everything that a service needs, and nothing else.

package.json    {format, name, model, kind, call, hyperparameters, transform, output: {kind, classes}, input: {shape}, schema}
weights         an ONNX graph or a safetensors file
state/...       the fitted transformation
code/...        the model's own source, exactly its closure
reference/...   a sample of what the model saw in validation, for monitoring
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.errors import Corrupt
from cdl.model.runtime import Loaded, load, probabilities

FORMAT = 1


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded package."""

    name: str
    model: str
    classes: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    schema: Mapping[str, Any] | None
    loaded: Loaded

    def transform(self, items: Sequence[bytes]) -> NDArray[np.float32]:
        """Inputs (n, ...) of item contents. Raises what the transformation raises for content that it cannot read."""
        found = self.loaded.transform(list(items))
        if found.shape != (len(items), *self.shape):
            raise ValueError(f"the transformation gave shape {found.shape}, not {(len(items), *self.shape)}")
        return found

    def forward(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (n, classes)."""
        return probabilities(self.loaded.forward(inputs), self.output, len(inputs), len(self.classes))


def open_package(folder: Path) -> Served:
    """Loads a package and predicts once on zeros, so that the first request is as fast as the next. Corrupt."""
    try:
        content = json.loads((folder / "package.json").read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"not a package: {error!r}", where=str(folder), remedy="cdl deploy apply") from error
    sys.path.insert(0, str(folder / "code"))
    state = {p.name: p.read_bytes() for p in sorted((folder / "state").glob("*"))}
    spec = {key: content[key] for key in ("kind", "call", "hyperparameters", "transform")}
    served = Served(
        name=content["name"],
        model=content["model"],
        classes=tuple(content["output"]["classes"]),
        output=content["output"]["kind"],
        shape=tuple(content["input"]["shape"]),
        schema=content["schema"],
        loaded=load(spec, (folder / "weights").read_bytes(), state),
    )
    served.forward(np.zeros((1, *served.shape), dtype=np.float32))
    return served
