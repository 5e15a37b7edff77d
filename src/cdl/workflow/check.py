"""What continuous integration checks of decisions, with no key: whoever is named could decide, under the policy that is named.

A decision written by hand is a file like any other; what it claims has to fit the policies that stand beside it.
"""

from collections.abc import Iterator, Mapping

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.registry.check import Finding
from cdl.registry.records import AnyRecord, Decision, Model, Request, decode, is_record
from cdl.workflow.policy import Policy, name_policy, sound
from cdl.workflow.step import Cycle
from cdl.workflow.workspace import same_person


def check_decisions(git: Git, cycle: Cycle, commit: str) -> list[Finding]:
    """Findings in the decisions of a commit: of nobody who held the role, of the author, under a policy that is none."""
    blobs = {p: b for p, b in git.files(commit, "registry/").items() if is_record(p)}
    data = git.cat(blobs.values())
    records: dict[str, AnyRecord] = {}
    for path, blob in blobs.items():
        try:
            records[path.rsplit("/", 1)[-1].removesuffix(".yaml")] = decode(path, data[blob])
        except CdlError:
            continue  # named by `check_registry`
    made = {i: d for i, d in records.items() if isinstance(d, Decision)}
    policies = sound(made.values())
    first = sorted(i for i, d in made.items() if d.policy is None)
    found = [Finding(i, "a first policy beside another one") for i in first] if len(first) > 1 else []
    for identity, decision in sorted(made.items()):
        found += [Finding(identity, what) for what in _wrong(decision, cycle, policies, records)]
    return found


def _wrong(
    decision: Decision, cycle: Cycle, policies: Mapping[str, Policy], records: Mapping[str, AnyRecord]
) -> Iterator[str]:
    """What does not fit in a decision."""
    gate, who = cycle.gates[decision.gate], decision.made.who
    if decision.document is not None and name_policy(decision.document).id != decision.subject:
        yield "it holds another policy than it names"
    if decision.policy is None:
        if decision.gate != "policy":
            yield "it names no policy"
        return
    policy = policies.get(decision.policy)
    if policy is None:
        yield f"policy {decision.policy[:8]} was never approved"
        return
    subject = records.get(decision.subject)
    role = policy.answers(subject) if gate.name == "request" and isinstance(subject, Request) else gate.role
    if role not in policy.roles_of(who):
        yield f"{who} is no {role} in the policy that it names"
    if isinstance(subject, Model) and not (gate.own or policy.solo) and same_person(subject.made.who, who):
        if (subject.origin or {}).get("by") != "retraining":  # whose author is that of the source
            yield f"{who} decided on a model of his own"
