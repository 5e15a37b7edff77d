"""What lies at an address: asked for with what its server said the last time, so that what is as it was is not sent again."""

import email.utils
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message

import msgspec

from cdl.errors import ConfigError, Unavailable

LARGEST = 8_000_000_000  # bytes of one download
SECONDS = 60  # without an answer
ETAG, MODIFIED = "etag", "modified"  # what a server said
ASKED = {ETAG: "If-None-Match", MODIFIED: "If-Modified-Since"}
WEAK = "W/"  # begins an etag that other bytes may have too
SAME = 304


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came (None: it is as it was), and what the server said to tell it by."""

    data: bytes | None
    told: Mapping[str, str]


def download(url: str, told: Mapping[str, str] | None = None) -> Answer:
    """What lies at an address; `told` is what the server said of what is known. ConfigError or Unavailable name the address."""
    if not url.startswith(("https://", "http://", "file://")):
        raise ConfigError("neither http, https nor file", where=url, remedy="correct `source.url` in cdl.yaml")
    request = urllib.request.Request(url, headers={ASKED[key]: value for key, value in (told or {}).items()})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            if url.startswith("https:") and not answer.geturl().startswith("https:"):
                raise ConfigError("it leads away from https", where=url, remedy="name the address that it leads to")
            data: bytes = answer.read(LARGEST + 1)
            found = _validator(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == SAME and told:
            return Answer(data=None, told=told)
        raise _unanswered(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(url, error) from error
    if len(data) > LARGEST:
        raise ConfigError(f"more than {LARGEST} bytes", where=url, remedy="split the source")
    return Answer(data=data, told=found)


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
