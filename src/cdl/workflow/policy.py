"""The policy: what the target branch says about roles, requirements and tests, and which version of it is in force.

A policy is named by the hash of its document: the parts of cdl.yaml that decide, the code that these name, the CI files
and the members. In force is the last one with an approving decision on the integration branch; a changed one is named by
`cdl status` and not used until the Model Validator approves it: `governed` puts the approved parts into its place.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.config.load import load, parse
from cdl.config.policy import differing, policy_entries, policy_parts, with_parts
from cdl.config.requirement import Requirement, parse_requirement
from cdl.config.schema import ROLES, Config
from cdl.errors import CdlError, NotFound, Refused
from cdl.git.commit import merge_in_memory
from cdl.jobs.closure import closure
from cdl.registry.records import Decision, Request
from cdl.workflow.standing import last_words, standing
from cdl.workflow.workspace import Workspace, same_person

CI_FILES = (".gitlab-ci.yml", ".github/workflows/cdl.yml")
MEMBERS = "registry/members.yaml"
POLICY_DIGITS = 32
APPROVES = "model_validator"  # who approves a policy


class Policy(msgspec.Struct, frozen=True):
    """A policy by its hash: `parts` of cdl.yaml, `code` closures by what names them, `files` by path."""

    id: str
    document: Mapping[str, Any]

    @property
    def parts(self) -> Mapping[str, Any]:
        """The parts of cdl.yaml that decide."""
        found: Mapping[str, Any] = self.document["parts"]
        return found

    @property
    def solo(self) -> bool:
        """One person holds every role."""
        return not self.parts.get("roles")

    def roles_of(self, email: str) -> frozenset[str]:
        """The roles that somebody holds."""
        if self.solo:
            return frozenset(ROLES)
        return frozenset(role for role, people in self.parts["roles"].items() if _holds(email, people))

    def holders(self, role: str) -> tuple[str, ...]:
        """Who holds a role; empty in a project of one person."""
        return () if self.solo else tuple(self.parts["roles"].get(role, ()))

    def asked(self, roles: Sequence[str]) -> str:
        """The role of a step that a request goes to: the first one that somebody holds, so that somebody can answer it."""
        return next((role for role in roles if self.solo or self.holders(role)), roles[0])

    def answers(self, request: Request) -> str:
        """The role that answers a request: the one it went to, or the policy's own where nobody holds that one any more."""
        return self.asked((request.to["role"], APPROVES))

    def requirements(self, prefix: str = "") -> list[Requirement]:
        """The requirements whose measure begins with `prefix`."""
        found = [parse_requirement(text) for text in self.parts.get("requirements", ())]
        return [r for r in found if r.measure.startswith(prefix)]


def policy_at(workspace: Workspace, commit: str) -> Policy:
    """The policy that stands in a commit, approved or not."""
    git = workspace.git
    data = git.read(commit, "cdl.yaml")
    if data is None:
        raise NotFound(f"no cdl.yaml in {commit[:8]}", remedy="cdl init")
    config = parse(data, where="cdl.yaml")
    files = git.files(commit)
    code = {
        name: closure(files, git.cat, [entry], declared=(), section=None).id
        for name, entry in policy_entries(config).items()
    }
    kept = {path: files[path] for path in (*CI_FILES, MEMBERS) if path in files}
    return name_policy({"parts": policy_parts(config), "code": code, "files": kept})


def name_policy(content: Mapping[str, Any]) -> Policy:
    """A policy from its document."""
    return Policy(blake3(document.canonical(content)).hexdigest()[:POLICY_DIGITS], content)


def in_force(workspace: Workspace) -> Policy:
    """The last approved policy of the integration branch. NotFound before `cdl init`."""
    every = decisions(workspace, "policy")
    stands = {s: standing((i, d) for i, d in every if d.subject == s) for s in {d.subject for _, d in every}}
    found = [(i, d) for i, d in every if d.verdict == "approve" and d.document and stands[d.subject] == "approve"]
    while found:
        last = last_words(found)
        if len({d.subject for _, d in last}) == 1:
            return name_policy(last[0][1].document or {})
        found = [pair for pair in found if pair not in last]  # approved side by side: what stood before them counts
    branch = workspace.registry.integration
    remedy = "cdl init, or cdl approve policy"
    if workspace.registry.tip() is None and workspace.git.resolve(f"refs/remotes/origin/{branch}"):
        remedy = f"git branch {branch} origin/{branch}"
    raise NotFound(f"no approved policy on {branch}, the integration branch", remedy=remedy)


def sound(approvals: Iterable[Decision]) -> dict[str, Policy]:
    """The policies that somebody could approve: the first one, and each that a Model Validator of a sound one did."""
    waiting = [d for d in approvals if d.gate == "policy" and d.verdict == "approve" and d.document]
    found: dict[str, Policy] = {}
    while True:
        rest = []
        for decision in waiting:
            before = found.get(decision.policy or "")
            if decision.policy is None or (before and APPROVES in before.roles_of(decision.made.who)):
                policy = name_policy(decision.document or {})
                found[policy.id] = policy
            else:
                rest.append(decision)
        if len(rest) == len(waiting):
            return found
        waiting = rest


def governed(workspace: Workspace) -> Config:
    """cdl.yaml as it counts: what decides as it is in force, the rest as written. As written before the first policy.

    A dataset or model that no approved policy knows stands as written: nothing was agreed about it yet.
    """
    try:
        return with_parts(workspace.config, in_force(workspace).parts)
    except NotFound:
        return workspace.config


def not_in_force(workspace: Workspace) -> list[str]:
    """The deciding keys in which cdl.yaml as written in the work tree is not what is in force, and is therefore not used."""
    return differing(load(workspace.root), in_force(workspace).parts)


def unapproved(workspace: Workspace) -> Policy | None:
    """The policy of the integration branch where it is not the one in force."""
    tip = workspace.registry.tip()
    if tip is None:
        return None
    now = policy_at(workspace, tip)
    return None if now.id == in_force(workspace).id else now


def authors(workspace: Workspace) -> tuple[str, ...]:
    """Whoever changed the policy on the integration branch since the one in force was approved, last ones first."""
    tip = workspace.registry.tip()
    if tip is None:
        return ()
    since = [f"^{commit}" for commit in _approvals(workspace) if workspace.git.is_ancestor(commit, tip)]
    paths = {path for commit in (tip, *(c[1:] for c in since)) for path in policy_files(workspace, commit)}
    lines = workspace.git.text("log", "--format=%H %P:%ae", tip, *since, "--", *sorted(paths)).splitlines()
    found = []
    for line in lines:
        commits, _, author = line.partition(":")
        if _changes(workspace, *commits.split()):
            found.append(author)
    return tuple(dict.fromkeys(found))


def policy_files(workspace: Workspace, commit: str) -> list[str]:
    """The files of a commit that its policy is read from."""
    files = workspace.git.files(commit)
    config = parse(workspace.git.read(commit, "cdl.yaml") or b"", where="cdl.yaml")
    named = [closure(files, workspace.git.cat, [e], declared=(), section=None) for e in policy_entries(config).values()]
    return ["cdl.yaml", *CI_FILES, MEMBERS, *(path for code in named for path in code.files)]


def _approvals(workspace: Workspace) -> list[str]:
    """The commits that brought the approvals of the policy in force."""
    agreed = in_force(workspace).id
    found = [i for i, d in decisions(workspace, "policy", agreed) if d.verdict == "approve"]
    return [workspace.registry.brought(identity).id for identity in found]


def _changes(workspace: Workspace, commit: str, *parents: str) -> bool:
    """Whether a commit made another policy than its parents come to; a merge only where it is not what git makes of them."""
    merge = merge_in_memory(workspace.git, *parents) if len(parents) == 2 else None
    before = merge.tree if merge else parents[0] if parents else None
    try:
        return before is None or policy_at(workspace, commit).id != policy_at(workspace, before).id
    except CdlError:
        return True  # one of the two is no policy


def _holds(email: str, people: Collection[str]) -> bool:
    return any(same_person(email, person) for person in people)


def require_role(workspace: Workspace, roles: Collection[str], action: str) -> None:
    """Refused, and recorded as such, unless the person holds one of the roles. `action` is the command."""
    policy = in_force(workspace)
    mine = policy.roles_of(workspace.person.email)
    if mine & set(roles):
        return
    workspace.journal.append(
        "decision.refused", who=workspace.person.email, gate=action, subject=action, because="role"
    )
    holders = ", ".join(dict.fromkeys(h for r in roles for h in policy.holders(r))) or "nobody"
    held = ", ".join(sorted(mine)) or "no role"
    raise Refused(f"{action} is for {' or '.join(roles)} ({holders}); you are {held}", remedy="cdl status")


def require_code(workspace: Workspace, name: str, entry: str) -> None:
    """Refused when code that the policy in force names is not the approved one any more. `name` as in its document."""
    tip = workspace.registry.tip()
    if tip is None:
        return
    files = workspace.git.files(tip)
    now = closure(files, workspace.git.cat, [entry], declared=(), section=None).id
    if in_force(workspace).document["code"].get(name) != now:
        raise Refused(f"{name} changed and is not approved", where="policy", remedy="cdl approve policy")


def decisions(workspace: Workspace, gate: str, subject: str | None = None) -> list[tuple[str, Decision]]:
    """Decisions on a gate that stand on the integration branch."""
    tip = workspace.registry.tip()
    by_subject = workspace.registry.decisions(tip).get(gate, {}) if tip else {}
    if subject is not None:
        return list(by_subject.get(subject, ()))
    return [pair for pairs in by_subject.values() for pair in pairs]


def verdict_on(workspace: Workspace, gate: str, subject: str) -> str | None:
    """How a gate stands for a subject: the verdict, or None while it is open or disputed."""
    return standing(decisions(workspace, gate, subject))
