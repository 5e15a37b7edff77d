"""The rows of the data pipeline."""

from cdl.config.joins import in_order
from cdl.config.schema import DataConfig
from cdl.data import gate, versions
from cdl.data.labels import ROLES as LABELERS
from cdl.data.pipeline import pending
from cdl.data.ready import announce
from cdl.workflow.decide import DECIDE
from cdl.workflow.step import Step, Work
from cdl.workflow.workspace import Workspace


def waiting(workspace: Workspace) -> list[Work]:
    """Datasets whose sources, code or version are not as the last run left them, and whose key is here; joined ones first."""
    return [
        Work(
            step="collection",
            subject=name,
            line=f"{name}: {_stages(workspace.config.data[name])}",
            cost=pending.cost(workspace, name),
        )
        for name in in_order(workspace.config.data)
        if workspace.holds_key(name) and pending.pending(workspace, name)
    ]


def _stages(config: DataConfig) -> str:
    return " > ".join(["collect", "split", "ingest", *(name for name, step in config.named_steps() if not step.off)])


def make(workspace: Workspace, work: Work) -> str:
    """Runs the whole pipeline of a dataset; `answers` of the work names a request, `sift` says which files may be taken."""
    made = versions.make(workspace, work.subject, answers=work.options.get("answers"), sift=work.options.get("sift"))
    announce(workspace)
    return made


STEPS = (
    Step(
        name="collection",
        pipeline="data",
        roles=("data_engineer",),
        does="fetches declared sources; items get neutral ids",
        reads="outside sources",
        writes="raw items, sealed",
        command="cdl data run",
        function="cdl.data.pipeline.collect:collect",
        pending=waiting,
        begin=make,
        starts="itself",
    ),
    Step(
        name="splitting",
        pipeline="data",
        roles=("data_engineer",),
        does="gives each item a side that never moves",
        reads="raw items",
        writes="two sets, the sealed ledger",
        command="cdl data run",
        function="cdl.data.pipeline.collect:split",
        optional=True,
    ),
    Step(
        name="ingestion",
        pipeline="data",
        roles=("data_engineer",),
        does="puts the training set into an open tree, the test set into a sealed one",
        reads="two sets",
        writes="ML Data",
        command="cdl data run",
        function="cdl.data.pipeline.ingest:ingest",
    ),
    Step(
        name="versioning",
        pipeline="data",
        roles=("automatic",),
        does="commits one record for all stages",
        reads="ML Data",
        writes="dataset record and head",
        command="cdl data run",
        function="cdl.data.versions:commit",
    ),
    Step(
        name="cleaning",
        pipeline="data",
        roles=("data_engineer",),
        does="runs the same steps on both sets; only what changed runs again",
        reads="ML Data",
        writes="ML Data",
        command="cdl data run",
        function="cdl.data.pipeline.work:work",
        optional=True,
    ),
    Step(
        name="validation",
        pipeline="data",
        roles=("data_engineer",),
        does="sets items aside that are not what they should be, each with its reason",
        reads="ML Data",
        writes="rejected items, sealed; counts per reason",
        command="cdl data run, cdl data rejected",
        function="cdl.data.pipeline.work:work",
        optional=True,
    ),
    Step(
        name="data_gate",
        pipeline="data",
        roles=("data_engineer",),
        does="enough data, good enough?",
        reads="dataset record",
        writes="decision",
        command="cdl approve, cdl reject",
        function=DECIDE,
        gate="data",
        back_to=gate.GATE.back_to,
    ),
    Step(
        name="labeling",
        pipeline="data",
        roles=LABELERS,
        does="keeps every label as a row; a release is a snapshot that training reads",
        reads="items of both sets",
        writes="label rows, label record and head",
        command="cdl label next, cdl label release",
        function="cdl.data.labels:release",
        pending=gate.unreleased,
        begin=gate.begin_release,
        starts="itself",
    ),
    Step(
        name="pipeline_submission",
        pipeline="data",
        roles=("data_engineer",),
        does="offers changed data steps with the version they made",
        reads="definitions",
        writes="an offer; merged by the data gate",
        command="cdl data submit",
        function="cdl.data.submit:submit",
    ),
)
