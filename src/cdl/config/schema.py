"""What cdl.yaml may say. Each field's docstring is its page in the reference."""

from typing import Any, Literal

import msgspec

ROLES = ("data_engineer", "data_labeler", "data_scientist", "model_validator", "software_engineer", "devops")
Role = Literal["data_engineer", "data_labeler", "data_scientist", "model_validator", "software_engineer", "devops"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of cdl.yaml. As plain values it says only what differs from the default: a key that is new here changes no hash."""


class Branches(Section, frozen=True, kw_only=True):
    """Where approved work is joined, and what production runs."""

    integration: str = "main"
    """The branch that decisions, requests and promotions go to."""
    production: str | None = None
    """The branch that names what production runs; left out, the integration branch."""


class Environment(Section, frozen=True, kw_only=True):
    """What everything runs in."""

    lock: str | None = "requirements.lock"
    """The file that pins the packages."""


class Source(Section, frozen=True, kw_only=True):
    """Where raw items come from; exactly one of path, url, bucket and command."""

    path: str | None = None
    """A file, folder or archive, relative to cdl.yaml."""
    url: str | None = None
    """An address; needs sha256, or `unpinned`."""
    sha256: str | None = None
    """The hash that the fetched file must have."""
    unpinned: bool = False
    """What lies at the address may change: each run asks whether it did, and says so. Only https."""
    bucket: str | None = None
    """What lies below a prefix of a bucket: s3://BUCKET/FOLDER, gs:// or az://. Credentials come from the environment."""
    command: list[str] | None = None
    """A program and its arguments that writes files into the folder CDL_OUT."""
    set: Literal["train", "test"] | None = None
    """The set that all items of this source belong to; left out, the split decides."""
    copy: bool = True
    """Whether contents are copied into the store; with false they stay in the folder or bucket, pinned by their hashes."""
    get: str | None = None
    """Where a person gets the file of `path`; said where it is missing."""


class Rows(Section, frozen=True, kw_only=True):
    """Items as the rows of a table."""

    format: Literal["csv", "jsonl", "parquet"]
    """The form of the table; parquet needs the extra `parquet`."""
    id: str
    """The column that names an item."""
    text: str | None = None
    """The column that is the content, text or bytes; left out, all columns but id and label, as JSON."""
    label: str | None = None
    """The column of the label; it never enters the content."""


class Arrays(Section, frozen=True, kw_only=True):
    """Items along the first axis of an array (npy, npz, IDX; gzipped too)."""

    data: str
    """The file that holds the items, or a pattern that one file fits; of a npz file with several arrays "pack.npz#images"."""
    labels: str | None = None
    """The file that holds one label for each, named likewise."""


class Items(Section, frozen=True, kw_only=True):
    """What one item is; exactly one of files, rows and arrays."""

    files: str | None = None
    """A pattern: each file that fits is an item."""
    others: Literal["ignored", "rejected"] = "ignored"
    """What becomes of files that do not fit; rejected ones are kept with that reason."""
    rows: Rows | None = None
    """Each row of a table is an item."""
    arrays: Arrays | None = None
    """Each entry of an array is an item."""


class Split(Section, frozen=True, kw_only=True):
    """How items are given to the training and the test set."""

    test: float = 0.2
    """The share of the test set, 0 to 1."""
    by: str | None = None
    """'module:function' of an item's content; items with equal values stay on one side. Left out, the bytes."""


Column = Literal["text", "number", "integer", "boolean", "text?", "number?", "integer?", "boolean?"]


class Validate(Section, frozen=True, kw_only=True):
    """What every item must be. What is left out is looked at all the same, as what most items are."""

    kind: Literal["text", "image", "row", "array", "bytes"] | None = None
    """What an item is; left out, what its bytes seem to be."""
    columns: dict[str, Column] = {}
    """The type of a column or field, by name; `number?` may be empty. An item without it is invalid."""
    per_class: int | None = None
    """The fewest labeled training items that each class should have; the report says whether it has."""


class Resources(Section, frozen=True, kw_only=True):
    """What a training waits for and holds until it ends; a clone shares what the machine has."""

    cpus: int = 1
    """Processor cores. The environment's CDL_CPUS says how many there are; left out, those that the process may use."""
    gpus: int = 0
    """Accelerators. With any, a trial runs on `cuda` and sees these only, without on `cpu`. CDL_GPUS says how many there are."""


class WorkerResources(Section, frozen=True, kw_only=True):
    """What a worker of a data step waits for and holds until it ends."""

    cpus: int = 1
    """Processor cores, as those of a training."""
    gpus: int = 0
    """Accelerators, as those of a training."""
    memory: int | None = None
    """Megabytes of address space beyond what it starts with; what needs more has failed. Not with accelerators."""


HOW = ("batch", "retries", "timeout", "on_error", "resources")  # of a step: how it is worked, not what it computes


class Step(Section, frozen=True, kw_only=True):
    """A data step, given as `- name: {...}`: either `run` or `join`."""

    run: str | list[str] | None = None
    """'module:function' of an item's content and fields, or of its content; or a program and its arguments. Not in a join."""
    join: str | None = None
    """Instead of `run`: the dataset whose fields (columns, where its items are rows) each item gets beside its own."""
    key: str | None = None
    """With `join`: the field, or the column of a row, that says which item of the other dataset an item belongs to."""
    matches: str | None = None
    """With `join`: the field or column of the other dataset that has the same value; left out, the same name."""
    prefix: str = ""
    """With `join`: what the names of the fields that are added begin with."""
    missing: Literal["aside", "keep"] = "aside"
    """With `join`: what becomes of an item that no item of the other dataset belongs to: set aside, or kept as it is."""
    io: Literal["stdio", "folders"] = "stdio"
    """How a program gets items: one a process, on standard input, answering on standard output; or many, as files in folders."""
    batch: int = 100
    """The most items that a program with `io: folders` gets at a time."""
    per: Literal["item", "group", "all"] = "item"
    """What one piece of work is: an item; a group of a set; or all of a set. Again whenever one changed, came or went."""
    group: str | None = None
    """The field, or the column of a row, whose equal values make a group, with `per: group`."""
    parameters: dict[str, Any] = {}
    """What the function is given by name beside the item; a program finds them as JSON in the file that CDL_PARAMETERS names."""
    retries: int = 0
    """How often an item that failed is tried again."""
    timeout: float | None = None
    """Seconds for one item, of a program for one process; what takes longer is killed and has failed. Left out, no end."""
    on_error: Literal["aside", "stop"] = "stop"
    """What an item that fails does: it stops the run, or is set aside as a rejected one is."""
    resources: WorkerResources | None = None
    """What one worker takes, which also says how many there are; left out, a worker a core, and no slot is waited for."""
    files: list[str] = []
    """Files that it reads beside what it imports."""
    off: bool = False
    """Left out; the record says so."""

    def identity(self) -> dict[str, Any]:
        """What it computes, as plain values: nothing of how it is worked."""
        plain = {key: value for key, value in msgspec.to_builtins(self).items() if key not in HOW}
        return plain if self.group is not None else {key: value for key, value in plain.items() if key != "group"}


class LabelTable(Section, frozen=True, kw_only=True):
    """Labels in a CSV file."""

    path: str
    """The file, relative to cdl.yaml."""
    item: str = "file"
    """The column with an item's source name."""
    label: str = "label"
    """The column with its label."""


class LabelSource(Section, frozen=True, kw_only=True):
    """Where labels come from."""

    folder: bool = False
    """The name of the folder that an item lies in is its label."""
    source: bool = False
    """The source's own label column or labels file."""
    csv: LabelTable | None = None
    """A CSV file."""
    label_studio: str | None = None
    """A file of Label Studio's JSON export."""

    def table(self) -> str | None:
        """The file that they stand in, where they do not come with the items."""
        return self.csv.path if self.csv else self.label_studio


class LabelConfig(Section, frozen=True, kw_only=True):
    """The labels of a dataset."""

    classes: list[str]
    """The classes, in the order of the model's outputs."""
    kind: Literal["choice"] = "choice"
    """One class for an item."""
    origin: LabelSource | None = None
    """Where labels come from; left out, from people."""
    resolve: Literal["latest", "majority", "adjudicated"] = "latest"
    """Which label of an item counts when there are several."""
    coverage: float = 1.0
    """The share of items that must be labeled before the dataset is ready, 0 to 1."""


class DataConfig(Section, frozen=True, kw_only=True):
    """A dataset."""

    source: Source | list[Source]
    """One source or several."""
    items: Items
    """What one item is."""
    split: Split = Split()
    """Training and test set."""
    steps: list[dict[str, Step]] = []
    """The data steps, in order."""
    require: list[str] = []
    """What the data gate checks: items, train, test, rejected, set_aside; invalid, duplicates, alike, leaked."""
    validate: Validate = Validate()
    """What every item must be; what was found stands in the report and is told by `cdl data run`."""
    labels: LabelConfig | None = None
    """The labels; left out, none yet: such a dataset has versions, and nothing learns from it."""
    mask: list[str] = []
    """Fields that analysis and training do not see."""

    def sources(self) -> list[Source]:
        """The sources as a list."""
        return self.source if isinstance(self.source, list) else [self.source]

    def paths(self) -> list[str]:
        """The files and folders that hold items or labels, relative to cdl.yaml."""
        found = [s.path for s in self.sources() if s.path]
        origin = self.origin()
        if origin is not None:
            found += [p for p in (origin.label_studio, origin.csv.path if origin.csv else None) if p]
        return found

    def origin(self) -> LabelSource | None:
        """Where labels come from; None for people, and where there are none yet."""
        return self.labels.origin if self.labels is not None else None

    def named_steps(self) -> list[tuple[str, Step]]:
        """The steps as (name, step)."""
        return [pair for step in self.steps for pair in step.items()]

    def joins(self) -> list[str]:
        """The datasets that its steps join, each once."""
        return list(dict.fromkeys(s.join for _, s in self.named_steps() if s.join is not None and not s.off))


class Range(Section, frozen=True, kw_only=True):
    """What a search may try for one hyperparameter."""

    min: float | None = None
    """The smallest value."""
    max: float | None = None
    """The largest value."""
    log: bool = False
    """Spread evenly over magnitudes."""
    int: bool = False
    """Whole numbers only."""
    choice: list[Any] | None = None
    """One of these."""


class Search(Section, frozen=True, kw_only=True):
    """A search over hyperparameters."""

    space: dict[str, Range]
    """What to try, by hyperparameter."""
    metric: str = "validation.accuracy"
    """What decides."""
    mode: Literal["max", "min"] = "max"
    """Whether more is better."""
    method: Literal["asha", "random", "grid"] = "asha"
    """Asynchronous successive halving, or one of the plain ones."""
    max_trials: int = 16
    """How many trials."""
    min_epochs: int = 1
    """Epochs of the first rung."""
    max_epochs: int = 27
    """Epochs of the last rung."""
    eta: int = 3
    """One in so many goes on to the next rung."""
    workers: int = 2
    """Trials at a time; fewer where not so many fit the machine with what `resources` says."""
    seed: int = 0
    """What the choices are drawn with."""


class Transform(Section, frozen=True, kw_only=True):
    """A transformation with parameters."""

    run: str
    """'module:Class' with fit(items, **parameters), state(), from_state(state) and a call on items."""
    parameters: dict[str, Any] = {}
    """What `fit` is given beside the items."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """A model."""

    use: str | None = None
    """What it is meant for, and what not, for people; shown on its page. Changing it trains nothing again."""
    data: str
    """The dataset that it learns from."""
    input: Literal["image", "text", "bytes", "row", "array"] | None = None
    """What a request to its service holds; left out, whatever comes, until an implementation says so."""
    train: str | list[str]
    """'module:function' that trains, called with a context; or a program and its arguments, an unchanged script."""
    network: str | None = None
    """'module:function' of the hyperparameters that gives a torch module; its outputs are logits."""
    predict: str | None = None
    """'module:function' of weights and inputs that gives probabilities, for models without torch."""
    pretrained: str | None = None
    """What training begins with: the id of a registered model, or a safetensors file."""
    transform: str | Transform | None = None
    """'module:Class', or a section; fitted on the training part. Left out, items are npy arrays."""
    validation: float = 0.2
    """The share of the training set that validates, 0 to 1."""
    hyperparameters: dict[str, Any] = {}
    """Their values, unless a search or --set says otherwise."""
    epochs: int = 10
    """Passes over the training part."""
    seed: int = 0
    """What training is drawn with."""
    threads: int = 1
    """Threads of a trial; another number gives other weights."""
    search: Search | None = None
    """The search of `cdl search`."""
    resources: Resources = Resources()
    """What a trial takes while it trains."""
    files: list[str] = []
    """Files that it reads beside what it imports."""
    tests: str | None = None
    """A file of test cases that the evaluation runs."""
    metrics: list[str] = []
    """'module:function' of truth, predicted and probabilities; each gives one number."""

    def transformation(self) -> Transform | None:
        """The transformation as a section."""
        return Transform(run=self.transform) if isinstance(self.transform, str) else self.transform


class Stage(Section, frozen=True, kw_only=True):
    """Where a model is served."""

    replicas: int = 1
    """Workers that answer."""
    port: int = 0
    """The port on loopback; 0 takes a free one."""
    spare: bool = True
    """One more worker, loaded and waiting: it takes the place of one that was killed, at once."""


class Compression(Section, frozen=True, kw_only=True):
    """A way to make a model smaller."""

    quantize: Literal["int8"]
    """Eight-bit weights."""


class DeployConfig(Section, frozen=True, kw_only=True):
    """How a model is served."""

    model: str
    """The model."""
    compress: list[Compression] = []
    """Compressions, in order."""
    stages: dict[str, Stage] = {}
    """Where it runs, for example staging and production."""
    window: int = 500
    """Requests in one monitoring window."""


Action = Literal["evaluate", "train", "collect", "deployment"]


class TriggerConfig(Section, frozen=True, kw_only=True):
    """Work that an event starts."""

    when: Literal["dataset.ready", "monitor.drift", "model.promoted"]
    """The event."""
    run: Action | list[Action]
    """What it starts. dataset.ready: evaluate, train; monitor.drift: collect; model.promoted: deployment."""
    of: str
    """The model; of a collection the dataset."""
    count: int = 100
    """How many inputs a collection asks for."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it starts, as a sequence."""
        return (self.run,) if isinstance(self.run, str) else tuple(self.run)

    @property
    def name(self) -> str:
        """What tells it from others: 'dataset.ready evaluate,train reader'."""
        return f"{self.when} {','.join(self.actions)} {self.of}"


class Evaluation(Section, frozen=True, kw_only=True):
    """How models are evaluated."""

    isolation: Literal["required", "available"] = "available"
    """Whether an evaluation is refused where a wall is missing."""
    evaluations: int = 20
    """How many evaluations one test version may answer."""


class Config(Section, frozen=True, kw_only=True):
    """A project."""

    cdl: Literal[1]
    """The version of this file's form."""
    project: str
    """The project's name."""
    store: str | None = None
    """Where clones share what git does not hold: s3://, gs:// or az://BUCKET/FOLDER, or a folder. Each clone confirms it."""
    sync: Literal["auto", "off"] = "off"
    """Whether each command that changed something ends with `cdl sync`."""
    branches: Branches = Branches()
    """Integration and production branch."""
    requirements: list[str] = []
    """What the model must reach, for example `test.accuracy >= 0.80`."""
    feasibility: str | None = None
    """Why the requirements can be reached, for people; shown in every review."""
    risks: list[str] = []
    """What may make it fail, for people to weigh; shown in every review."""
    roles: dict[Role, list[str]] = {}
    """Who holds which role, by mail address; left out, one person holds all."""
    environment: Environment = Environment()
    """What everything runs in."""
    data: dict[str, DataConfig] = {}
    """Datasets by name."""
    model: dict[str, ModelConfig] = {}
    """Models by name."""
    deploy: dict[str, DeployConfig] = {}
    """Services by name."""
    triggers: list[TriggerConfig] = []
    """Work that events start."""
    evaluation: Evaluation = Evaluation()
    """How models are evaluated."""
    notify: str | None = None
    """A program called with each decision that waits for somebody."""
