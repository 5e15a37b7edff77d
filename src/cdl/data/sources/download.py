"""What lies at an address: asked for with what its server said the last time, so that what is as it was is not sent again.

It goes into a file as it comes.
"""

import email.utils
import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import IO

import msgspec

from cdl.errors import ConfigError, Unavailable

LARGEST = 8_000_000_000  # bytes of one download
SECONDS = 60  # without an answer
BLOCK = 1 << 20  # bytes that are in memory
SAY_SECONDS = 1.0  # from one line about how far it is to the next
ETAG, MODIFIED = "etag", "modified"  # what a server said
ASKED = {ETAG: "If-None-Match", MODIFIED: "If-Modified-Since"}
WEAK = "W/"  # begins an etag that other bytes may have too
SAME = 304
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and hash of what came, unless it is the same as it was; and what the server said to tell it by."""

    told: Mapping[str, str]
    size: int = 0
    sha256: str = ""
    same: bool = False


def download(url: str, to: Path, told: Mapping[str, str] | None = None, *, tell: Callable[[str], None]) -> Answer:
    """Writes what lies at an address into a file; `told` is what the server said of what is known. What takes long is told.

    ConfigError or Unavailable name the address: also for what ends before its announced end.
    """
    if not url.startswith(("https://", "http://", "file://")):
        raise ConfigError("neither http, https nor file", where=url, remedy="correct `source.url` in cdl.yaml")
    request = urllib.request.Request(url, headers={ASKED[key]: value for key, value in (told or {}).items()})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            if url.startswith("https:") and not answer.geturl().startswith("https:"):
                raise ConfigError("it leads away from https", where=url, remedy="name the address that it leads to")
            with open(to, "wb") as file:
                size, sha256 = _written(url, answer, file, tell)
            found = _validator(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == SAME and told:
            return Answer(told=told, same=True)
        raise _unanswered(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise OSError(error.errno, error.strerror, str(to)) from error
        raise _unanswered(url, error) from error
    return Answer(told=found, size=size, sha256=sha256)


def _written(
    url: str, answer: http.client.HTTPResponse, file: IO[bytes], tell: Callable[[str], None]
) -> tuple[int, str]:
    """Bytes and hash of what came and went into a file."""
    announced = answer.headers.get("Content-Length", "")
    of = f" of {int(announced) / 1e6:,.1f}" if announced.isdigit() else ""
    size, digest, said = 0, hashlib.sha256(), time.monotonic()
    while part := answer.read(BLOCK):
        size += len(part)
        if size > LARGEST:
            raise ConfigError(f"more than {LARGEST} bytes", where=url, remedy="split the source")
        digest.update(part)
        file.write(part)
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            tell(f"{url}: {size / 1e6:,.1f}{of} MB came")
    if announced.isdigit() and size != int(announced):
        remedy = "the command again"
        raise Unavailable(f"it broke off after {size:,} of {int(announced):,} bytes", where=url, remedy=remedy)
    return size, digest.hexdigest()


def _unanswered(url: str, error: Exception) -> Unavailable:
    return Unavailable(f"not fetched: {error}", where=url, remedy="the command again once it answers")


def _validator(headers: Message) -> Mapping[str, str]:
    """What tells these bytes from others; nothing where the server says nothing that is sure.

    A time counts where the answer was given later than in the second after it.
    """
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if etag and not etag.startswith(WEAK):
        return {ETAG: etag}
    written, now = email.utils.parsedate(modified), email.utils.parsedate(headers.get("Date", ""))
    return {MODIFIED: modified} if written is not None and now is not None and written[:5] < now[:5] else {}
