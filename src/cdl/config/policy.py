"""The parts of cdl.yaml that decide who may do what and what is asked of a model: the policy."""

from typing import Any

import msgspec

from cdl.config.schema import Config

WHOLE = ("roles", "requirements", "branches", "triggers", "notify", "evaluation", "environment")
OF_DATA = ("split", "mask", "labels", "require")
OF_MODEL = ("metrics", "tests")


def policy_parts(config: Config) -> dict[str, Any]:
    """The deciding parts as plain values; what is left out or empty is not there."""
    plain = msgspec.to_builtins(config)
    parts = {key: plain[key] for key in WHOLE if plain.get(key)}
    parts["data"] = {name: {k: data[k] for k in OF_DATA if data.get(k)} for name, data in plain.get("data", {}).items()}
    parts["model"] = {
        name: {k: model[k] for k in OF_MODEL if model.get(k)} for name, model in plain.get("model", {}).items()
    }
    return parts


def policy_entries(config: Config) -> dict[str, str]:
    """The code that the policy names: what names it, and 'module:function' or a file's path."""
    found = {}
    for name, data in config.data.items():
        if data.split.by:
            found[f"split:{name}"] = data.split.by
    for name, model in config.model.items():
        for metric in model.metrics:
            found[f"metrics:{name}:{metric}"] = metric
        if model.tests:
            found[f"tests:{name}"] = model.tests
    return found
