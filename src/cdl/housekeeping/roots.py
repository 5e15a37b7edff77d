"""From where gc begins: everything that is named by records of any ref, by events, by claims, and by work under way.

Results of jobs are no beginning: what only a job's claim names is kept for the next time, and may go. Outcomes of data
steps are one for OUTCOME_SECONDS after they were found or used last, and of one step and set the OUTCOME_TREES used last. With
`trials` also weights and checkpoints of trials that nobody registered may; what else a trial left stays.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cdl.data.pipeline.outcomes import claims, used
from cdl.journal import stream
from cdl.registry.records import Model, encode
from cdl.sharing.clone import Clone
from cdl.sharing.parcel import JOBS, WORK
from cdl.store import reach
from cdl.store.hold import held
from cdl.store.store import NAME, SEALED

OUTCOME_SECONDS = 30 * 86_400.0
OUTCOME_TREES = 32
HEAVY = ("weights", "checkpoint")  # of a trial


class Roots(msgspec.Struct, kw_only=True):
    """Names to begin with; objects that are kept without looking behind them; notes of trainings that were left long ago."""

    names: set[str] = msgspec.field(default_factory=set)
    known: set[str] = msgspec.field(default_factory=set)
    heavy: set[str] = msgspec.field(default_factory=set)
    stale: list[Path] = msgspec.field(default_factory=list)

    def reachable(self, clone: Clone) -> set[str]:
        """Every object that is kept for what names it."""
        return set(reach.reachable(clone.store, self.names, known=self.known)) | self.known


def roots(clone: Clone, *, trials: bool, before: float) -> Roots:
    """Where gc of this clone begins. Notes of trainings are looked at when they are younger than `before` or held."""
    found = shared_roots(clone, trials=trials)
    holds = held(clone.folder)
    working = {name for names in holds.values() for name in names}
    found.names |= {name for name in working if NAME.fullmatch(name)}
    for spec in (clone.folder / "services").glob("*/spec.json"):
        found.names |= reach.names(spec.read_bytes())
    for notes in _notes(clone.folder):
        if notes.name in working or max(p.stat().st_mtime for p in notes.iterdir()) >= before:
            found.names |= {name for p in notes.iterdir() for name in reach.names(p.read_bytes())}
        else:
            found.stale.append(notes)
    return found


def shared_roots(clone: Clone, *, trials: bool) -> Roots:
    """The same without what only this clone does."""
    found = Roots()
    models = set()
    for stored in clone.registry.everything():
        found.names |= reach.names(encode(stored.record)[2])
        if isinstance(stored.record, Model):
            models.add(stored.record.weights)
    for name in stream.streams(clone.folder):
        for number in stream.segments(clone.folder, name):
            found.names |= reach.names(stream.segment_path(clone.folder, name, number).read_bytes())
    for claim in clone.store.claims(""):
        if not claim.startswith((JOBS, WORK)):
            found.names |= reach.names(claim.encode()) | reach.names(clone.store.claimed(claim) or b"")
    found.names |= {tree for _, tree, stays in outcome_claims(clone) if stays}
    _add_trials(clone, found, models, lighten=trials)
    return found


def outcome_claims(clone: Clone) -> Iterator[tuple[str, str, bool]]:
    """Each claim of outcomes of a data step, with the tree that it names, bare, and whether it stays."""
    told = [(used(clone.store, kept.tree), claim, kept) for claim, kept in claims(clone.store)]
    oldest, count = clone.store.now() - OUTCOME_SECONDS, Counter[tuple[str, str, str]]()
    for when, claim, kept in sorted(told, key=lambda each: each[:2], reverse=True):
        of = claim.rpartition("/")[0], kept.dataset, kept.set
        count[of] += 1
        yield claim, kept.tree.removeprefix(SEALED), when >= oldest and count[of] <= OUTCOME_TREES


def job_claims(clone: Clone) -> Iterator[tuple[str, set[str], str | None]]:
    """Each claim of a job, with the objects that are its outputs and its log."""
    for claim in clone.store.claims(JOBS):
        found = json.loads(clone.store.claimed(claim) or b"{}")
        outputs = reach.names(json.dumps(found.get("outputs", {})).encode())
        yield claim, outputs, found.get("log")


def _add_trials(clone: Clone, found: Roots, models: set[str], *, lighten: bool) -> None:
    """Adds what the jobs of trials left, so that an equal training is not done again.

    With `lighten` trials that are no model's keep neither weights nor checkpoints, and their jobs nothing.
    """
    for result in {str(e.fields["result"]) for e in clone.journal.events("trial.finished")}:
        if not clone.store.has(result):
            continue
        trial = json.loads(clone.store.get(result))
        heavy = {trial[k] for k in HEAVY if trial.get(k)}
        if not lighten or heavy & models:
            found.names |= heavy | reach.names(clone.store.claimed(f"{JOBS}{trial.get('job')}") or b"")
            continue
        found.known.add(result)
        found.names |= reach.names(json.dumps({k: v for k, v in trial.items() if k not in HEAVY}).encode())
        found.heavy |= heavy


def _notes(folder: Path) -> list[Path]:
    """The folders in which trainings note how far they came."""
    trials = folder / "trials"
    return [p for p in sorted(trials.iterdir()) if p.is_dir() and any(p.iterdir())] if trials.is_dir() else []
