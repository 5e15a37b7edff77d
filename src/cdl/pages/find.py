"""Which page a name means, and writing it.

m-0c5e8b37, reader, reader@v2        a model: its id, the promoted or the newest one, the second that was promoted
d-3f2a91c0, articles, articles@~1    a version of a dataset
first, exp/first                     an experiment
production                           a stage; p-9a01... a package
dataset:news                         where a name is that of several things: dataset:, model:, experiment:, stage:
"""

import difflib
from pathlib import Path

from cdl.errors import Conflict, NotFound
from cdl.model import trials
from cdl.model.experiment import experiments
from cdl.monitoring.steps import stages_of
from cdl.pages.dataset import dataset_page
from cdl.pages.deployment import deployment_page, package_page
from cdl.pages.experiment import experiment_page
from cdl.pages.model import model_page
from cdl.pages.written import PREFIX, REPORTS
from cdl.registry.names import all_things, find
from cdl.registry.records import ID_PATTERN, Dataset, Labels, Model, Package
from cdl.report.page import Page
from cdl.report.write import Form, write
from cdl.workflow.workspace import Workspace

KINDS = ("dataset", "model", "experiment", "stage")


def page_of(workspace: Workspace, what: str) -> Page:
    """The page that WHAT means. NotFound with the nearest names; Conflict with the choices."""
    workspace.registry.observe()
    if ID_PATTERN.match(what):
        return _of_record(workspace, what)
    base, at, version = what.partition("@")
    kind, name = _meant(workspace, base)
    if kind == "experiment":
        return experiment_page(workspace, PREFIX + name.removeprefix(PREFIX))
    if kind == "stage":
        if at:
            raise NotFound(
                f"a stage's page has no versions: '{what}'", remedy=f"cdl report {name}, cdl log stage:{name}"
            )
        return deployment_page(workspace, name)
    if not any(t.name == name and t.kind == kind for t in all_things(workspace.registry)):
        remedy = "cdl data run" if kind == "dataset" else "cdl train, cdl model register"
        raise NotFound(f"{kind} {name} has no version yet", remedy=remedy)
    found = find(workspace.registry, f"{kind}:{name}{at}{version}")
    if found.said:
        workspace.tell(found.said)
    return _of_record(workspace, found.stored.id)


def write_page(workspace: Workspace, what: str, *, form: Form = "html") -> Path:
    """Writes the page that WHAT means below reports/; the file."""
    return write(page_of(workspace, what), workspace.root / REPORTS, form=form)


def _of_record(workspace: Workspace, what: str) -> Page:
    stored = workspace.registry.get(what)
    match stored.record:
        case Model():
            return model_page(workspace, stored.id)
        case Dataset():
            return dataset_page(workspace, stored.id)
        case Labels():
            return dataset_page(workspace, stored.record.dataset)
        case Package():
            return package_page(workspace, stored.id)
    raise NotFound(f"there is no page of a {type(stored.record).__name__.lower()}", remedy=f"cdl show {what}")


def _meant(workspace: Workspace, what: str) -> tuple[str, str]:
    """Kind and name of the one thing that is meant."""
    every = _every(workspace)
    given, colon, name = what.rpartition(":")
    given = "dataset" if given == "labels" else given
    if colon and given not in KINDS:
        raise NotFound(f"'{given}' is no kind of thing with a page", remedy=", ".join(f"{k}:{name}" for k in KINDS))
    found = [
        (kind, n) for kind, n in every if given in ("", kind) and name in (n, PREFIX + n if kind == "experiment" else n)
    ]
    if len(found) > 1:
        choices = ", ".join(f"{kind}:{n}" for kind, n in found)
        raise Conflict(f"'{what}' names {len(found)} things", remedy=f"say which: {choices}")
    if found:
        return found[0]
    names = sorted({n for _, n in every})
    near = difflib.get_close_matches(name, names, n=3)
    there = f"did you mean {' or '.join(near)}?" if near else "there is: " + ", ".join(names)
    raise NotFound(f"nothing is named '{what}', and it is no id", remedy=there if names else "nothing has a name yet")


def _every(workspace: Workspace) -> list[tuple[str, str]]:
    """Everything that has a page and a name, kinds in the order of the cycle."""
    kinds = {"dataset": "dataset", "labels": "dataset", "model": "model", "stage": "stage"}
    found = [("dataset", n) for n in workspace.config.data] + [("model", n) for n in workspace.config.model]
    found += [(kinds[t.kind], t.name) for t in all_things(workspace.registry)]
    found += [("experiment", b.removeprefix(PREFIX)) for b in experiments(workspace)]
    found += [
        ("experiment", t.branch.removeprefix(PREFIX))
        for t in trials.readable(workspace)[0]
        if (t.branch or "").startswith(PREFIX) and t.branch
    ]
    found += [("stage", s) for s in stages_of(workspace)]
    return sorted(dict.fromkeys(found), key=lambda pair: (KINDS.index(pair[0]), pair[1]))
