"""`cdl gc`: removes what nothing names any more from this clone's store, and what killed commands left.

Nothing younger than a day goes, and whoever means to name an object makes it young first (store.py), so other commands may run
meanwhile. What was begun and killed is finished by the next one: a job's claim goes before its outputs, and a claim without its
outputs is taken as none.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cdl.errors import Conflict, NotFound
from cdl.git.repository import Git
from cdl.housekeeping.needed import missing
from cdl.housekeeping.roots import Roots, job_claims, outcome_claims, roots
from cdl.sharing.clone import Clone
from cdl.store import whole

DAY = 86_400.0  # seconds
SAY_SECONDS = 1.0
RESULTS, LOGS, TRIALS, UNNAMED = "results of jobs", "logs of jobs", "weights and checkpoints of trials", "unnamed"
OUTCOMES = "outcomes of data steps"
LEFT = "files that killed commands left"
NOTES = "notes of trainings that nobody went on with"
PACKAGES = "packages that no service runs"
NAMED, YOUNG = "named by a record, an event, a claim or work under way", "unnamed, too young"
HALF = re.compile(
    r"\.tmp$|^\.stream-|^\.\d{6,}-\d+-|\.json\.\d+$|\.new$"
)  # what files are called before they are whole
HALF_OF_GIT = re.compile(r"^(index|snapshot|blobs)-|\.\d+$")  # the same below the common git folder's `cdl`


class Amount(msgspec.Struct, kw_only=True):
    """So many things, of so many bytes together."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.count += 1
        self.bytes += size


class Collected(msgspec.Struct, kw_only=True):
    """What goes or went by kind, what stays by reason, the claims that go with what they name, and what is missing."""

    gone: dict[str, Amount] = msgspec.field(default_factory=dict)
    kept: dict[str, Amount] = msgspec.field(default_factory=dict)
    claims: int = 0
    missing: int = 0
    removed: bool = False


class _Plan(msgspec.Struct, kw_only=True):
    """What is to go: objects with their kind, claims of jobs and data steps, files and folders."""

    objects: dict[str, str] = msgspec.field(default_factory=dict)
    claims: list[str] = msgspec.field(default_factory=list)
    paths: list[Path] = msgspec.field(default_factory=list)


def collect(
    clone: Clone, *, remove: bool, trials: bool = False, older_than: float = DAY, incomplete: bool = False
) -> Collected:
    """Finds what nothing names, and removes it with `remove`.

    Conflict where objects that records need are not here, unless `incomplete` says that this is right: what lies behind them
    cannot be known. With `older_than` 0 nothing else may run.
    """
    done = Collected(removed=remove)
    clone.store.settle()
    before = clone.store.now() - older_than
    clone.tell("looks for what is named")
    lacking = missing(clone)
    done.missing = len(lacking)
    if lacking and remove and not incomplete:
        name, because = next(iter(lacking.items()))
        raise Conflict(
            f"{len(lacking)} objects that are needed are not here, and what they name might go too",
            where=f"{name[:12]}, of {because}",
            remedy="cdl doctor says how they come back; or, if that is right: cdl gc --remove --incomplete",
        )
    found = roots(clone, trials=trials, before=before)
    plan = _planned(clone, found, before, done)
    if remove:
        _remove(clone, plan, before)
    return done


def _planned(clone: Clone, found: Roots, before: float, done: Collected) -> _Plan:
    """Looks at every object, claim of a job and leftover."""
    plan = _Plan()
    keep = found.reachable(clone)
    kinds = dict.fromkeys(found.heavy, TRIALS)
    claims = list(job_claims(clone))
    for _, outputs, log in claims:
        kinds |= {name: RESULTS for name in outputs if name not in kinds}
        kinds |= {log.removeprefix("s:"): LOGS} if log else {}
    outcomes = list(outcome_claims(clone))
    kinds |= dict.fromkeys((tree for _, tree, _ in outcomes), OUTCOMES)
    for name in clone.store.names():
        try:
            size, changed = clone.store.size(name), clone.store.changed(name)
        except NotFound:
            continue  # another gc was faster
        if name in keep:
            done.kept.setdefault(NAMED, Amount()).add(size)
        elif changed >= before:
            done.kept.setdefault(YOUNG, Amount()).add(size)
        else:
            plan.objects[name] = kinds.get(name, UNNAMED)
            done.gone.setdefault(plan.objects[name], Amount()).add(size)
    for claim, outputs, log in claims:
        needs = outputs or ({log.removeprefix("s:")} if log else set())
        if any(name in plan.objects or not clone.store.has(name) for name in needs):
            plan.claims.append(claim)
    plan.claims += [claim for claim, tree, stays in outcomes if not stays or not clone.store.has(tree)]
    done.claims = len(plan.claims)
    for kind, path in [
        *((NOTES, p) for p in found.stale),
        *leftovers(clone.folder, before),
        *_of_git(clone.git, before),
    ]:
        plan.paths.append(path)
        done.gone.setdefault(kind, Amount()).add(_size(path))
    return plan


def _remove(clone: Clone, plan: _Plan, before: float) -> None:
    """Removes: claims first, so that none is left that promises what is gone."""
    for claim in plan.claims:
        clone.store.unclaim(claim)
    say = _sayer(clone.tell, len(plan.objects))
    for name in plan.objects:
        clone.store.remove(name, older_than=before)
        say()
    for path in plan.paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def leftovers(folder: Path, before: float) -> Iterator[tuple[str, Path]]:
    """Old files that were begun and never ended, and packages that no service was last started or switched with."""
    for path in folder.rglob("*"):
        half = path.name.startswith(whole.HALF) or HALF.search(path.name)
        if half and path.is_file() and "services" not in path.parts and _changed(path) < before:
            yield LEFT, path
    for packages in folder.glob("services/*/packages"):
        spec = packages.parent / "spec.json"
        running = spec.read_text() if spec.exists() else ""
        for path in packages.iterdir():
            if path.name not in running and _changed(path) < before:
                yield PACKAGES, path


def _of_git(git: Git, before: float) -> Iterator[tuple[str, Path]]:
    """Indexes, and contents on their way into git, of commands that were killed."""
    for path in (git.common_dir / "cdl").glob("*"):
        if (path.name.startswith(whole.HALF) or HALF_OF_GIT.search(path.name)) and _changed(path) < before:
            yield LEFT, path


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())


def _sayer(tell: Callable[[str], None], total: int) -> Callable[[], None]:
    """Counts, and says so about once a second."""
    said = [time.monotonic(), 0.0]

    def say() -> None:
        said[1] += 1
        if time.monotonic() - said[0] > SAY_SECONDS:
            said[0] = time.monotonic()
            tell(f"removed {said[1]:,.0f} of {total:,} objects")

    return say
