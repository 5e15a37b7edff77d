"""`cdl ci`: what continuous integration does. It works on a detached HEAD and in a shallow checkout, where git knows no name."""

import click

from cdl.cli.model import said
from cdl.cli.output import here, json_option, say, show
from cdl.cycle import CYCLE
from cdl.errors import CdlError, Corrupt, JobFailed, NotFound, Unavailable
from cdl.git.repository import Git
from cdl.model.awaiting import unjudged_in
from cdl.model.check import Checked, check_results
from cdl.model.evaluate import evaluate as evaluate_once
from cdl.project import find_root, open_workspace, shared_folder
from cdl.registry.check import check_registry
from cdl.registry.records import short
from cdl.store.store import Store
from cdl.workflow.check import check_decisions


@click.group()
def ci() -> None:
    """For continuous integration: check, evaluate."""


@ci.command()
@click.argument("revision", default="HEAD")
@click.option(
    "--shallow", is_flag=True, help="A shallow checkout is meant: what it does not show is named and no error."
)
@json_option
def check(revision: str, shallow: bool, as_json: bool) -> None:
    """Check registry, decisions and the results that they name, in a commit and its history; needs no key.

    In a shallow checkout everything is checked that can be, the rest is named, and the exit code is 7 unless --shallow is given.
    Results that are not in the store here are named and no error.
    """
    git = Git(find_root(here()))  # and nothing else: a runner has neither a name nor, perhaps, a store
    commit = _commit(git, revision)
    found = _checked(git, commit)
    lines = [f"{f.where}: {f.what}" for f in found.findings] or [f"the registry in {commit[:12]} is whole"]
    lines += [f"not checked: {what}" for what in found.unchecked]
    result = {"commit": commit, "findings": found.findings, "not_checked": found.unchecked}
    show(result, lambda: lines, as_json=as_json)
    if found.findings:
        raise Corrupt(f"{len(found.findings)} findings in the registry", remedy="git log -m --full-history -- registry")
    if not shallow and not git.whole():
        raise Unavailable("a shallow clone holds not the whole history", remedy="git fetch --unshallow, or --shallow")


@ci.command()
@click.argument("revision", default="HEAD")
@click.option(
    "--target", metavar="REVISION", help="The commit whose policy, test and metrics judge; left out, the same."
)
@json_option
def evaluate(revision: str, target: str | None, as_json: bool) -> None:
    """Evaluate the models registered in a commit that nobody decided on and that have no result on the current test.

    CDL_KEY holds a backup line of the dataset's keys (cdl key backup). Run it only in a protected pipeline that the target
    branch defines, and name that branch with --target: what judges is then not up to the commit. No branch is needed.
    """
    git = Git(find_root(here()))
    commit, judge = _commit(git, revision), _commit(git, target or revision)
    faults = _checked(git, judge).findings
    if faults:
        raise Corrupt(f"{len(faults)} findings in {judge[:12]}, which would judge", remedy=f"cdl ci check {judge[:12]}")
    workspace = open_workspace(here(), tell=say, at=judge)
    made, failed = [], []
    for identity in unjudged_in(workspace, commit):
        try:
            made.append((identity, evaluate_once(workspace, identity)))
        except (JobFailed, NotFound) as error:
            failed.append((identity, error))
    lines = [f"{short(identity)} {said(found)}" for identity, found in made]
    lines += [f"{short(identity)} not evaluated: {_first(error)}" for identity, error in failed]
    result = {
        "judged_by": judge,
        "evaluated": {identity: found.object for identity, found in made},
        "failed": {identity: _first(error) for identity, error in failed},
    }
    show(result, lambda: lines or ["no model waits for an evaluation"], as_json=as_json)
    if failed:
        raise JobFailed(f"{len(failed)} models were not evaluated", where="ci evaluate", remedy="see above")


def _checked(git: Git, commit: str) -> Checked:
    folder = shared_folder(git) / "store"
    found = check_results(git, Store(folder) if folder.is_dir() else None, commit)
    found.findings[:0] = [*check_registry(git, commit), *check_decisions(git, CYCLE, commit)]
    return found


def _commit(git: Git, revision: str) -> str:
    found = git.resolve(revision)
    if found is None:
        raise NotFound(f"no commit '{revision}'", remedy="git fetch, or name a commit that is here")
    return found


def _first(error: CdlError) -> str:
    return str(error).splitlines()[0]
