"""The cycle's table: step, role, reads, writes, gate, back to, function. Rows come as their pipelines do."""

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

CYCLE = Cycle(steps=START, gates={g.name: g for g in (gates.POLICY, gates.REQUEST)})
