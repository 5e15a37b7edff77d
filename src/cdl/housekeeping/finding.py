"""What the doctor finds: a place, what is wrong there, and what to type."""

import msgspec

from cdl.sharing.clone import Clone
from cdl.workflow.workspace import Workspace


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`fault` is False for what is only worth knowing; `mended` says that it was put right at once."""

    area: str
    where: str
    what: str
    remedy: str | None = None
    fault: bool = True
    mended: bool = False


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How the doctor looks: at every byte with `full`; with `mend` it puts right what is safe to."""

    workspace: Workspace
    full: bool = False
    mend: bool = False

    @property
    def clone(self) -> Clone:
        """The handles that most checks need."""
        return self.workspace.clone
