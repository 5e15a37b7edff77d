"""Everything that a training needs to go on as if it had never stopped, in one safetensors file.

Parts are arrays, or things with state_dict() and load_state_dict() (a torch module, optimizer, scheduler, sampler). Tensors
and arrays are kept as such, everything else as JSON in the file's metadata, together with the generators of Python, numpy and
torch. No pickle. Resuming gives the same weights to the bit, on the same machine with the same number of threads.
"""

import json
import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdl.optional import optional

FORMAT = "cdl-checkpoint-1"
GENERATORS = "generators"  # the part that holds the state of random numbers
MODEL = "model"  # the part that weights are taken from


def pack(epoch: int, parts: Mapping[str, Any]) -> bytes:
    """A checkpoint after `epoch` epochs. TypeError names a value that is neither array, tensor nor JSON."""
    arrays: dict[str, NDArray[Any]] = {}
    states = {name: _state(part) for name, part in parts.items()}
    if GENERATORS in states:
        raise TypeError(f"a part may not be called '{GENERATORS}'")
    states[GENERATORS] = generators()
    plain = {name: _flatten(state, name, arrays) for name, state in states.items()}
    kept = json.dumps({"format": FORMAT, "epoch": epoch, "parts": plain}, sort_keys=True)
    return bytes(optional("safetensors.numpy").save(arrays, metadata={"cdl": kept}))


def unpack(data: bytes) -> tuple[int, dict[str, Any]]:
    """The epoch and the parts' states of a checkpoint. ValueError when it is none."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    content = json.loads(header["__metadata__"]["cdl"])
    if content["format"] != FORMAT:
        raise ValueError("another format of checkpoint")
    arrays = optional("safetensors.numpy").load(data)
    return int(content["epoch"]), {name: _build(part, arrays) for name, part in content["parts"].items()}


def restore(data: bytes, parts: Mapping[str, Any]) -> int:
    """Puts the states of a checkpoint into parts, and the generators back; the epoch it was taken after."""
    epoch, states = unpack(data)
    for name, part in parts.items():
        if name not in states:
            raise ValueError(f"the checkpoint holds no part '{name}': it has {', '.join(states)}")
        if isinstance(part, dict):
            part.clear()
            part.update(states[name])
        else:
            part.load_state_dict(_tensors(states[name]))
    set_generators(states[GENERATORS])
    return epoch


def weights(data: bytes) -> bytes:
    """The safetensors file of the model part of a checkpoint. ValueError when there is none."""
    _, states = unpack(data)
    if MODEL not in states:
        raise ValueError("no part 'model' was saved: context.save(epoch, model=...)")
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in states[MODEL].items():
        if not isinstance(value, np.ndarray):
            raise ValueError(f"model: {name} is no array")
        arrays[name] = value
    return bytes(optional("safetensors.numpy").save(arrays))


def seed(number: int) -> None:
    """Seeds the generators of Python, numpy, and torch where it is imported; torch is made deterministic."""
    random.seed(number)
    np.random.seed(number % (1 << 32))
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(number)
        torch.use_deterministic_algorithms(True, warn_only=True)


def generators() -> dict[str, Any]:
    """The state of the generators of Python, numpy, and torch where it is imported."""
    version, numbers, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state()
    found: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys), place, has_gauss, cached],
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_generators(state: Mapping[str, Any]) -> None:
    """Puts the generators back."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys, place, has_gauss, cached))
    if "torch" in state:
        torch = optional("torch")
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.from_numpy(s) for s in state["cuda"]])


def _state(part: Any) -> Any:
    return part if isinstance(part, dict) else part.state_dict()


def _flatten(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """JSON with arrays taken out: {"array": path}; a mapping becomes pairs, since optimizers key by numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        arrays[path] = np.ascontiguousarray(value)
        return {"array": path, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {"pairs": [[k, _flatten(v, f"{path}.{k}", arrays)] for k, v in value.items() if _keyed(k, path)]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(v, f"{path}.{i}", arrays) for i, v in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"{path}: {type(value).__name__} cannot be kept in a checkpoint")


def _keyed(key: Any, path: str) -> bool:
    if not isinstance(key, str | int):
        raise TypeError(f"{path}: a key of type {type(key).__name__} cannot be kept in a checkpoint")
    return True


def _build(value: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    if "array" in value:
        return arrays[value["array"]].reshape(value["shape"])
    if "pairs" in value:
        return {k: _build(v, arrays) for k, v in value["pairs"]}
    if "list" in value:
        return [_build(v, arrays) for v in value["list"]]
    return value["value"]


def _tensors(value: Any) -> Any:
    """Arrays as torch tensors, for load_state_dict."""
    if isinstance(value, np.ndarray):
        return optional("torch").from_numpy(value.copy())
    if isinstance(value, dict):
        return {k: _tensors(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_tensors(v) for v in value]
    return value
