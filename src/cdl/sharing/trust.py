"""What a clone allows: to run the project's code, which shared store to use, which program to call with notices.

    <common git folder>/cdl/trusted.json      {"code": true, "store": "s3://team-news/cdl", "notify": "./tell.sh"}

It lies where no commit can put it. `cdl init` allows the code of the project that it makes; every other clone is asked once, at
`cdl clone` or `cdl trust`. What cdl.yaml says otherwise afterwards is named, and not followed until it was confirmed here.
"""

from pathlib import Path
from typing import Any

import msgspec

from cdl.config.schema import Config
from cdl.errors import Corrupt, Refused
from cdl.git.repository import Git
from cdl.store import whole
from cdl.store.opening import open_remote
from cdl.store.remote import Remote

FILE = "trusted.json"
KEPT = ("store", "notify")  # keys of cdl.yaml that each clone confirms


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """Whether code may run, and what was confirmed of cdl.yaml; None where nothing was."""

    code: bool = False
    store: str | None = None
    notify: str | None = None

    def require_code(self) -> None:
        """Refused unless this clone may run the project's code."""
        if not self.code:
            raise Refused(
                "this clone was not allowed to run the project's code yet",
                remedy="look at what it holds, then: cdl trust",
            )


class Shared:
    """The shared store that this clone confirmed, opened when it is first used; None where there is none."""

    def __init__(self, place: str | None, root: Path) -> None:
        self.place = place
        self._root = root
        self._remote: Remote | None = None

    @property
    def remote(self) -> Remote | None:
        """The store. Unavailable where it, or the package for it, is not there."""
        if self._remote is None and self.place is not None:
            self._remote = open_remote(self.place, root=self._root)
        return self._remote


def trusted(git: Git) -> Trusted:
    """What this clone allows; nothing where it was never asked."""
    place = git.common_dir / "cdl" / FILE
    try:
        return msgspec.json.decode(place.read_bytes(), type=Trusted)
    except FileNotFoundError:
        return Trusted()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt("not what was confirmed here", where=str(place), remedy="remove it, then: cdl trust") from error


def note(git: Git, found: Trusted) -> None:
    """Keeps what this clone allows."""
    whole.write(git.common_dir / "cdl" / FILE, msgspec.json.encode(found) + b"\n", mode=0o644)


def unconfirmed(config: Config, found: Trusted) -> dict[str, tuple[Any, Any]]:
    """What cdl.yaml says otherwise than was confirmed here: key -> (confirmed, written)."""
    pairs = {key: (getattr(found, key), getattr(config, key)) for key in KEPT}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def refuse_tracked(git: Git) -> None:
    """Refused when the commit checked out holds files below `.cdl`: they would pass for this clone's own."""
    planted = git.run("ls-files", "-z", "--", ".cdl").split(b"\0")[:-1]
    if planted:
        raise Refused(
            "git tracks what only a clone itself may write",
            where=planted[0].decode("utf-8", "replace"),
            remedy="git rm -r --cached .cdl, and find out who added it",
        )
