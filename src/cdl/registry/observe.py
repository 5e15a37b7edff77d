"""Which events a commit stands for: the same for the person who made it and for everyone who pulls it.

A record that appears is an event about that record; a head that moves is an event about that head. Ids come from what
is recorded, so the commit may be made here, pulled, merged, rebased or reverted: one id for one fact.
"""

from typing import Any

import msgspec

from cdl.registry.records import (
    AnyHead,
    AnyRecord,
    Dataset,
    Decision,
    DeploymentHead,
    Labels,
    Model,
    ModelHead,
    Package,
    Request,
    Transformation,
)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event and its own fields; `about` is what its id is made of."""

    kind: str
    about: str
    fields: dict[str, Any]


def facts_of_record(identity: str, record: AnyRecord) -> list[Fact]:
    """The events about a record that appeared."""
    match record:
        case Dataset():
            fact = Fact(kind="dataset.versioned", about=identity, fields={"name": record.name, "version": identity})
        case Labels():
            fields = {"name": record.name, "version": identity, "dataset": record.dataset}
            fact = Fact(kind="labels.released", about=identity, fields=fields)
        case Transformation():
            fact = Fact(kind="transformation.fitted", about=identity, fields={"version": identity})
        case Model():
            compressed = (record.origin or {}).get("by") == "compression"
            kind = "model.compressed" if compressed else "model.registered"
            fact = Fact(kind=kind, about=identity, fields={"name": record.name, "model": identity})
        case Package():
            fact = Fact(kind="package.built", about=identity, fields={"package": identity, "model": record.model})
        case Decision():
            fields = {"decision": identity, "gate": record.gate, "subject": record.subject, "verdict": record.verdict}
            fact = Fact(kind="decision.made", about=identity, fields=fields)
        case Request():
            fact = Fact(kind="request.opened", about=identity, fields={"request": identity, "step": record.to["step"]})
    answered = getattr(record, "answers", None)
    if isinstance(record, Decision) and record.gate == "request":
        answered = record.subject
    if not answered:
        return [fact]
    return [fact, Fact(kind="request.answered", about=identity, fields={"request": answered, "by": identity})]


def facts_of_head(path: str, head: AnyHead) -> list[Fact]:
    """The events about a head that moved; datasets and labels speak through their records."""
    name = path.rsplit("/", 1)[-1].removesuffix(".yaml")
    if isinstance(head, ModelHead):
        fields = {"name": name, "model": head.promoted, "before": head.before}
        return [Fact(kind="model.promoted", about=path, fields=fields)]
    if isinstance(head, DeploymentHead):
        fields = {"stage": name, "package": head.package, "before": head.before}
        return [Fact(kind="deployment.applied", about=path, fields=fields)]
    return []
