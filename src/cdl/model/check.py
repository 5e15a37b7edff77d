"""What continuous integration checks of results, with no key: a decision saw a signed evaluation of its own model and test.

    decision       the model it is about, the test, labels and results that it saw, the measures it was held against
    result         an object of the store: signed, of a model, on a test
    key file       registry/keys/<dataset>.yaml of the commit: the public half in use, older ones with what they are valid for

What the store here does not have, or a shallow checkout does not show, cannot be checked: it is said, and is no finding.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cdl.config.load import parse
from cdl.config.requirement import parse_requirement
from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.model.results import unsigned
from cdl.registry.check import Finding
from cdl.registry.keyfile import KeyFile, decode, faults
from cdl.registry.records import Dataset, Decision, is_record, key_path, short
from cdl.registry.records import decode as decode_record
from cdl.store.store import Store

SAME = ("test", "labels")  # what a decision and the evaluation that it saw both say
KEYS = "registry/keys/"


class Checked(msgspec.Struct):
    """What was found, and what could not be checked here."""

    findings: list[Finding] = msgspec.field(default_factory=list)
    unchecked: list[str] = msgspec.field(default_factory=list)


class _Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit says of decisions, datasets and keys."""

    decisions: Mapping[str, Decision]
    datasets: Mapping[str, Dataset]
    keys: Mapping[str, KeyFile]


def check_results(git: Git, store: Store | None, commit: str) -> Checked:
    """Every result that a decision of a commit names, and every key file; with what could not be checked."""
    checked = Checked()
    there = _read(git, commit, checked)
    _check_keys(git, commit, there, checked)
    missing = 0
    for identity, decision in sorted(there.decisions.items()):
        named = [(what, name) for what in ("evaluation", "comparisons", "revision") for name in _names(decision, what)]
        for what, name in named:
            if store is None or not store.has(name):
                missing += 1
                continue
            found = _wrong(there, store, decision, what.rstrip("s"), name)
            checked.findings += [Finding(identity, f"{what.rstrip('s')} {name[:12]}: {wrong}") for wrong in found]
    if missing:
        checked.unchecked.append(f"{missing} results that decisions name: they are not in the store here")
    return checked


def _read(git: Git, commit: str, checked: Checked) -> _Commit:
    """What cannot be read as a record is named by `check_registry`; a key file that cannot is named here."""
    blobs = git.files(commit, "registry/")
    data = git.cat(blobs.values())
    decisions, datasets, keys = {}, {}, {}
    for path, blob in blobs.items():
        name = path.rsplit("/", 1)[-1].removesuffix(".yaml")
        try:
            if path.startswith(KEYS):
                keys[name] = decode(path, data[blob])
            elif is_record(path):
                record = decode_record(path, data[blob])
                if isinstance(record, Decision):
                    decisions[name] = record
                elif isinstance(record, Dataset):
                    datasets[name] = record
        except CdlError as error:
            if path.startswith(KEYS):
                checked.findings.append(Finding(path, error.message))
    return _Commit(decisions=decisions, datasets=datasets, keys=keys)


def _check_keys(git: Git, commit: str, there: _Commit, checked: Checked) -> None:
    """Key files: signed by the key that they name, and each evaluation key handed over to the next in all of history."""
    if not git.whole():
        checked.unchecked.append("records and keys that earlier commits changed or removed: this checkout is shallow")
    if not there.keys:
        return
    project = parse(git.read(commit, "cdl.yaml") or b"", where="cdl.yaml").project
    for name, file in sorted(there.keys.items()):
        path = key_path(name)
        checked.findings += [Finding(path, fault) for fault in faults(project, name, file)]
        if not git.whole():
            continue
        for earlier in git.text("log", "--format=%H", "--end-of-options", commit, "--", path).splitlines():
            try:
                before = decode(path, git.read(earlier, path) or b"")
            except CdlError:
                continue  # removed there, or of another form; what stands now is judged
            if before.evaluation not in file.publics:
                what = f"it names no more {before.evaluation[:16]}, which stood there in {earlier[:12]}"
                checked.findings.append(Finding(path, what))


def _names(decision: Decision, what: str) -> list[str]:
    """The objects of one kind that a decision saw."""
    found = decision.seen.get(what)
    names = found if isinstance(found, list) else [found]
    return [name for name in names if isinstance(name, str)]


def _wrong(there: _Commit, store: Store, decision: Decision, kind: str, name: str) -> Iterator[str]:
    """What does not fit in a result, or between it and the decision that names it."""
    try:
        result = json.loads(store.get(name))
        dataset = there.datasets.get(result["dataset"])
    except (CdlError, ValueError, KeyError, TypeError):
        yield "the store has something else under its name"
        return
    file = there.keys.get(dataset.name) if dataset else None
    if file is None:
        yield "no key file stands for its dataset"
        return
    judged = file.judge(name, unsigned(result), str(result.get("signature", "")))
    if judged == "forged":
        yield "the signature does not fit"
    elif judged == "outdated":
        yield "an older key signed it, which was renewed before any decision named it"
    if result.get("kind") != kind:
        yield f"it is no {kind} but a {result.get('kind')}"
    elif kind == "evaluation":
        yield from _unlike(decision, result)
    elif kind == "comparison":
        if decision.seen.get("evaluation") != result.get("second"):
            yield "it compares another evaluation than the one that was seen"
    elif result.get("model") != decision.subject:
        yield f"it is of {short(str(result.get('model')))}, and was used for {short(decision.subject)}"


def _unlike(decision: Decision, result: Mapping[str, Any]) -> Iterator[str]:
    """Where an evaluation is not that of the model, the test and the measures that a decision speaks of."""
    if result["model"] != decision.subject:
        yield f"it is of {short(result['model'])}, and was used for {short(decision.subject)}"
    for what in SAME:
        if decision.seen.get(what, result[what]) != result[what]:
            yield f"it was made on other {what} than the decision saw"
    for row in decision.requirements:
        yield from _mismeasured(row, result)


def _mismeasured(row: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    """Where a requirement or a test case of a decision is not what the evaluation says of it."""
    if row["require"] in result["tests"]:
        measured, held = result["tests"][row["require"]], result["tests"][row["require"]] == "pass"
    else:
        try:
            asked = parse_requirement(row["require"])
        except CdlError:
            return
        if asked.measure not in result["measures"]:
            return
        measured = float(result["measures"][asked.measure]["value"])
        held = asked.holds(measured)
    if (row["value"], row["held"]) != (measured, held):
        yield f"it says {measured} where the decision says {row['require']}: {row['value']}"
