"""The daily loop: status, approve, reject, reopen, request."""

import click
import msgspec
from msgspec.structs import asdict

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show
from cdl.config.load import load
from cdl.config.schema import ROLES
from cdl.cycle import CYCLE, TRIGGERS, announce
from cdl.data.exposed import exposed
from cdl.deployment.stages import look as look_at_stage
from cdl.model.awaiting import waiting as evaluations_waiting
from cdl.model.source import describe
from cdl.model.submit import retrained_branch, unsubmitted, unsubmitted_of
from cdl.monitoring.steps import alarm, stages_of
from cdl.project import open_workspace
from cdl.registry.records import Decision, Request, short
from cdl.sharing.trust import unconfirmed
from cdl.workflow import decide as deciding
from cdl.workflow.policy import in_force, not_in_force
from cdl.workflow.request import open_request, open_requests
from cdl.workflow.status import status as status_of
from cdl.workflow.trigger import waiting as triggers_waiting
from cdl.workflow.workspace import Workspace
from cdl.workflow.wrapping import waiting as keys_waiting


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Where everything stands, and who must decide what."""
    workspace = open_workspace(here(), tell=say)
    announce(workspace)
    found = status_of(workspace, CYCLE)
    due = triggers_waiting(workspace, TRIGGERS)
    stages = [look_at_stage(workspace, name) for name in stages_of(workspace)]
    alarms = [line for s in stages if (line := alarm(workspace, s.stage))]
    unused, trained = not_in_force(workspace), unsubmitted(workspace)
    unheld, mine = _unheld(workspace), unsubmitted_of(workspace, workspace.person.email)
    untrusted = _unconfirmed(workspace)
    key_lines, judging = keys_waiting(workspace), evaluations_waiting(workspace)
    open_data = {name: reasons for name in workspace.config.data if (reasons := exposed(workspace, name))}
    roles = "solo: every role" if found.solo else ", ".join(found.roles) or "no role"
    lines = [
        f"{found.project}: {found.person} ({roles}; declared, not proved)",
        f"branch {found.branch or 'detached'}; integration branch {found.integration}; policy {found.policy[:8]} in force",
        *(f"{what}: {version}" for what, version in found.heads.items() if not what.startswith("stage ")),
        *(
            f"not used: {key} of cdl.yaml here: commit it on {found.integration}, then cdl approve policy"
            for key in unused
        ),
        *([f"nobody holds {', '.join(unheld)}: what they do, nobody can: roles in cdl.yaml"] if unheld else []),
        *untrusted,
        *(f"{name} not secret: {why}" for name, reasons in open_data.items() for why in reasons),
        *(s.line for s in stages if s.declared or s.running),
        *alarms,
        *(f"trigger {w.line} waits" + (f": {w.unable}" if w.unable else ": cdl run") for w in due),
        *(
            f"{short(i)} {describe(m)}: not submitted: git switch {retrained_branch(i)}, cdl model submit"
            for i, m in trained
        ),
        *key_lines,
        *(line for _, line in judging),
        *(f"{short(i)} {describe(m)}: registered, not submitted: cdl model submit {short(i)}" for i, m in mine),
        *(f"request {short(i)} at {r.to['step']} for {r.to['role']}: {r.because}" for i, r in found.requests),
        *(f"waits for {found.holders[o.subject]}: {o.gate} {short(o.subject)}, {o.line}" for o in found.waiting),
    ]
    if not found.waiting:
        lines.append("nothing waits for a decision")
    more = {
        "stages": [asdict(s) | {"url": s.url} for s in stages],
        "triggers": [{"trigger": w.line, "event": w.event.id, "unable": w.unable} for w in due],
        "alarms": alarms,
        "not_submitted": [i for i, _ in trained],
        "registered": [i for i, _ in mine],
        "nobody_holds": unheld,
        "not_trusted": untrusted,
        "not_in_force": unused,
        "keys": key_lines,
        "evaluations": [{"model": i, "line": line} for i, line in judging],
        "not_secret": open_data,
    }
    show(msgspec.to_builtins(found) | more, lambda: lines, as_json=as_json)


def _unheld(workspace: Workspace) -> list[str]:
    """Roles that nobody holds: what waits for them is never done."""
    policy = in_force(workspace)
    return [] if policy.solo else [role for role in ROLES if not policy.holders(role)]


def _unconfirmed(workspace: Workspace) -> list[str]:
    """What this clone does not do before `cdl trust`."""
    lines = [] if workspace.trusted.code else ["this clone may not run the project's code yet: cdl trust"]
    found = unconfirmed(load(workspace.root), workspace.trusted)
    lines += [
        f"not used in this clone: {key}: {written or 'none'} (now {now or 'none'}): cdl trust"
        for key, (now, written) in found.items()
    ]
    return lines


@click.command()
@click.argument("what", required=False)
@click.option("--despite", metavar="TEXT", help="Approve although a requirement failed, and say why.")
@click.option("--because", metavar="TEXT", help="A reason, kept with the decision.")
@click.option("--no-triggers", is_flag=True, help="Leave triggers waiting.")
@json_option
def approve(what: str | None, despite: str | None, because: str | None, no_triggers: bool, as_json: bool) -> None:
    """Approve what waits at a gate: an id, a gate's name, or nothing when one decision is open for you."""
    workspace = open_workspace(here(), tell=say)
    meant = deciding.meant(workspace, CYCLE, what)
    verdict = "answer" if meant.gate == "request" else "approve"
    made = deciding.decide(workspace, CYCLE, meant.gate, meant.subject, verdict, because=because, despite=despite)
    show(
        {"decision": made.id, "subject": meant.subject, "gate": meant.gate, "commit": made.commit},
        lambda: [f"approved {short(meant.subject)} at the {meant.gate} gate ({short(made.id)})", *_held(made.decision)],
        as_json=as_json,
    )
    after(workspace, no_triggers=no_triggers)


@click.command()
@click.argument("what", required=False)
@click.option("--to", metavar="STEP", help="The step that it goes back to; left out, the gate's first, which is named.")
@click.option("--because", metavar="TEXT", required=True, help="Why.")
@json_option
def reject(what: str | None, to: str | None, because: str, as_json: bool) -> None:
    """Send work back to an earlier step; opens a request there."""
    workspace = open_workspace(here(), tell=say)
    meant = deciding.meant(workspace, CYCLE, what)
    verdict = "decline" if meant.gate == "request" else "reject"
    made = deciding.decide(workspace, CYCLE, meant.gate, meant.subject, verdict, because=because, to=to)
    opened = ""
    if made.request:
        sent = workspace.registry.record(Request, made.request).to
        opened = f"; {short(made.request)} opened at {sent['step']} for {sent['role']}"
    past = {"decline": "declined", "reject": "rejected"}[verdict]
    show(
        {
            "decision": made.id,
            "subject": meant.subject,
            "gate": meant.gate,
            "request": made.request,
            "commit": made.commit,
        },
        lambda: [f"{past} {short(meant.subject)} at the {meant.gate} gate{opened}"],
        as_json=as_json,
    )
    after(workspace)


@click.command()
@click.argument("step")
@click.option("--because", metavar="TEXT", required=True, help="Why.")
@json_option
def reopen(step: str, because: str, as_json: bool) -> None:
    """Ask for a step to be done again; anyone may, at almost any stage."""
    workspace = open_workspace(here(), tell=say)
    found = CYCLE.step(step)
    made = open_request(
        workspace,
        step=step,
        role=in_force(workspace).asked(found.roles),
        because=because,
        subject=None,
        evidence=[],
        command="reopen",
    )
    show({"request": made, "step": step}, lambda: [f"{short(made)} opened at {step}"], as_json=as_json)
    after(workspace)


@click.group(invoke_without_command=True)
@click.pass_context
def request(ctx: click.Context) -> None:
    """Work sent back: list, answer, decline."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_requests)


@request.command("list")
@json_option
def list_requests(as_json: bool = False) -> None:
    """Open requests."""
    found = open_requests(open_workspace(here(), tell=say))
    lines = [f"{short(i)} at {r.to['step']} for {r.to['role']}: {r.because}" for i, r in found] or ["no open request"]
    show([{"id": i, **msgspec.to_builtins(r)} for i, r in found], lambda: lines, as_json=as_json)


@request.command()
@click.argument("what")
@click.option("--because", metavar="TEXT", help="What was done.")
@json_option
def answer(what: str, because: str | None, as_json: bool) -> None:
    """Close a request as answered."""
    _settle(what, "answer", because, as_json)


@request.command()
@click.argument("what")
@click.option("--because", metavar="TEXT", required=True, help="Why not.")
@json_option
def decline(what: str, because: str | None, as_json: bool) -> None:
    """Close a request without doing it."""
    _settle(what, "decline", because, as_json)


def _held(decision: Decision) -> list[str]:
    """How the requirements stood."""
    found = [r["held"] for r in decision.requirements]
    if not found:
        return []
    failed = [r["require"] for r in decision.requirements if r["held"] is False]
    text = f"  {sum(h is True for h in found)} requirements and tests held, {sum(h == 'later' for h in found)} later"
    return [text, *(f"  NOT held: {f}; despite: {decision.despite}" for f in failed)]


def _settle(what: str, verdict: str, because: str | None, as_json: bool) -> None:
    workspace = open_workspace(here(), tell=say)
    subject = workspace.registry.get(what).id
    made = deciding.decide(workspace, CYCLE, "request", subject, verdict, because=because)
    show(
        {"decision": made.id, "request": subject, "verdict": verdict},
        lambda: [f"{verdict}: {short(subject)} ({short(made.id)})"],
        as_json=as_json,
    )
