"""Records are immutable files named by their own bytes; heads are small files that point to them.

    registry/models/news/m-0c5e8b37....yaml      a record: prefix and 32 hex digits (128 bits) of the blake3 of the file's bytes
    registry/models/news.yaml                    a head:   {promoted: m-0c5e8b37..., before: null}

Dataset, labels, transformation and package are functions of their inputs and hold no person and no time, so equal work
gives the equal file. Models, decisions and requests hold who and when. Fields hold ids, never names of branches.
"""

import re
from typing import Any, ClassVar, Literal, TypeVar

import msgspec
from blake3 import blake3

from cdl import document
from cdl.errors import Corrupt

ID_DIGITS = 32  # hex digits of a record's id: 128 bits
SHORT_DIGITS = 8  # what people see and type
ID_PATTERN = re.compile(r"^[a-z]-[0-9a-f]{8,32}$")

Gate = Literal["data", "policy", "submission", "model", "implementation", "revision", "request"]
Verdict = Literal["approve", "reject", "submit", "withdraw", "answer", "decline"]
Json = dict[str, Any]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a record."""


class Made(Part, frozen=True, kw_only=True):
    """Who made a record, when (UTC, ISO 8601), and the event that caused it."""

    who: str
    role: str | None = None
    when: str
    cause: str | None = None


class Source(Part, frozen=True, kw_only=True):
    """One declared source as it was fetched; `raw` is the sealed tree of what came."""

    path: str | None = None
    url: str | None = None
    command: list[str] | None = None
    set: str | None = None
    sha256: str | None = None
    bucket: str | msgspec.UnsetType = msgspec.UNSET  # not written where it is not there, as in records before it
    raw: str


class Split(Part, frozen=True, kw_only=True):
    """How sides were given. `ledger` (sealed) joins source names, ids and sides."""

    test: float
    by: str | None = None
    code: str | None = None
    ledger: str
    set_aside: Json


class Lookup(Part, frozen=True, kw_only=True):
    """What a step joined: a version of another dataset, the fields that have the same value in both, and those left out (masked).

    A field that is None is the column that names the rows of a table.
    """

    version: str
    key: str | None = None
    matches: str | None = None
    without: list[str] = []


class Stage(Part, frozen=True, kw_only=True):
    """What one data step left: an open tree of the training set and a sealed tree of the test set."""

    name: str
    train: str
    test: str
    code: str | None = None
    environment: str | None = None
    joined: Lookup | msgspec.UnsetType = (
        msgspec.UNSET
    )  # of a join; not written where it is none, as in records before it


class Joined(Part, frozen=True, kw_only=True):
    """That a version joins the one before it with another one, and what both came from."""

    theirs: str
    base: str | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all records share."""

    prefix: ClassVar[str]
    folder: ClassVar[str]


class Dataset(Record, tag="dataset", frozen=True, kw_only=True):
    """A version of the items of both sets after the data steps."""

    prefix = "d"
    folder = "datasets"
    name: str
    parent: str | None = None
    answers: str | None = None
    sources: list[Source]
    split: Split
    steps: list[Stage]
    items: dict[str, int]
    skipped: list[str] = []
    data_key: str
    rejected: Json
    joined: Joined | msgspec.UnsetType = msgspec.UNSET  # not written where it is not there, as in records before it

    @property
    def train(self) -> str:
        """The open tree of the training set after the last step."""
        return self.steps[-1].train

    @property
    def test(self) -> str:
        """The sealed tree of the test set after the last step."""
        return self.steps[-1].test

    @property
    def lookups(self) -> dict[str, Lookup]:
        """What its steps joined, by step."""
        return {stage.name: stage.joined for stage in self.steps if isinstance(stage.joined, Lookup)}

    @property
    def objects(self) -> list[str]:
        """The trees and the ledger that it names."""
        stages = [name for stage in self.steps for name in (stage.train, stage.test)]
        aside = [self.split.set_aside.get("tree"), self.rejected.get("tree")]
        return [*stages, *(s.raw for s in self.sources), self.split.ledger, *(name for name in aside if name)]


class Labels(Record, tag="labels", frozen=True, kw_only=True):
    """A released snapshot: every row so far, resolved by one rule."""

    prefix = "l"
    folder = "labels"
    name: str
    dataset: str
    resolve: str
    coverage: dict[str, float]
    values: Json
    rows: dict[str, str]


class Transformation(Record, tag="transformation", frozen=True, kw_only=True):
    """Preprocessing as fitted on the training part; `state` is data, never a pickle."""

    prefix = "t"
    folder = "transformations"
    call: str
    code: str
    parameters: Json
    fitted_on: Json
    state: str
    stored: str | None = None


class Model(Record, tag="model", frozen=True, kw_only=True):
    """A registered model, complete in itself."""

    prefix = "m"
    folder = "models"
    name: str
    made: Made
    origin: Json | None = msgspec.field(default=None, name="from")
    answers: str | None = None
    code: Json
    data: Json
    transformation: str | None
    environment: Json
    trial: Json
    weights: str
    metrics: dict[str, float]
    output: Json
    schema: Json | None = None
    skipped: list[str] = []


class Package(Record, tag="package", frozen=True, kw_only=True):
    """A servable folder, named by its tree."""

    prefix = "p"
    folder = "packages"
    model: str
    transformation: str | None
    tree: str
    wrapper: str
    environment: Json
    skipped: list[str] = []


class Decision(Record, tag="decision", frozen=True, kw_only=True):
    """A recorded verdict at a gate, with everything that was seen."""

    prefix = "x"
    folder = "decisions"
    gate: Gate
    subject: str
    verdict: Verdict
    made: Made
    because: str | None = None
    policy: str | None
    seen: Json
    after: list[str] = []
    requirements: list[Json] = []
    despite: str | None = None
    request: str | None = None
    document: Json | None = None


class Request(Record, tag="request", frozen=True, kw_only=True):
    """Work sent back: a step, a role, a reason, and the evidence."""

    prefix = "r"
    folder = "requests"
    to: dict[str, str]
    subject: str | None
    made: Made
    because: str
    evidence: list[str] = []


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A small file that points to what is current."""

    folder: ClassVar[str]


class DatasetHead(Head, frozen=True, kw_only=True):
    """The current version of a dataset."""

    folder = "datasets"
    version: str
    before: str | None = None


class LabelsHead(Head, frozen=True, kw_only=True):
    """The current label snapshot of a dataset."""

    folder = "labels"
    version: str
    before: str | None = None


class ModelHead(Head, frozen=True, kw_only=True):
    """The promoted model."""

    folder = "models"
    promoted: str
    before: str | None = None


class DeploymentHead(Head, frozen=True, kw_only=True):
    """What a stage should run."""

    folder = "deployments"
    package: str
    manifest: str
    before: str | None = None
    because: str | None = None


AnyRecord = Dataset | Labels | Transformation | Model | Package | Decision | Request
AnyHead = DatasetHead | LabelsHead | ModelHead | DeploymentHead
RECORDS: dict[str, type[Record]] = {
    r.prefix: r for r in (Dataset, Labels, Transformation, Model, Package, Decision, Request)
}
HEADS: dict[str, type[Head]] = {h.folder: h for h in (DatasetHead, LabelsHead, ModelHead, DeploymentHead)}
R = TypeVar("R", bound=Record)


def encode(record: Record) -> tuple[str, str, bytes]:
    """The id, the path in the repository and the bytes of a record."""
    data = document.write(msgspec.to_builtins(record, order="deterministic"))  # equal content, equal bytes
    identity = f"{record.prefix}-{blake3(data).hexdigest()[:ID_DIGITS]}"
    return identity, record_path(record, identity), data


def record_path(record: Record, identity: str) -> str:
    """Where a record stands in the repository."""
    folder = record.folder
    if isinstance(record, Dataset | Labels | Model):
        folder = f"{folder}/{record.name}"
    elif isinstance(record, Decision):
        folder = f"{folder}/{record.made.when[:4]}"
    return f"registry/{folder}/{identity}.yaml"


def decode(path: str, data: bytes) -> AnyRecord:
    """The record in `data`; Corrupt when its name is not the hash of its content or its form is wrong."""
    identity = path.rsplit("/", 1)[-1].removesuffix(".yaml")
    prefix, _, digits = identity.partition("-")
    if blake3(data).hexdigest()[:ID_DIGITS] != digits or prefix not in RECORDS:
        raise Corrupt("the name is not the hash of the content", where=path, remedy=f"git log -- {path}")
    return _convert(path, data, RECORDS[prefix])  # type: ignore[no-any-return]


def is_record(path: str) -> bool:
    """Whether a path of the registry names an immutable record."""
    stem = path.rsplit("/", 1)[-1].removesuffix(".yaml")
    return path.startswith("registry/") and path.endswith(".yaml") and ID_PATTERN.match(stem) is not None


def key_path(dataset: str) -> str:
    """Where the public halves of a dataset's keys stand."""
    return f"registry/keys/{dataset}.yaml"


def head_path(head: type[Head], name: str) -> str:
    """Where a head stands in the repository."""
    return f"registry/{head.folder}/{name}.yaml"


def encode_head(head: Head) -> bytes:
    """The bytes of a head."""
    return document.write(msgspec.to_builtins(head))


def decode_head(path: str, data: bytes) -> AnyHead:
    """The head in `data`; Corrupt when its form is wrong."""
    return _convert(path, data, HEADS[path.split("/")[1]])  # type: ignore[no-any-return]


def pointed(head: Head) -> str:
    """The id that a head names."""
    return str(
        getattr(head, "promoted", None) or getattr(head, "package", None) or getattr(head, "version", None) or ""
    )


def is_head(path: str) -> bool:
    """Whether a path of the registry is a head."""
    parts = path.split("/")
    return (
        len(parts) == 3
        and parts[0] == "registry"
        and parts[1] in HEADS
        and parts[2].endswith(".yaml")
        and not is_record(path)
    )


def short(identity: str) -> str:
    """An id as people see it."""
    prefix, _, digits = identity.partition("-")
    return f"{prefix}-{digits[:SHORT_DIGITS]}" if digits else identity[:SHORT_DIGITS]


def _convert(path: str, data: bytes, into: type[Any]) -> Any:
    try:
        return msgspec.convert(document.read(data, where=path).value, into)
    except msgspec.ValidationError as error:
        raise Corrupt(str(error), where=path, remedy=f"git log -- {path}") from error
