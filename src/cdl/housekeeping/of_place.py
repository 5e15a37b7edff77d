"""What the doctor looks at around the project: services, packages, disk, keyring, what was confirmed, what was left behind."""

import re
import shutil
import stat
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from cdl.config.load import load
from cdl.deployment import control, stages
from cdl.housekeeping.finding import Finding, Look
from cdl.housekeeping.gc import DAY, leftovers
from cdl.optional import EXTRAS, present
from cdl.sharing.trust import unconfirmed

LITTLE = 1_000_000_000  # bytes of free disk that are worth a line
TOO_LITTLE = 100_000_000
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def services(look: Look) -> Iterator[Finding]:
    """What each stage should run against what it does; sockets of services that ended."""
    workspace = look.workspace
    names = {stage for line in workspace.config.deploy.values() for stage in line.stages}
    for name in sorted(names):
        found = stages.look(workspace, name)
        if found.declared is not None and found.running != found.declared:
            yield Finding(area="services", where=name, what=found.line, remedy=f"cdl deploy apply {name}", fault=False)
        place = stages.folder(workspace, name) / "control"
        if place.exists() and control.running(place.parent) is None:
            if look.mend:
                place.unlink(missing_ok=True)
            yield Finding(
                area="services",
                where=str(place),
                what="a socket that nobody answers: the service was killed",
                remedy=f"cdl deploy apply {name}, or rm {place}",
                mended=look.mend,
            )


def environment(look: Look) -> Iterator[Finding]:
    """Packages of the lock, optional ones, room on the disk."""
    workspace = look.workspace
    lock = workspace.root / (workspace.config.environment.lock or "requirements.lock")
    others = [
        f"{name} {_version(name) or 'not installed'} (lock: {wanted})"
        for name, wanted in LOCKED.findall(lock.read_text() if lock.is_file() else "")
        if (_version(name) or "").partition("+")[0] != wanted.partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
    ]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield Finding(
            area="environment",
            where=lock.name,
            what="other packages than the lock names: " + ", ".join(others[:3]) + more,
            remedy=f"pip install -r {lock.name}: results are recorded with the lock",
            fault=False,
        )
    absent = sorted({f"{name} ({extra})" for name, extra in EXTRAS.items() if not present(name)})
    if absent:
        yield Finding(
            area="environment",
            where="optional packages",
            what="not installed: " + ", ".join(absent),
            remedy="pip install 'continuous-deep-learning[EXTRA]' where a command asks for one",
            fault=False,
        )
    free = shutil.disk_usage(workspace.folder).free
    if free < LITTLE:
        yield Finding(
            area="environment",
            where=str(workspace.folder),
            what=f"{free / 1e6:,.0f} MB are free on this disk",
            remedy="make room: cdl gc says what could go",
            fault=free < TOO_LITTLE,
        )


def trust(look: Look) -> Iterator[Finding]:
    """The keyring, and what of cdl.yaml this clone did not confirm."""
    workspace = look.workspace
    path = workspace.keyring.path
    open_to_others = path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    if open_to_others:
        if look.mend:
            path.chmod(0o600)
        yield Finding(
            area="trust",
            where=str(path),
            what="others can read the keyring",
            remedy=f"chmod 600 {path}",
            mended=look.mend,
        )
    for name in workspace.config.data if look.mend or not open_to_others else ():
        if workspace.published(name) and not workspace.holds_key(name):
            yield Finding(
                area="trust",
                where=str(path),
                what=f"{workspace.lacking(name)}: its test set cannot be opened here",
                remedy="cdl member list says who can grant it; or a holder's backup line: cdl key restore",
                fault=False,
            )
    if not workspace.trusted.code:
        yield Finding(
            area="trust",
            where="this clone",
            what="it was not allowed to run the project's code",
            remedy="look at what it holds, then: cdl trust",
            fault=False,
        )
    for key, (_, written) in unconfirmed(load(workspace.root), workspace.trusted).items():
        yield Finding(
            area="trust",
            where=f"cdl.yaml: {key}",
            what=f"{written} was not confirmed in this clone, and is not used",
            remedy="cdl trust",
            fault=False,
        )


def left(look: Look) -> Iterator[Finding]:
    """What killed commands left."""
    for plan in sorted((look.workspace.folder / "erasing").glob("*.json")):
        dataset, _, item = plan.stem.rpartition("-")
        yield Finding(
            area="leftovers",
            where=str(plan),
            what=f"item {item[:12]} of {dataset} was to be erased, and the command was killed",
            remedy=f"cdl data erase {item} --of {dataset}",
        )
    found = list(leftovers(look.workspace.folder, look.clone.store.now() - DAY))
    if found:
        yield Finding(
            area="leftovers",
            where=str(look.workspace.folder),
            what=f"{len(found):,} files that were begun and never ended, {found[0][1].name} among them",
            remedy="cdl gc --remove",
            fault=False,
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
