"""Opening a remote by what cdl.yaml calls it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from cdl.errors import ConfigError
from cdl.store.remote import Folder, Remote

BUCKETS = ("s3", "gs", "az")


def open_remote(place: str, *, root: Path) -> Remote:
    """The remote that `store:` names; a relative path counts from `root`. ConfigError, or Unavailable when it is not there."""
    parts = urlsplit(place)
    if parts.scheme in BUCKETS:
        from cdl.store.bucket import Bucket  # noqa: PLC0415 - an optional package

        return Bucket(place)
    if parts.scheme not in ("", "file") or parts.netloc:
        raise ConfigError(
            f"'{place}' is no place for a store", where="cdl.yaml: store", remedy="s3://, gs://, az://, or a path"
        )
    return Folder(root / unquote(parts.path) if parts.scheme else root / place)
