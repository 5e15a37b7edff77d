"""Offers: the commit that somebody submits for a model or a dataset version, kept by a ref of its own until it was decided on.

    refs/cdl/offers/m-0c5e8b37....1-4e9d06ba77c1      subject, which offer of it, the commit's first digits

An offer is never moved: another commit is another offer, so two clones never disagree about what a ref names. The last counts.
"""

import re
from collections.abc import Iterator

from cdl.git.repository import Git

OFFER_REFS = "refs/cdl/offers/"
OFFER = re.compile(r"refs/cdl/offers/(?P<subject>[a-z]-[0-9a-f]+)\.(?P<number>\d+)-[0-9a-f]+")
DIGITS = 12


def offer(git: Git, subject: str, commit: str) -> None:
    """Offers a commit; nothing happens when it is the one offered already."""
    if offered(git, subject) != commit:
        number = max((n for _, n, _, _ in _offers(git, subject)), default=0) + 1
        git.set_ref(f"{OFFER_REFS}{subject}.{number}-{commit[:DIGITS]}", commit)


def offered(git: Git, subject: str) -> str | None:
    """The commit that was offered last for a subject; None when none was."""
    found = max(_offers(git, subject), key=lambda o: o[1:3], default=None)
    return found[3] if found else None


def every_offer(git: Git) -> set[str]:
    """The subjects for which something was offered."""
    return {subject for subject, _, _, _ in _offers(git, "")}


def _offers(git: Git, subject: str) -> Iterator[tuple[str, int, str, str]]:
    """Subject, number, name and commit of each offer."""
    for name, commit in git.refs(OFFER_REFS + (f"{subject}." if subject else "")).items():
        match = OFFER.fullmatch(name)
        if match:
            yield match["subject"], int(match["number"]), name, commit
