"""The page of a stage: what should run and what does, its package, the revision behind it, windows, drift, alarms, history."""

from collections.abc import Sequence
from typing import Any

from cdl import document
from cdl.deployment.gates import revised
from cdl.deployment.stages import Stage, declared
from cdl.deployment.stages import look as look_at
from cdl.errors import ConfigError, NotFound
from cdl.journal.events import Event
from cdl.model.results import kept_result
from cdl.monitoring.drift import ALPHA, DRIFT, FAILING, LARGE
from cdl.monitoring.steps import alarm
from cdl.pages.comparison import reading
from cdl.pages.written import made_line, model_name, stage_name
from cdl.registry.names import Thing, chain, own_branch
from cdl.registry.records import DeploymentHead, Model, Package, short
from cdl.report import chart
from cdl.report.page import (
    Cell,
    Code,
    Estimate,
    Figure,
    Fixed,
    Link,
    Mark,
    Page,
    Section,
    bad,
    good,
    several,
    soft,
    warn,
)
from cdl.report.text import count, seconds, size
from cdl.workflow.policy import decisions, in_force
from cdl.workflow.workspace import Workspace

SHOWN_WINDOWS = 12  # rows of the table; the charts show all
SHOWN_MOVES = 20
MEANING = {
    "input": "how far inputs are from those in validation (MMD squared)",
    "confidence": "how far confidence is from that in validation (Kolmogorov-Smirnov distance)",
    "category": "how far predicted categories are from those in validation (Cramer's V)",
}


def deployment_page(workspace: Workspace, stage: str) -> Page:
    """The page. NotFound when nothing was ever deployed there."""
    head = declared(workspace, stage)
    if head is None:
        raise NotFound(f"nothing was deployed at {stage} yet", remedy=f"cdl deploy apply {stage}")
    now = look_at(workspace, stage)
    package = workspace.registry.record(Package, head.package)
    page = Page(name=stage_name(stage), title=f"Stage {stage}")
    page.subtitle = f"package {short(head.package)} of model {short(package.model)}"
    _say(workspace, page, now)
    _state(workspace, page, now, head)
    package_section(workspace, page, head.package)
    revision(workspace, page, package.model)
    windows = [e for e in workspace.journal.events("monitor.window") if e.fields["stage"] == stage]
    _alarms(workspace, page, stage)
    _windows(workspace, page, windows)
    _history(workspace, page, stage, head)
    page.made = made_line(workspace)
    return page


def package_page(workspace: Workspace, package_id: str) -> Page:
    """The page of a package: what is in it, its revision, and where it is declared to run."""
    package = workspace.registry.record(Package, package_id)
    page = Page(name=short(package_id), title=f"Package {short(package_id)}")
    page.subtitle = f"of model {short(package.model)}"
    package_section(workspace, page, package_id)
    revision(workspace, page, package.model)
    heads = {name: declared(workspace, name) for c in workspace.config.deploy.values() for name in c.stages}
    rows = [[Link(name, stage_name(name))] for name, head in heads.items() if head and head.package == package_id]
    page.section("Where it should run").table(["stage"], rows)
    page.made = made_line(workspace)
    return page


def package_section(workspace: Workspace, page: Page, package_id: str) -> None:
    """What a package holds."""
    package = workspace.registry.record(Package, package_id)
    model = workspace.registry.record(Model, package.model)
    section = page.section("Package")
    entries = list(workspace.store.tree(package.tree).entries) if workspace.store.has(package.tree) else ()
    section.facts(
        {
            "package": Code(package_id),
            "model": several([Link(short(package.model), model_name(package.model)), model.name]),
            "made from": several(
                [model.origin["by"], Link(short(model.origin["model"]), model_name(model.origin["model"]))]
            )
            if model.origin
            else None,
            "transformation": Code(short(package.transformation)) if package.transformation else None,
            "environment": ", ".join(f"{k} {str(v)[:16]}" for k, v in package.environment.items()),
            "steps left out": ", ".join(s.replace("_", " ") for s in package.skipped) or None,
            "size": size(sum(e.size for e in entries)) if entries else None,
        }
    )
    parts: dict[str, list[int]] = {}
    for e in entries:
        parts.setdefault(e.name.partition("/")[0], []).append(e.size)
    section.table(
        ["part", "files", "size"], [[name, len(sizes), size(sum(sizes))] for name, sizes in sorted(parts.items())]
    )


def revision(workspace: Workspace, page: Page, model_id: str) -> None:
    """A model beside the one that it was made from: accuracy, size and latency, as the revision gate sees them."""
    found = revision_of(workspace, model_id)
    if found is None:
        return
    section = page.section("Revision")
    same = found["original"] == model_id
    low, high = found["difference"][1:]
    if same:
        section.text("Nothing was compressed or implemented anew: the model is its own original.")
    else:
        section.text(_verdict(workspace, found))
    names = ["this model"] if same else [f"{short(found['original'])}, the original", f"{short(model_id)}, this"]
    places = [1] if same else [0, 1]
    ratio: list[Cell] = [] if same else [_ratio(found["size"]), _ratio(found["latency_p95"])]
    rows: list[list[Cell]] = [
        [
            "sealed accuracy",
            *(found["accuracy"][i] for i in places),
            *([] if same else [Estimate(found["difference"][0], low, high, signed=True)]),
        ],
        ["size of the weights", *(size(found["size"][i]) for i in places), *ratio[:1]],
        ["latency of one prediction, 95th percentile", *(seconds(found["latency_p95"][i]) for i in places), *ratio[1:]],
    ]
    section.table(["", *names, *([] if same else ["difference"])], rows)
    machine = found["machine"]
    section.text(
        f"Latency on {machine['processor'] or 'an unnamed processor'}, {machine['threads']} thread of {machine['cores']} cores, "
        "the median of five rounds."
    )


def revision_of(workspace: Workspace, model_id: str) -> dict[str, Any] | None:
    """The revision on the current test; else the one that the last decision at the revision gate saw."""
    found = revised(workspace, model_id)
    seen = [d.seen.get("revision") for _, d in decisions(workspace, "revision", model_id)]
    if found is None and seen and seen[-1] and workspace.store.has(seen[-1]):
        found = kept_result(workspace, seen[-1])
    return found


def _verdict(workspace: Workspace, found: dict[str, Any]) -> Cell:
    """What the paired comparison with the original says."""
    if not workspace.store.has(found["comparison"]):
        return None
    paired = kept_result(workspace, found["comparison"])
    said = reading(paired)
    return Mark(
        f"On the sealed test: {said.text}. Better than its original on {paired['won']} items, worse on {paired['lost']}, "
        f"p {paired['p']:.3f}.",
        said.tone,
    )


def _ratio(pair: Sequence[float]) -> Cell:
    return f"{100 * pair[1] / pair[0]:.0f} % of the original" if pair[0] else None


def _say(workspace: Workspace, page: Page, now: Stage) -> None:
    """What does not run as it should, and alarms."""
    raised = alarm(workspace, now.stage)
    if raised:
        page.notice(
            alarm_text(raised),
            "bad",
            [f"cdl deploy rollback {now.stage} --because TEXT", "cdl reopen STEP --because TEXT"],
        )
    if now.running != now.declared:
        does = f"runs {short(now.running)}" if now.running else "nothing runs on this machine"
        page.notice(
            f"It should run {short(now.declared or '')}, and {does}.", "warn", [f"cdl deploy apply {now.stage}"]
        )


def alarm_text(line: str) -> str:
    """What `cdl status` says of an alarm, for a page."""
    stage, _, what = line.partition(": cdl report")[0].partition(": ALARM ")
    return f"Alarm at {stage}: {what} failed, for the second time in a row."


def _state(workspace: Workspace, page: Page, now: Stage, head: DeploymentHead) -> None:
    section = page.section("At a glance")
    section.facts(
        {
            "should run": Code(short(head.package)),
            "runs": several([Code(short(now.running)), f"{now.url}", count(now.workers, "worker")])
            if now.running
            else soft("nothing on this machine"),
            "package before": Code(short(head.before)) if head.before else None,
            "rolled back because": head.because,
            **_manifest(workspace, head),
        }
    )
    asked = [r.text for r in in_force(workspace).requirements("live.")]
    section.facts({"asked of every window": ", ".join(asked)})


def _manifest(workspace: Workspace, head: DeploymentHead) -> dict[str, Cell]:
    """Replicas, resources and port, as the manifest says."""
    if not workspace.store.has(head.manifest):
        return {}
    try:
        content = document.read(workspace.store.get(head.manifest), where="manifest").value
    except ConfigError:
        return {}
    if not isinstance(content, dict) or "replicas" not in content:
        return {}
    resources = content.get("resources") or {}
    return {
        "replicas": str(content["replicas"]),
        "resources": ", ".join(f"{k} {v}" for k, v in resources.items()),
        "port": "a free one" if not content.get("port") else str(content["port"]),
        "runtime": str(content.get("runtime", "")),
    }


def _alarms(workspace: Workspace, page: Page, stage: str) -> None:
    kinds = ("monitor.alarm", "monitor.drift")
    raised = sorted(
        (e for kind in kinds for e in workspace.journal.events(kind) if e.fields["stage"] == stage),
        key=lambda e: e.count,
    )
    rows: list[list[Cell]] = []
    for e in raised:
        what = e.fields.get("measure") or ", ".join(f"{n} {v:.4g}" for n, v in e.fields["measures"].items())
        rows.append([e.fields["window"], bad(what), Code(short(e.fields["model"])), e.at.replace("T", " ")[:16]])
    section = page.section("Alarms")
    section.table(["window", "what failed twice in a row", "model", "when (UTC)"], rows)
    if not rows:
        section.text("None.")


def _windows(workspace: Workspace, page: Page, windows: Sequence[Event]) -> None:
    section = page.section("Live windows")
    if not windows:
        section.text("No window of requests was measured here yet: cdl monitor run")
        return
    names = [n for n in _names(windows) if not n.startswith(DRIFT)]
    drifts = [n for n in _names(windows) if n.startswith(DRIFT)]
    section.figures(*(_chart(workspace, name, windows) for name in names))
    rows: list[list[Cell]] = [_row(e, [*names, *drifts]) for e in windows[-SHOWN_WINDOWS:]]
    section.table(["window", "model", *names, *drifts, "fails"], rows)
    if len(windows) > SHOWN_WINDOWS:
        section.text(f"The last {SHOWN_WINDOWS} of {len(windows)} windows; the charts show all.")
    if drifts:
        further = page.section("Drift")
        further.text(
            f"Requests of a window against what the model saw in validation. A measure drifts when p is below {ALPHA:g} and its "
            "size is above the dashed line; twice in a row is an alarm."
        )
        further.figures(*(_chart(workspace, name, windows) for name in drifts))


def _names(windows: Sequence[Event]) -> list[str]:
    return sorted(
        {n for e in windows for n in e.fields["measures"] if not n.startswith(FAILING) and not n.endswith(".p")}
    )


def _row(event: Event, names: Sequence[str]) -> list[Cell]:
    measures = event.fields["measures"]
    failing = sorted(n.removeprefix(FAILING) for n in measures if n.startswith(FAILING))
    values: list[Cell] = [
        seconds(measures[n]) if "latency" in n and n in measures else _fixed(measures.get(n)) for n in names
    ]
    return [
        event.fields["window"],
        Code(short(event.fields["model"])),
        *values,
        warn(", ".join(failing)) if failing else good("nothing"),
    ]


def _fixed(value: float | None) -> Cell:
    return None if value is None else Fixed(value, 4)


def _chart(workspace: Workspace, name: str, windows: Sequence[Event]) -> Figure:
    """One measure over the windows, a line for each model, with what it is held against."""
    factor = 1e3 if "latency" in name else 1.0
    series: dict[str, list[tuple[float, float]]] = {}
    for e in windows:
        if name in e.fields["measures"]:
            point = float(e.fields["window"]), factor * e.fields["measures"][name]
            series.setdefault(short(e.fields["model"]), []).append(point)
    limits = {r.text: factor * r.value for r in in_force(workspace).requirements("live.") if r.measure == name}
    drifted = name.removeprefix(DRIFT)
    if name.startswith(DRIFT) and drifted in LARGE:
        limits["large from here"] = LARGE[drifted]
    title = f"{name}, milliseconds" if "latency" in name else name
    made = chart.lines(title, series, x="window", limits=limits, zero=name.startswith(DRIFT) or bool(limits))
    return Figure(made.title, made.svg, made.table, MEANING.get(drifted, "") if name.startswith(DRIFT) else "")


def _history(workspace: Workspace, page: Page, stage: str, head: DeploymentHead) -> None:
    """Every move on the stage's own branch, newest first, with what a rollback was for."""
    registry, thing = workspace.registry, Thing(kind="stage", name=stage)
    line = registry.line(own_branch(registry, thing))
    section: Section = page.section("History")
    rows: list[list[Cell]] = []
    seen = chain(registry, thing, own_branch(registry, thing))
    for move in [m for m in registry.moves(thing.path) if m.commit in line][::-1][:SHOWN_MOVES]:
        commit = registry.commit_of(move.commit)
        then = registry.head(DeploymentHead, stage, at=move.commit)
        model = registry.record(Package, move.version).model
        back = then is not None and then.because is not None
        rows.append(
            [
                commit.when.replace("T", " ")[:16],
                Code(short(move.version)),
                Link(short(model), model_name(model)),
                commit.who,
                warn("rolled back") if back else "deployed",
                then.because if then else None,
            ]
        )
    section.table(["when (UTC)", "package", "model", "who", "", "because"], rows)
    if len(seen) > SHOWN_MOVES:
        section.text(f"The last {SHOWN_MOVES} of {len(seen)}: cdl log stage:{stage}")
