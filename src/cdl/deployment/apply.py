"""Deployment: new workers healthy, commit, switch, drain. What was killed between is finished by the next command.

The head says what should run. It is compared with what does; a pull or a revert touches no service.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdl.deployment import control, install, manifest, package
from cdl.deployment.base import Line, approval_stands, candidate, line_of_stage
from cdl.deployment.stages import Stage, alone, declared, finish, folder, look, status
from cdl.errors import CdlError, Conflict, NotFound, Refused
from cdl.git.commit import merge_in_memory
from cdl.registry.chain import Chain
from cdl.registry.records import DeploymentHead, Package, short
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

ROLES = ("devops",)


def apply(workspace: Workspace, stage: str, *, again: bool = False, installed: bool = False) -> Stage:
    """Packages the candidate where needed, writes the manifest, and makes a stage run it; `installed` also after a crash or boot.

    A service that runs another package than its head names, after a pull or a revert, is made to run that one first.
    Refused for another role or before the revision gate; JobFailed when the new workers do not become ready: then nothing
    changed.
    """
    _line(workspace, stage)
    with alone(workspace, stage):
        found = _apply(workspace, stage, again, installed)
        if installed:
            install.install(workspace, stage)
        return look(workspace, stage) if installed else found


def _apply(workspace: Workspace, stage: str, again: bool, installed: bool) -> Stage:
    finish(workspace, stage)
    line = line_of_stage(workspace, stage)
    found = look(workspace, stage)
    if found.running is not None and found.declared not in (None, found.running):
        return _deploy(workspace, line, stage, str(found.declared), command="deploy apply", because=None)
    if not approval_stands(workspace, line.promoted):
        raise Refused(f"the approval of {short(line.promoted)} does not stand any more", remedy="cdl status")
    model = candidate(workspace, line)
    if model is None:
        raise Refused("the model is not compressed yet", remedy="cdl run deployment")
    identity = package.build(workspace, line.name, model)
    head = declared(workspace, stage)
    if head is not None and head.because and head.before == identity and not again:
        if found.running is None or installed:
            workspace.tell(f"stays     {short(head.package)}: {stage} was rolled back to it: {head.because}")
            return _deploy(workspace, line, stage, head.package, command="deploy apply", because=None)
        raise Refused(
            f"{stage} was rolled back from {short(identity)}: {head.because}",
            remedy=f"cdl deploy apply {stage} --again, or promote another model",
        )
    return _deploy(workspace, line, stage, identity, command="deploy apply", because=None)


def rollback(workspace: Workspace, stage: str, because: str) -> Stage:
    """Makes a stage run the package before, by a swap and a forward commit. NotFound when there is none."""
    line = _line(workspace, stage)
    with alone(workspace, stage):
        finish(workspace, stage)
        head = declared(workspace, stage)
        if head is None or head.before is None:
            raise NotFound(f"{stage} ran nothing before", remedy="cdl deploy status")
        return _deploy(workspace, line, stage, head.before, command="deploy rollback", because=because)


def restart(workspace: Workspace, stage: str) -> Stage:
    """Swaps to new workers of the package that runs; no request is lost. NotFound, JobFailed: then the old ones stay."""
    line = _line(workspace, stage)
    with alone(workspace, stage):
        finish(workspace, stage)
        place, config = folder(workspace, stage), line.config.stages[stage]
        found = control.running(place)
        if found is None:
            raise NotFound("no service runs here", where=stage, remedy=f"cdl deploy apply {stage}")
        workspace.tell(f"restart   {stage}: {config.replicas} new workers getting ready, the old ones serve")
        control.ask(place, op="swap", package=found["package"], replicas=config.replicas, spare=config.spare)
        control.ask(place, op="switch")
        return look(workspace, stage)


def stop(workspace: Workspace, stage: str, *, uninstalled: bool = False) -> None:
    """Drains and ends the service of a stage until `apply`; what is declared stays. `uninstalled`: also its unit. NotFound."""
    require_role(workspace, ROLES, "deployment")
    if not folder(workspace, stage).exists():
        raise NotFound("no service runs here", where=stage, remedy="cdl deploy apply")
    with alone(workspace, stage):
        removed = uninstalled and install.uninstall(workspace, stage)
        place = folder(workspace, stage)
        if control.running(place) is not None:
            control.stop(place)
        elif not removed and not control.forget(place):
            raise NotFound("no service runs here", where=stage, remedy="cdl deploy apply")


def _line(workspace: Workspace, stage: str) -> Line:
    """What a stage serves, where this person and this clone may serve it: a service runs the project's code."""
    require_role(workspace, ROLES, "deployment")
    workspace.trusted.require_code()
    return line_of_stage(workspace, stage)


def checkout(workspace: Workspace, stage: str, identity: str) -> Path:
    """The folder of a package, read-only, written once; again where it holds not exactly what its record says."""
    record = workspace.registry.record(Package, identity)
    target = folder(workspace, stage) / "packages" / identity
    if target.exists() and not _holds(workspace, record.tree, target):
        workspace.tell(f"{short(identity)} was changed on disk; it is written again")
        shutil.rmtree(target)
    if not target.exists():
        temporary = target.with_name(target.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        workspace.store.checkout(record.tree, temporary)
        temporary.rename(target)
    return target


def _holds(workspace: Workspace, tree: str, place: Path) -> bool:
    """Whether a folder holds exactly the files of a tree."""
    files = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if not p.is_dir() or p.is_symlink()}
    kept = workspace.store.tree(tree)
    if files.keys() != set(kept.names) or any(p.is_symlink() or not p.is_file() for p in files.values()):
        return False
    return all(path.read_bytes() == kept.get(name) for name, path in files.items())


def _deploy(workspace: Workspace, line: Line, stage: str, identity: str, *, command: str, because: str | None) -> Stage:
    place = folder(workspace, stage)
    before = declared(workspace, stage)
    described = manifest.write(workspace, line, stage, identity)
    branch = workspace.registry.branch_of(stage)
    if branch != workspace.registry.integration:
        _merge(workspace, branch, command)
    target = checkout(workspace, stage, identity)
    running = control.running(place)
    _prepare(workspace, line, stage, target, running)
    if before is None or before.package != identity:
        _commit(workspace, stage, identity, described, before, command, because)
    finish(workspace, stage)
    if running is None:
        install.take_over(workspace, stage)
    else:
        workspace.tell(f"switched  {stage}: the old workers answer what they have begun")
    return status(workspace, stage)


def _prepare(workspace: Workspace, line: Line, stage: str, target: Path, running: Mapping[str, Any] | None) -> None:
    """Starts a service, or new workers of one that runs otherwise than is wanted."""
    place, config, package_id = folder(workspace, stage), line.config.stages[stage], short(target.name)
    keys = {"package": str(target), "replicas": config.replicas, "spare": config.spare}
    if running is None:
        workspace.tell(f"start     {package_id} at {stage}: {config.replicas} workers getting ready")
        control.start(place, {"name": line.name, "port": config.port, **keys})
        return
    if any(running.get(key, wanted) != wanted for key, wanted in keys.items()):
        workspace.tell(
            f"swap      {package_id} at {stage}: {config.replicas} new workers getting ready, the old ones serve"
        )
        control.ask(place, op="swap", **keys)
    if config.port not in (0, running["port"]):
        workspace.tell(
            f"port      {running['port']} stays; for {config.port}: cdl deploy stop {stage}, and apply again"
        )


def _commit(
    workspace: Workspace,
    stage: str,
    identity: str,
    described: str,
    before: DeploymentHead | None,
    command: str,
    because: str | None,
) -> None:
    """Moves the head; when that fails, what was prepared is taken back."""
    old = before.package if before else None
    head = DeploymentHead(package=identity, manifest=described, before=old, because=because)
    change = f"{short(old)} -> {short(identity)}" if old and because else short(identity)
    try:
        workspace.registry.commit(
            heads=[(stage, head)], command=command, line=f"{stage} {change}", branch=workspace.registry.branch_of(stage)
        )
    except CdlError:
        finish(workspace, stage)
        if before is None:
            control.stop(folder(workspace, stage))
        raise


def _merge(workspace: Workspace, production: str, command: str) -> None:
    """Merges the integration branch into the production branch where it is not there yet."""
    git, registry = workspace.git, workspace.registry
    tip, target = registry.tip(), git.resolve(f"refs/heads/{production}")
    if tip is None or target is None:
        raise NotFound(f"no branch {production}", remedy=f"git branch {production} {registry.integration}")
    if git.is_ancestor(tip, target):
        return
    merge = merge_in_memory(git, target, tip)
    if merge.tree is None:
        raise Conflict(
            f"merging {registry.integration} into {production} conflicts in {', '.join(merge.conflicts)}",
            remedy=f"git merge {registry.integration} on {production}, then the command again",
        )
    chain = Chain(registry, production)
    chain.commit(command=command, line=f"{registry.integration} into {production}", merged=tip, tree=merge.tree)
    chain.land()
