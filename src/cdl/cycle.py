"""The cycle's table: step, role, reads, writes, gate, back to, function. Each pipeline brings its rows."""

from cdl.config.schema import ROLES
from cdl.data import gate as data_gate
from cdl.data import ready
from cdl.data import steps as data
from cdl.data.history import rewrite
from cdl.deployment import gates as deployment_gates
from cdl.deployment import steps as deployment
from cdl.model import review, stale, submit
from cdl.model import steps as model
from cdl.monitoring import steps as monitoring
from cdl.workflow import gates, wrapping
from cdl.workflow.decide import DECIDE
from cdl.workflow.step import Cycle, Step
from cdl.workflow.workspace import Workspace

START = (
    Step(
        name="define_requirements",
        pipeline="start",
        roles=ROLES,
        does="writes down what the model must reach, in a form that later gates check by themselves",
        reads="cdl.yaml",
        writes="the policy in force",
        command="cdl approve policy",
        function=DECIDE,
        gate="policy",
        back_to=gates.POLICY.back_to,
    ),
    Step(
        name="initial_setup",
        pipeline="start",
        roles=("devops",),
        does="one command: repository, layout, branches, roles, stores, CI",
        reads="an empty folder or an existing repository",
        writes="cdl.yaml, CI files, keys, the first policy",
        command="cdl init",
        function="cdl.project:init",
    ),
)
GATES = (
    gates.POLICY,
    gates.REQUEST,
    data_gate.GATE,
    submit.SUBMISSION,
    review.MODEL,
    deployment_gates.IMPLEMENTATION,
    deployment_gates.REVISION,
)
KEEPING = (  # what no row of the paper is: keys follow the members, whichever pipeline runs
    Step(
        name="key_wrapping",
        pipeline="start",
        roles=("automatic",),
        does="wraps the keys of datasets for the members of the policy in force; renews them when one left",
        reads="members, keyring",
        writes="registry/keys",
        command="cdl run",
        function="cdl.workflow.wrapping:wrap",
        pending=wrapping.unwrapped,
        begin=wrapping.begin,
        starts="itself",
    ),
    Step(
        name="resealing",
        pipeline="data",
        roles=("data_engineer",),
        does="seals the current version again after the keys were renewed, where the policy asks for it",
        reads="dataset version",
        writes="dataset version",
        command="cdl run",
        function="cdl.data.history.rewrite:rewrite",
        pending=rewrite.unrewritten,
        begin=rewrite.begin,
        starts="itself",
    ),
)
TRIGGERS = monitoring.TRIGGERS
CYCLE = Cycle(
    steps=(*START, *data.STEPS, monitoring.TRIGGER, *model.STEPS, *deployment.STEPS, *monitoring.STEPS),
    gates={gate.name: gate for gate in GATES},
    keeping=KEEPING,
)


def announce(workspace: Workspace) -> None:
    """Tells the journal what became true, whoever made it so: datasets that are ready, reviews that are stale."""
    ready.announce(workspace)
    stale.announce(workspace)
