"""What the doctor looks at in git: needs no store, no key and no cdl.yaml that can be read."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.housekeeping.finding import Finding
from cdl.registry.check import check_registry
from cdl.sharing import branches
from cdl.sharing.sync import seen
from cdl.sharing.trust import refuse_tracked
from cdl.workflow.check import check_decisions
from cdl.workflow.step import Cycle

AREA = "git"
LOCK_SECONDS = 60.0
HISTORY = "git log -m --full-history -- registry; take it back with a commit, or ask who made it"


def check(git: Git, folder: Path, targets: Sequence[str], cycle: Cycle, *, mend: bool) -> Iterator[Finding]:
    """Version, branches, what a killed command left, the remote, and the registry in the history of the target branches."""
    for question in (git.require_version, git.person, lambda: refuse_tracked(git)):
        try:
            question()
        except CdlError as error:
            yield Finding(area=AREA, where=error.where or str(git.root), what=error.message, remedy=error.remedy)
    if (
        git.call("check-ignore", "--quiet", "--no-index", "--", folder.name).returncode == 1
        and folder.parent == git.root
    ):
        yield Finding(
            area=AREA, where=".gitignore", what="git does not ignore .cdl", remedy="echo '.cdl/' >> .gitignore"
        )
    for path in sorted((git.common_dir / "cdl").glob("intent-*.json")):
        yield Finding(
            area=AREA,
            where=str(path),
            what="a commit was begun and its work tree did not follow",
            remedy="end what stands in the way (a merge, a rebase, an index.lock), then any command",
        )
    yield from _locks(git)
    yield from _remote(git, targets, mend=mend)
    yield from _history(git, targets, cycle)


def _locks(git: Git) -> Iterator[Finding]:
    """Locks of git's own that have stood for longer than git holds any: one that was killed leaves them, and waits for nobody."""
    for path in sorted(
        {*git.common_dir.glob("*.lock"), *git.git_dir.glob("*.lock"), *git.common_dir.glob("refs/**/*.lock")}
    ):
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        if age > LOCK_SECONDS:
            what = f"a lock of git that has stood for {age / 60:,.0f} minutes: a killed git left it, or one works here still"
            yield Finding(
                area=AREA, where=str(path), what=what, remedy="see that no git works here, then remove the file"
            )


def _remote(git: Git, targets: Sequence[str], *, mend: bool) -> Iterator[Finding]:
    """Whether own refs are fetched, and whether history was rewritten since this clone last saw it."""
    remote = branches.remote_of(git)
    if remote is None:
        return
    fetched = git.text("config", "--get-all", f"remote.{remote}.fetch", check=False).split()
    if not any(spec.lstrip("+") == branches.OWN_REFS for spec in fetched):
        if mend:
            git.run("config", "--add", f"remote.{remote}.fetch", branches.OWN_REFS)
        yield Finding(
            area=AREA,
            where=f"remote {remote}",
            what="a plain `git fetch` does not bring refs/cdl",
            remedy=f"git config --add remote.{remote}.fetch '{branches.OWN_REFS}'",
            fault=False,
            mended=mend,
        )
    there = branches.look(git, remote)
    for branch in targets:
        old, now = seen(git).get(branch), there.get(branch)
        if old is None or now is None or old == now or git.resolve(now) is None:
            continue
        if not git.is_ancestor(old, now):
            yield Finding(
                area=AREA,
                where=f"{remote}/{branch}",
                what=f"history was rewritten: {old[:12]}, which was there, is not behind {now[:12]}",
                remedy=f"ask who pushed; if it is right: cdl sync --accept {branch}",
            )


def _history(git: Git, targets: Sequence[str], cycle: Cycle) -> Iterator[Finding]:
    """What the registry's history says that it is not. A commit is looked at once, whatever branches hold it."""
    seen: set[str] = set()
    for branch in [*targets, "HEAD"]:
        commit = git.resolve(branch if branch == "HEAD" else f"refs/heads/{branch}")
        if commit is None and branch != "HEAD":
            yield Finding(
                area=AREA,
                where=branch,
                what="this branch is not here",
                remedy=f"git fetch; git branch {branch} origin/{branch}",
            )
        if commit is None or any(git.is_ancestor(commit, other) for other in seen):
            continue
        seen.add(commit)
        for found in [*check_registry(git, commit), *check_decisions(git, cycle, commit)]:
            yield Finding(area="registry", where=f"{branch}: {found.where}", what=found.what, remedy=HISTORY)
