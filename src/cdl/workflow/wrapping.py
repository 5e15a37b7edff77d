"""Wrapping: the keys of datasets follow the members of the policy in force. One move of the integration branch a dataset.

    who is entitled                        what is done, by a holder
    more than hold it                      the keys are wrapped for all who are entitled
    no more some who hold it,              one more data key and another evaluation key from now on, wrapped for those who are
    or with another key                    left; the older public half stays valid for the results that decisions named so far

The approval of a policy does it where the approver holds the keys; else `cdl run` of the next holder.
"""

import json
import re
from collections.abc import Iterable, Iterator

from cdl.errors import CdlError, Conflict, Corrupt, Refused
from cdl.registry.chain import Chain
from cdl.registry.keyfile import KeyFile, encode, faults, handed_over, written
from cdl.registry.records import Decision, key_path
from cdl.workflow.members import approved, entitled, may_hold
from cdl.workflow.policy import APPROVES, decisions, in_force, sound
from cdl.workflow.step import Work
from cdl.workflow.workspace import Workspace, same_person

RESULTS = ("evaluation", "comparisons", "revision")  # what a decision says of results that it saw
INSIDE = ("comparison", "evaluations", "first", "second")  # what results say of others
OBJECT = re.compile(r"[0-9a-f]{64}")


def unwrapped(workspace: Workspace) -> list[Work]:
    """Datasets whose keys are not as the policy in force wants them, where this person can wrap them."""
    found = []
    for name, gone, missing in behind(workspace):
        if not _may_wrap(workspace, name, gone):
            continue
        what = f"renew, {', '.join(gone)} left" if gone else f"wrap for {', '.join(missing)}"
        found.append(Work(step="key_wrapping", subject=name, line=f"keys of {name}: {what}"))
    return found


def waiting(workspace: Workspace) -> list[str]:
    """The same for people to read, whoever can do it: what waits, and for whom."""
    lines = []
    for name, gone, missing in behind(workspace):
        who = " or ".join(h for h in workspace.holders(name) if h not in gone) or "a holder"
        what = f"to be renewed, {', '.join(gone)} left" if gone else f"to be wrapped for {', '.join(missing)}"
        lines.append(f"keys of {name}: {what}: waits for {who}, who runs `cdl run`")
    return lines


def behind(workspace: Workspace) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each dataset whose holders are not those who are entitled: who holds it no more, and who does not yet."""
    wanted = entitled(workspace)
    for name in workspace.config.data:
        file = workspace.key_file(name)
        if file is None:
            continue
        gone = [email for email, held in file.holders.items() if wanted.get(email) != held.public]
        missing = [email for email in wanted if email not in file.holders or email in gone]
        if gone or missing:
            yield name, gone, missing


def begin(workspace: Workspace, work: Work) -> None:
    """Wraps, and tells for whom."""
    wrap(workspace, work.subject)


def after_policy(workspace: Workspace, subject: str) -> None:
    """What follows the approval of a policy: keys are wrapped where the approver holds them, else it is said who must."""
    for work in unwrapped(workspace):
        try:
            begin(workspace, work)
        except CdlError as error:  # the approval stands; the next run says it again
            workspace.tell(f"keys of {work.subject} are not wrapped: {error}")
    for line in waiting(workspace):
        workspace.tell(line)


def wrap(workspace: Workspace, name: str) -> None:
    """Makes a dataset's holders those who are entitled. Corrupt for a key file that no holder wrote; Conflict, Unavailable."""
    found = next((b for b in behind(workspace) if b[0] == name), None)
    file = workspace.key_file(name)
    if found is None or file is None:
        return
    project, gone, members = workspace.config.project, found[1], entitled(workspace)
    keys = workspace.signing(name)
    _require_whole(workspace, name, file)
    _require_decided(workspace)
    chain = Chain(workspace.registry, workspace.registry.integration)
    data_key, older = file.data_key, list(file.older)
    if gone:
        renewed = workspace.keyring.renewing(project, name, keys)
        results = sorted(set(named_results(workspace, chain.start)))
        older.append(handed_over(project, name, keys, renewed.public, results))
        keys, data_key = renewed, renewed.data_key_name
    new = written(project, name, keys, members, data_key=data_key, older=older)
    command, line = ("key renew", f"{name} {data_key}") if gone else ("key wrap", f"{name} for {', '.join(found[2])}")
    chain.commit(files={key_path(name): encode(new)}, command=command, line=line)
    if workspace.key_file(name) != file:
        raise Conflict(f"the keys of {name} were changed meanwhile", remedy="the command again")
    chain.land()
    if gone:
        workspace.keyring.take(project, name, keys)
    workspace.tell(_told(name, gone, data_key, list(members)))


def named_results(workspace: Workspace, commit: str) -> Iterator[str]:
    """Every result that a decision in a commit names, and those that it names in turn as far as the store has them."""
    found = [d.seen.get(what) for _, d in workspace.registry.all(Decision, at=commit) for what in RESULTS]
    waiting_, seen = list(_objects(found)), set[str]()
    while waiting_:
        name = waiting_.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        if workspace.store.has(name):
            result = _read(workspace.store.get(name))
            waiting_ += _objects(result.get(what) for what in INSIDE)


def _told(name: str, gone: list[str], data_key: str, members: list[str]) -> str:
    whom = ", ".join(members) or "nobody: only keyrings hold them"
    if gone:
        return f"keys of {name} renewed: data key {data_key} from now on; wrapped for {whom}; {', '.join(gone)} left"
    return f"keys of {name} wrapped for {whom}"


def _may_wrap(workspace: Workspace, name: str, gone: list[str]) -> bool:
    """Whether this person holds the keys in use, and stays."""
    me = workspace.person.email
    if workspace.keyring.given or any(same_person(me, email) for email in gone) or not workspace.holds_key(name):
        return False
    return may_hold(in_force(workspace), approved(workspace), me)


def _require_whole(workspace: Workspace, name: str, file: KeyFile) -> None:
    """Corrupt unless a holder wrote the file as it stands."""
    for fault in faults(workspace.config.project, name, file):
        raise Corrupt(fault, where=key_path(name), remedy=f"git log -- {key_path(name)}")


def _require_decided(workspace: Workspace) -> None:
    """Refused unless somebody who could approved the policy in force: keys that went out come back by no later finding."""
    every, now = [d for _, d in decisions(workspace, "policy")], in_force(workspace).id
    if sum(d.policy is None for d in every) != 1 or now not in sound(every):
        raise Refused(
            f"no {APPROVES} approved policy {now[:8]}: no key is wrapped for its members", remedy="cdl ci check"
        )


def _objects(values: Iterable[object]) -> Iterator[str]:
    """The names of objects in values, lists and mappings of them."""
    for value in values:
        if isinstance(value, str) and OBJECT.fullmatch(value):
            yield value
        elif isinstance(value, dict):
            yield from _objects(value.values())
        elif isinstance(value, list):
            yield from _objects(value)


def _read(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
