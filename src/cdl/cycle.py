"""The cycle's table: step, role, reads, writes, gate, back to, function. Rows come as their pipelines do."""

from cdl.data import gate as data_gate
from cdl.data import stages, versions
from cdl.model import review, submit
from cdl.workflow import gates, policy, start
from cdl.workflow.step import Cycle, Step

START = (
    Step(
        name="define_requirements",
        pipeline="start",
        roles=policy.ROLES,
        does="writes down what the model must reach, in a form that later gates check by themselves",
        reads="cdl.yaml",
        writes="the policy in force",
        command="cdl approve policy",
        run=policy.unapproved,
        gate="policy",
        back_to=("define_requirements",),
    ),
    Step(
        name="initial_setup",
        pipeline="start",
        roles=("devops",),
        does="one command: repository, layout, branches, roles, stores, CI",
        reads="an empty folder or an existing repository",
        writes="cdl.yaml, CI files, keys, the first policy",
        command="cdl init",
        run=start.lay_out,
    ),
)

DATA = (
    Step(
        name="collection",
        pipeline="data",
        roles=("data_engineer",),
        does="fetches declared sources; items get neutral ids",
        reads="outside sources",
        writes="raw items, sealed",
        command="cdl data run",
        run=stages.collect,
    ),
    Step(
        name="splitting",
        pipeline="data",
        roles=("data_engineer",),
        does="gives each item a side that never moves",
        reads="raw items",
        writes="two sets, the sealed ledger",
        command="cdl data run",
        run=stages.split,
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
        run=stages.ingest,
    ),
    Step(
        name="versioning",
        pipeline="data",
        roles=("automatic",),
        does="commits one record for all stages",
        reads="ML Data",
        writes="dataset record and head",
        command="cdl data run",
        run=versions.commit,
    ),
    Step(
        name="cleaning_and_validation",
        pipeline="data",
        roles=("data_engineer",),
        does="runs the same steps on both sets; rejected items are kept with their reason",
        reads="ML Data",
        writes="ML Data, rejected items, sealed",
        command="cdl data run",
        run=stages.work,
        optional=True,
    ),
    Step(
        name="data_gate",
        pipeline="data",
        roles=("data_engineer",),
        does="enough data, good enough?",
        reads="dataset record",
        writes="decision",
        command="cdl approve",
        run=data_gate.look,
        gate="data",
        back_to=("collection",),
    ),
)

GATES = (gates.POLICY, gates.REQUEST, data_gate.GATE, submit.SUBMISSION, review.MODEL)
CYCLE = Cycle(steps=(*START, *DATA), gates={g.name: g for g in GATES})
