"""One tree of errors: what a person can cause, where it stands, and what mends it.

The domain knows no exit codes and no HTTP: `cli` keeps one table for each class below.

    CdlError
      ConfigError    cdl.yaml or another file of the user's is wrong
      NotFound       no such thing
      Refused        a role, a gate or the policy forbids it; nothing was changed
      Conflict       somebody else's change, or unfinished work, stands in the way
      Corrupt        bytes are not what their name says
      JobFailed      the user's own code failed
      Unavailable    an optional package, a key or a service is missing
"""


class CdlError(Exception):
    """Something that a person can cause and mend.

    `message` says what is wrong, `where` names the file and line or the entity, `remedy` the command or edit that mends it.
    """

    def __init__(self, message: str, *, remedy: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}" + (f"\n  {self.remedy}" if self.remedy else "")


class ConfigError(CdlError):
    """A file that the user wrote is wrong."""


class NotFound(CdlError):
    """There is no such thing."""


class Refused(CdlError):
    """A role, a gate or the policy forbids it; nothing was changed."""


class Conflict(CdlError):
    """Somebody else's change, or unfinished work of one's own, stands in the way."""


class Corrupt(CdlError):
    """Bytes are not what their name says."""


class JobFailed(CdlError):
    """The user's own code failed."""


class Unavailable(CdlError):
    """An optional package, a key or a service is missing."""
