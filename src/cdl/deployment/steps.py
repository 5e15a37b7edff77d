"""The rows of the deployment pipeline."""

from cdl.deployment.base import approved_lines, candidate, children, implemented
from cdl.deployment.gates import IMPLEMENTATION, REVISION, revised
from cdl.registry.records import Package, short
from cdl.workflow.decide import DECIDE
from cdl.workflow.policy import verdict_on
from cdl.workflow.step import Step, Work, late
from cdl.workflow.workspace import Workspace


def uncompressed(workspace: Workspace) -> list[Work]:
    """Promoted models that cdl.yaml wants smaller and that are not yet."""
    works = []
    for line in approved_lines(workspace):
        if not line.config.compress or candidate(workspace, line) is not None:
            continue
        start = implemented(workspace, line.promoted)
        how = ", ".join(c.quantize for c in line.config.compress)
        rejected = len(children(workspace, start, "compression"))
        works.append(
            Work(
                step="compression",
                subject=start,
                line=f"{line.name}: {how} of {short(start)}" + (f", attempt {rejected + 1}" if rejected else ""),
                options={"line": line.name},
            )
        )
    return works


def compress(workspace: Workspace, work: Work) -> None:
    """Compresses as the deployment says."""
    config = workspace.config.deploy[str(work.options["line"])]
    made = late("cdl.deployment.compress:compress")(workspace, work.subject, config.compress)
    workspace.tell(
        f"compress  {short(made.id)}: {made.before / 1000:,.0f} kB -> {made.after / 1000:,.0f} kB; "
        f"predicts alike on {made.alike} of {made.items} validation items"
    )


def unrevised(workspace: Workspace) -> list[Work]:
    """Candidates that were not tested against their original on the current test, where the key is here."""
    works = []
    for line in approved_lines(workspace):
        subject = candidate(workspace, line)
        if subject is None or verdict_on(workspace, "revision", subject) is not None:
            continue
        if revised(workspace, subject) is None and workspace.may_sign(workspace.config.model[line.config.model].data):
            about = f"{line.name}: revise {short(subject)}"
            works.append(Work(step="model_revision", subject=subject, line=about, options={"line": line.name}))
    return works


def revise(workspace: Workspace, work: Work) -> None:
    """Revises, and tells what was found."""
    found = late("cdl.deployment.revise:revise")(workspace, work.subject)
    first, second = found["accuracy"]
    _, low, high = found["difference"]
    before, after = (1000 * s for s in found["latency_p95"])
    workspace.tell(
        f"revision  accuracy {first:.3f} / {second:.3f}, paired difference [{low:+.3f}, {high:+.3f}]; "
        f"p95 {before:.2f} / {after:.2f} ms (median of 5, 1 thread); size {found['size'][1] / 1000:,.0f} kB"
    )


def unpackaged(workspace: Workspace) -> list[Work]:
    """Candidates that passed the revision gate and have no package."""
    packaged = {p.model for _, p in workspace.registry.all(Package)}
    works = []
    for line in approved_lines(workspace):
        subject = candidate(workspace, line)
        if subject is None or subject in packaged or verdict_on(workspace, "revision", subject) != "approve":
            continue
        works.append(
            Work(
                step="packaging",
                subject=subject,
                line=f"{line.name}: package {short(subject)}",
                options={"line": line.name},
            )
        )
    return works


def package(workspace: Workspace, work: Work) -> None:
    """Builds the package."""
    made = late("cdl.deployment.package:build")(workspace, str(work.options["line"]), work.subject)
    workspace.tell(f"package   {short(made)}; next: cdl deploy apply STAGE")


VALIDATOR = ("model_validator",)
DEVOPS = ("devops",)
STEPS = (
    Step(
        name="model_implementation",
        pipeline="deployment",
        roles=("software_engineer",),
        does="refactored source with a request and response schema, predicting alike",
        reads="model source",
        writes="refactored source, model record",
        command="cdl model implement",
        function="cdl.deployment.implement:implement",
        optional=True,
    ),
    Step(
        name="implementation_review",
        pipeline="deployment",
        roles=VALIDATOR,
        does="approved, or back; the new source is stored with the model",
        reads="refactored source",
        writes="decision, merge",
        command="cdl approve, cdl reject",
        function=DECIDE,
        gate="implementation",
        back_to=IMPLEMENTATION.back_to,
        optional=True,
    ),
    Step(
        name="compression",
        pipeline="deployment",
        roles=("software_engineer",),
        does="exports the network and makes it smaller",
        reads="model, validation items",
        writes="smaller model record",
        command="cdl run deployment",
        function="cdl.deployment.compress:compress",
        pending=uncompressed,
        begin=compress,
        starts="itself",
        optional=True,
    ),
    Step(
        name="model_revision",
        pipeline="deployment",
        roles=("model_validator", "software_engineer", "devops"),
        does="tests again, sealed, against the original: accuracy, size, latency",
        reads="both models, test data",
        writes="a signed result",
        command="cdl run deployment",
        function="cdl.deployment.revise:revise",
        pending=unrevised,
        begin=revise,
        starts="itself",
    ),
    Step(
        name="revision_gate",
        pipeline="deployment",
        roles=VALIDATOR,
        does="approve, or back to implementation, compression or model building",
        reads="revision",
        writes="decision",
        command="cdl approve, cdl reject",
        function=DECIDE,
        gate="revision",
        back_to=REVISION.back_to,
    ),
    Step(
        name="packaging",
        pipeline="deployment",
        roles=DEVOPS,
        does="a folder that holds the model, its preprocessing and a reference",
        reads="model",
        writes="servable package, record",
        command="cdl run deployment",
        function="cdl.deployment.package:build",
        pending=unpackaged,
        begin=package,
        starts="itself",
    ),
    Step(
        name="manifest",
        pipeline="deployment",
        roles=DEVOPS,
        does="writes resources, replicas and runtime into the repository",
        reads="cdl.yaml",
        writes="deploy/NAME.STAGE.yaml",
        command="cdl deploy apply",
        function="cdl.deployment.manifest:write",
    ),
    Step(
        name="deployment",
        pipeline="deployment",
        roles=DEVOPS,
        does="new workers ready, commit, switch, drain",
        reads="manifest, package",
        writes="running service, deployment head",
        command="cdl deploy apply",
        function="cdl.deployment.apply:apply",
    ),
)
