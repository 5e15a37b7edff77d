"""The parts of cdl.yaml that decide who may do what and what is asked of a model: the policy.

`policy_parts` takes them out, `with_parts` puts those of an approved policy in the place of what somebody wrote since.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cdl.config.schema import Config

WHOLE = ("roles", "requirements", "feasibility", "risks", "branches", "triggers", "notify", "evaluation", "environment")
OF_DATA = ("split", "mask", "labels", "require", "validate")
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


def with_parts(config: Config, parts: Mapping[str, Any]) -> Config:
    """cdl.yaml with other deciding parts. A dataset or model that the parts do not name stands as written."""
    plain = msgspec.to_builtins(config)
    for key in WHOLE:
        plain.pop(key, None)
        if key in parts:
            plain[key] = parts[key]
    for kind, deciding in (("data", OF_DATA), ("model", OF_MODEL)):
        for name, section in plain.get(kind, {}).items():
            if name in parts[kind]:
                plain[kind][name] = {k: v for k, v in section.items() if k not in deciding} | parts[kind][name]
    return msgspec.convert(plain, Config)


def differing(config: Config, parts: Mapping[str, Any]) -> list[str]:
    """The deciding keys in which cdl.yaml is not what the parts say: 'triggers', 'data.points.mask'."""
    written, agreed = policy_parts(config), policy_parts(with_parts(config, parts))
    found = [key for key in WHOLE if written.get(key) != agreed.get(key)]
    for kind, deciding in (("data", OF_DATA), ("model", OF_MODEL)):
        for name, section in written[kind].items():
            found += [f"{kind}.{name}.{k}" for k in deciding if section.get(k) != agreed[kind][name].get(k)]
    return found


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
