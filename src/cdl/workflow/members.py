"""Members: whose public keys the project knows, and who of them is entitled to the keys of datasets.

    members:                                       registry/members.yaml, a part of the policy
      review@example.org: "x25519:8520..."
    entitled: [data_engineer, devops]              left out: ENTITLED
    rewrite: true                                  left out: false

A change of it is a change of the policy: it counts once the Model Validator approves it. In a project of one person without
roles everybody listed is entitled. `rewrite` asks that the current versions of datasets are sealed again after each renewal.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from cdl import document
from cdl.config.schema import Role
from cdl.errors import ConfigError, Conflict, NotFound
from cdl.identity import public_key
from cdl.registry.chain import Chain
from cdl.workflow.policy import MEMBERS, Policy, in_force, require_role
from cdl.workflow.workspace import Workspace, same_person

ENTITLED: tuple[Role, ...] = ("data_engineer", "data_labeler", "model_validator", "devops")
KEEPERS = ("devops", "data_engineer", "model_validator")  # who may propose a change of members
ATTEMPTS = 5  # somebody else moved the branch meanwhile


class Members(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's content; `members` are public keys by mail address."""

    members: dict[str, str] = {}
    entitled: tuple[Role, ...] = ENTITLED
    rewrite: bool = False

    def find(self, email: str) -> str | None:
        """The address under which a person is listed."""
        return next((m for m in self.members if same_person(m, email)), None)


def parse(data: bytes | None) -> Members:
    """The members that a file lists; none where there is no file. ConfigError for another form or a bad key."""
    if data is None:
        return Members()
    try:
        found = msgspec.convert(document.read(data, where=MEMBERS).value or {}, Members)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), where=MEMBERS, remedy="cdl member list") from error
    for email, key in found.members.items():
        public_key(key, where=f"{MEMBERS}: {email}")
    if len({"".join(m.split()).casefold() for m in found.members}) != len(found.members):
        raise ConfigError("one person stands there twice", where=MEMBERS, remedy="cdl member remove EMAIL")
    return found


def encode(members: Members) -> bytes:
    """The bytes of the file."""
    plain: dict[str, object] = {"members": dict(sorted(members.members.items()))}
    if members.entitled != ENTITLED:
        plain["entitled"] = list(members.entitled)
    if members.rewrite:
        plain["rewrite"] = True
    return document.write(plain)


def written(workspace: Workspace) -> Members:
    """The members as the integration branch lists them, approved or not."""
    tip = workspace.registry.tip()
    return parse(workspace.git.read(tip, MEMBERS) if tip else None)


def approved(workspace: Workspace) -> Members:
    """The members of the policy in force."""
    return of_policy(workspace, in_force(workspace))


def of_policy(workspace: Workspace, policy: Policy) -> Members:
    """The members that a policy names. ConfigError where what it names is no such file."""
    blob = policy.document["files"].get(MEMBERS)
    return parse(None if blob is None else workspace.git.cat([blob])[blob])


def entitled(workspace: Workspace) -> dict[str, str]:
    """Who is to hold the keys, as the policy in force says: mail address -> public key."""
    policy = in_force(workspace)
    members = of_policy(workspace, policy)
    return {m: key for m, key in members.members.items() if may_hold(policy, members, m)}


def may_hold(policy: Policy, members: Members, email: str) -> bool:
    """Whether somebody's roles entitle to the keys."""
    return policy.solo or bool(policy.roles_of(email) & set(members.entitled))


def add(workspace: Workspace, email: str, key: str) -> list[str]:
    """Lists a member, or another key of one, on the integration branch; who was listed. In force once the policy is approved.

    A holder who adds the first other one is listed too, so that later keys are wrapped for both. Refused for another role,
    ConfigError for what is no address or no key, Conflict where nothing would change.
    """
    require_role(workspace, KEEPERS, "member add")
    check_address(email)
    public, policy = public_key(key), in_force(workspace)
    added: dict[str, str] = {}

    def change(members: Members) -> Members:
        listed = members.find(email)
        added.clear()
        added[listed or email] = public
        if members.members.get(listed or email) == public:
            raise Conflict(f"{email} is listed with this key", where=MEMBERS, remedy="cdl approve policy")
        if not members.members and not same_person(email, workspace.person.email):
            added.update(_oneself(workspace, policy, members))
        return msgspec.structs.replace(members, members={**members.members, **added})

    _commit(workspace, change, "member add", lambda: ", ".join(added))
    return list(added)


def remove(workspace: Workspace, email: str, *, rewrite: bool = False) -> list[str]:
    """Takes a member off the list on the integration branch; who is left. In force once the policy is approved.

    Refused for another role, NotFound for somebody who is not listed.
    """
    require_role(workspace, KEEPERS, "member remove")
    left: list[str] = []

    def change(members: Members) -> Members:
        listed = members.find(email)
        if listed is None:
            raise NotFound(f"{email} is no member", where=MEMBERS, remedy="cdl member list")
        kept = {m: key for m, key in members.members.items() if m != listed}
        left[:] = kept
        return msgspec.structs.replace(members, members=kept, rewrite=rewrite)

    _commit(workspace, change, "member remove", lambda: email + (", rewrite" if rewrite else ""))
    return left


def check_address(email: str) -> None:
    """ConfigError for what cannot be a mail address as git writes it."""
    name, _, host = email.partition("@")
    if not name or not host or not email.isprintable() or set(email) & set(" <>\"'\\,;:/") or len(email) > 200:
        raise ConfigError(f"'{email}' is no mail address", where=MEMBERS, remedy="as in git config user.email")


def _oneself(workspace: Workspace, policy: Policy, members: Members) -> Mapping[str, str]:
    """The person's own entry, where he holds a key and may."""
    me = workspace.person.email
    holds = any(workspace.holds_key(name) for name in workspace.config.data)
    if not holds or workspace.keyring.given or not may_hold(policy, members, me):
        return {}
    return {me: workspace.identity.public}


def _commit(
    workspace: Workspace, change: Callable[[Members], Members], command: str, line: Callable[[], str]
) -> Sequence[str]:
    """Writes what `change` makes of the list as it stands; again where somebody else moved the branch meanwhile."""
    registry = workspace.registry
    for attempt in range(ATTEMPTS):
        chain = Chain(registry, registry.integration)
        made = encode(change(parse(workspace.git.read(chain.start, MEMBERS))))
        chain.commit(files={MEMBERS: made}, command=command, line=line())
        try:
            return [chain.land()]
        except Conflict:
            if attempt == ATTEMPTS - 1 or registry.tip() == chain.start:
                raise
    raise AssertionError("unreachable")
