"""The rows of the model pipeline."""

import statistics

from cdl.config.schema import Search
from cdl.data.ready import released
from cdl.errors import NotFound
from cdl.model import review, submit
from cdl.model.awaiting import unjudged
from cdl.model.code import model_code
from cdl.model.results import Evaluation, counted, evaluated, limit, target
from cdl.model.search import expected_epochs
from cdl.model.source import model_record
from cdl.model.submit import submitted
from cdl.model.trials import trials
from cdl.registry.records import short
from cdl.workflow.decide import DECIDE
from cdl.workflow.step import Step, Work, late
from cdl.workflow.workspace import Workspace

TRAINED = "trained/"  # claims: what `cdl run model` did already


def unevaluated(workspace: Workspace) -> list[Work]:
    """Models that wait for an evaluation, or for a comparison with those that count now, and whose key is here."""
    reviewed = [i for i, _ in submitted(workspace)]
    works = [work for i in unjudged(workspace) if (work := _evaluation(workspace, i)) is not None]
    return works or [_comparison(i, rival) for i in reviewed for rival in _uncompared(workspace, i)]


def evaluate(workspace: Workspace, work: Work) -> None:
    """Evaluates a model and compares it with the current ones that were evaluated, or compares it with one."""
    against = work.options.get("against")
    if against is None:
        made = late("cdl.model.evaluate:evaluate")(workspace, work.subject)
        found = made.result["measures"]["test.accuracy"]
        low, high = found["interval"]
        workspace.tell(
            f"evaluated {short(work.subject)}: test.accuracy {found['value']:.3f} [{low:.3f}, {high:.3f}]; "
            f"evaluation {made.number} of {made.limit} on this test"
        )
    for rival in [against] if against else _uncompared(workspace, work.subject):
        if (theirs := evaluated(workspace, rival)) is not None:
            _compare(workspace, work.subject, rival, theirs)


def _compare(workspace: Workspace, identity: str, rival: str, theirs: Evaluation) -> None:
    """Compares with a model that counts now, item by item, while the key is at hand."""
    made = late("cdl.model.evaluate:compare")(workspace, theirs, evaluated(workspace, identity))
    low, high = made["interval"]
    workspace.tell(
        f"compared  {short(identity)} with {short(rival)}: {made['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    )


def untrained(workspace: Workspace) -> list[Work]:
    """Models whose source, data and search were not trained by `cdl run model` yet."""
    works = []
    for name, config in workspace.config.model.items():
        key = training_key(workspace, name)
        if key is None or workspace.store.claimed(key) is not None:
            continue
        line = f"{name}: {described(config.search) if config.search else f'train {config.epochs} epochs'}"
        cost = expected_cost(workspace, name, config.search)
        works.append(Work(step="training", subject=name, line=line, cost=cost, options={"key": key}))
    return works


def described(search: Search) -> str:
    """A search in a few words."""
    return f"{search.method}, up to {search.max_trials} trials of {search.min_epochs}-{search.max_epochs} epochs"


def expected_cost(workspace: Workspace, name: str, search: Search | None) -> str:
    """How long it may take, judged by the seconds an epoch of earlier trials of this model; says so where there are none."""
    epochs = expected_epochs(search) if search else workspace.config.model[name].epochs
    at_once = search.workers if search else 1
    paces = [t.seconds / t.trained for t in trials(workspace) if t.model == name and t.trained and t.seconds]
    about = (
        f"about {epochs / at_once * statistics.median(paces):.0f} s"
        if paces
        else "no earlier trial to judge the time by"
    )
    return f"{epochs} epochs, {at_once} at a time, {about}"


def train(workspace: Workspace, work: Work) -> None:
    """Searches where cdl.yaml describes a search, else trains once."""
    if workspace.config.model[work.subject].search is None:
        best = late("cdl.model.train:train")(workspace, work.subject)
    else:
        best = late("cdl.model.tune:search")(workspace, work.subject).best
    workspace.store.claim(str(work.options["key"]), best.id.encode())
    number = best.id.partition("-")[0]
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in best.metrics.items())
    workspace.tell(f"best {number}: {numbers}; choosing is yours: cdl trial list, cdl model register {number}")


def training_key(workspace: Workspace, name: str) -> str | None:
    """The claim under which `cdl run model` notes that it trained; None before labels are released."""
    try:
        dataset, labels = released(workspace, workspace.config.model[name].data)
    except NotFound:
        return None
    return f"{TRAINED}{name}-{model_code(workspace, name).closure.id[:32]}-{dataset[2:18]}-{labels[2:18]}"


def _evaluation(workspace: Workspace, identity: str) -> Work | None:
    model = model_record(workspace, identity)
    on = target(workspace, model)
    if not workspace.may_sign(on.dataset.name) or not workspace.store.has(model.weights):
        return None
    number = len(counted(workspace, on.dataset.test)) + 1
    line = f"evaluate {short(identity)} on {on.dataset.items['test']} sealed items"
    return Work(step="model_evaluation", subject=identity, line=line, cost=f"{number} of {limit(workspace)}")


def _uncompared(workspace: Workspace, identity: str) -> list[str]:
    """The models that count now and that a submitted one was not compared with on the current test."""
    model = model_record(workspace, identity)
    found = evaluated(workspace, identity)
    if found is None or not workspace.may_sign(target(workspace, model).dataset.name):
        return []
    made = review.comparisons(workspace, identity, model.name, found)
    return [rival for rival, comparison in made.items() if comparison is None]


def _comparison(identity: str, rival: str) -> Work:
    line = f"compare {short(identity)} with {short(rival)}, the current model"
    return Work(step="model_evaluation", subject=identity, line=line, options={"against": rival})


SCIENTIST = ("data_scientist",)
STEPS = (
    Step(
        name="create_experiment",
        pipeline="model",
        roles=SCIENTIST,
        does="makes a branch, from here or from any earlier version",
        reads="Code Repository",
        writes="branch",
        command="cdl experiment create",
        function="cdl.model.experiment:create",
    ),
    Step(
        name="data_analysis",
        pipeline="model",
        roles=SCIENTIST,
        does="shows the training set; masked fields hidden, test data not readable",
        reads="training data",
        writes="a page under reports/",
        command="cdl data analyze",
        function="cdl.pages.dataset:analyze",
        optional=True,
    ),
    Step(
        name="preprocessing",
        pipeline="model",
        roles=SCIENTIST,
        does="fits the transformation on the training part, or loads it",
        reads="training data",
        writes="model input, transformation",
        command="cdl train",
        function="cdl.model.transform:prepare",
        optional=True,
    ),
    Step(
        name="validation_splitting",
        pipeline="model",
        roles=SCIENTIST,
        does="splits the training data by a public key, equal items together",
        reads="training data",
        writes="training and validation part",
        command="cdl train",
        function="cdl.model.transform:parts",
    ),
    Step(
        name="model_building",
        pipeline="model",
        roles=SCIENTIST,
        does="defines the network, from nothing or from a registered or public one",
        reads="optional pretrained model",
        writes="model definition",
        command="cdl train",
        function="cdl.model.code:model_code",
    ),
    Step(
        name="hyperparameter_optimization",
        pipeline="model",
        roles=SCIENTIST,
        does="asynchronous successive halving over the declared space",
        reads="model input",
        writes="Experiment Registry",
        command="cdl search",
        function="cdl.model.tune:search",
        optional=True,
    ),
    Step(
        name="training",
        pipeline="model",
        roles=SCIENTIST,
        does="trains; metrics, logs and checkpoints are kept",
        reads="model input",
        writes="Experiment Registry",
        command="cdl train, cdl run model",
        function="cdl.model.train:train",
        pending=untrained,
        begin=train,
        starts="named",
    ),
    Step(
        name="experiment_evaluation",
        pipeline="model",
        roles=SCIENTIST,
        does="compares trials",
        reads="Experiment Registry",
        writes="a table, curves as a picture",
        command="cdl trial compare",
        function="cdl.model.compare:compare",
        back_to=submit.TRAINING_STEPS,
    ),
    Step(
        name="registration",
        pipeline="model",
        roles=SCIENTIST,
        does="makes a chosen trial a record that is complete in itself",
        reads="chosen checkpoint",
        writes="Model Registry",
        command="cdl model register",
        function="cdl.model.register:register",
    ),
    Step(
        name="model_evaluation",
        pipeline="model",
        roles=("automatic",),
        does="sealed: only declared metrics leave",
        reads="model, test data",
        writes="a signed result",
        command="cdl run",
        function="cdl.model.evaluate:evaluate",
        pending=unevaluated,
        begin=evaluate,
        starts="itself",
    ),
    Step(
        name="submission_gate",
        pipeline="model",
        roles=SCIENTIST,
        does="submit, or back to any earlier step",
        reads="evaluation",
        writes="decision",
        command="cdl model submit",
        function=DECIDE,
        gate="submission",
        back_to=submit.SUBMISSION.back_to,
    ),
    Step(
        name="model_submission",
        pipeline="model",
        roles=SCIENTIST,
        does="offers the source of that model; code and model cannot differ",
        reads="source of the model",
        writes="an offer",
        command="cdl model submit",
        function="cdl.model.submit:offer",
    ),
    Step(
        name="model_review",
        pipeline="model",
        roles=("model_validator",),
        does="shows metrics and the comparison with the current model",
        reads="artifacts, metrics",
        writes="a page under reports/",
        command="cdl report MODEL",
        function="cdl.pages.model:model_page",
    ),
    Step(
        name="model_gate",
        pipeline="model",
        roles=("model_validator",),
        does="rejects to a named step or to data collection, or approves",
        reads="review",
        writes="decision",
        command="cdl approve, cdl reject",
        function=DECIDE,
        gate="model",
        back_to=review.MODEL.back_to,
    ),
    Step(
        name="promotion",
        pipeline="model",
        roles=("automatic",),
        does="merges the source; the model is the promoted one",
        reads="approval",
        writes="merge commit, model head",
        command="cdl approve",
        function="cdl.model.review:promote",
    ),
)
