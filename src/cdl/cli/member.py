"""`cdl member`: who is known by a public key, and holds the keys of datasets."""

from pathlib import Path

import click

from cdl.cli.after import after
from cdl.cli.output import here, json_option, say, show, table
from cdl.errors import ConfigError
from cdl.identity import PREFIX
from cdl.project import open_workspace
from cdl.workflow import members
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace
from cdl.workflow.wrapping import waiting

LONGEST_FILE = 1000  # bytes of a file with one public key


@click.group(invoke_without_command=True)
@click.pass_context
def member(ctx: click.Context) -> None:
    """Members: add, remove, list. A change counts once the policy is approved."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_members)


@member.command()
@click.argument("email")
@click.argument("key", metavar="PUBFILE|KEY")
@json_option
def add(email: str, key: str, as_json: bool) -> None:
    """List somebody with the public key that his `cdl key public` printed: the line, or a file that holds it."""
    workspace = open_workspace(here(), tell=say)
    added = members.add(workspace, email, _line(key))
    lines = [f"listed {', '.join(added)}; keys are wrapped once the policy is approved: cdl approve policy"]
    policy, now = in_force(workspace), members.written(workspace)
    lines += [
        f"{who} holds none of the roles that are entitled ({', '.join(now.entitled)}), and gets no keys"
        for who in added
        if not members.may_hold(policy, now, who)
    ]
    show({"added": added}, lambda: lines, as_json=as_json)
    after(workspace)


@member.command()
@click.argument("email")
@click.option("--rewrite", is_flag=True, help="Seal the current versions of datasets again, as new versions.")
@json_option
def remove(email: str, rewrite: bool, as_json: bool) -> None:
    """Take somebody off the list; once the policy is approved, other keys seal and sign from then on.

    What was sealed before stays readable to those who hold older keys. With --rewrite the next holder's `cdl run` seals the
    current version of each dataset again under the new data key, as a new version with its own data gate. Neither takes
    back what was read or copied, and older versions, predictions and logs stay under the older key.
    """
    workspace = open_workspace(here(), tell=say)
    left = members.remove(workspace, email, rewrite=rewrite)
    lines = [f"{email} is off the list once the policy is approved: cdl approve policy"]
    holders = [m for m in left if members.may_hold(in_force(workspace), members.written(workspace), m)]
    if len(holders) < 2:
        whom = holders[0] if holders else "nobody that is listed"
        lines.append(f"warning: {whom} alone would hold the keys: add another member, and keep a copy: cdl key backup")
    roles = sorted(in_force(workspace).roles_of(email)) if not in_force(workspace).solo else []
    if roles:
        lines.append(
            f"{email} still stands under roles in cdl.yaml ({', '.join(roles)}): change these with the same approval"
        )
    show({"removed": email, "holders": holders}, lambda: lines, as_json=as_json)
    after(workspace)


@member.command("list")
@json_option
def list_members(as_json: bool = False) -> None:
    """Who is listed, in which roles, and whose keys are wrapped."""
    workspace = open_workspace(here(), tell=say)
    rows = _rows(workspace)
    lines = table(rows, ["member", "key", "roles", "in force", "holds"]) if rows else ["no member: cdl member add"]
    show({"members": rows, "waiting": waiting(workspace)}, lambda: [*lines, *waiting(workspace)], as_json=as_json)


def _rows(workspace: Workspace) -> list[dict[str, object]]:
    policy, approved, written = in_force(workspace), members.approved(workspace), members.written(workspace)
    files = {name: workspace.key_file(name) for name in workspace.config.data}
    rows: list[dict[str, object]] = []
    for email in sorted({*approved.members, *written.members}):
        now, wanted = approved.members.get(email), written.members.get(email)
        stands = (
            "yes" if now == wanted else "no" if now is None else "until approved" if wanted is None else "older key"
        )
        holds = [name for name, file in files.items() if file and email in file.holders]
        roles = "solo: every role" if policy.solo else ", ".join(sorted(policy.roles_of(email))) or "no role"
        key = (wanted or now or "")[:23]
        rows.append({"member": email, "key": key, "roles": roles, "in force": stands, "holds": ", ".join(holds)})
    return rows


def _line(given: str) -> str:
    """A public key as it was given, or as a file holds it."""
    if given.startswith(PREFIX):
        return given
    try:
        with Path(given).open("rb") as file:
            return file.read(LONGEST_FILE).decode()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(
            f"'{given}' is neither a file nor a public key", remedy=f"{PREFIX}... as `cdl key public` prints it"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("not a public key", where=given, remedy="cdl key public --output FILE") from error
