"""Opening a bucket: S3, Google Cloud Storage or Azure Blob Storage, through obstore.

Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*) or the usual files (~/.aws/credentials and config, the
application default credentials of Google), are asked for anew each time, and are never kept. Plain http is for loopback only.
"""

import configparser
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import msgspec

from cdl.errors import ConfigError, NotFound, Unavailable
from cdl.optional import optional

RETRIES = 8  # of one request, each after a longer pause
RETRY_SECONDS = 20
CONNECT_SECONDS = 10
REQUEST_SECONDS = 300  # for one whole request: a large object on a slow line
LOOPBACK = ("127.0.0.1", "localhost", "::1")
AWS_KEYS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}


class Listed(msgspec.Struct, frozen=True):
    """An object below the prefix: its bytes, when it was written, and what its maker gives each content that it ever has."""

    name: str
    size: int
    written: datetime
    etag: str | None
    version: str | None


class Part(NamedTuple):
    """Bytes of an object, and the version id that the bucket gives the content where it keeps versions."""

    data: bytes
    version: str | None


class Client:
    """A bucket, or what lies below a prefix of it: `s3://team-news/cdl`. Any thread may call.

    `where` is the place that names it.
    """

    def __init__(self, place: str, *, where: str) -> None:
        self.place = place
        parts = urlsplit(place)
        if not parts.netloc or parts.query or parts.username:
            raise ConfigError(f"'{place}' names no bucket", where=where, remedy="s3://BUCKET/FOLDER")
        self._scheme = parts.scheme
        optional("obstore")

    @cached_property
    def store(self) -> Any:
        """The library's client. Its configuration is read when it is first used."""
        given = _of_aws() if self._scheme == "s3" else {}
        retry = {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=4), "base": 2},
        }
        timeouts = {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "allow_http": urlsplit(given.get("endpoint", "")).hostname in LOOPBACK,
        }
        with self.named():
            return optional("obstore.store").from_url(
                self.place, config=given or None, client_options=timeouts, retry_config=retry
            )

    def every(self) -> Iterator[Listed]:
        """The objects, in no particular order."""
        with self.named():
            for some in optional("obstore").list(self.store):
                for found in some:
                    yield Listed(found["path"], found["size"], found["last_modified"], found["e_tag"], found["version"])

    def part(self, listed: Listed, start: int, size: int) -> Part | None:
        """So many bytes of an object, from a place on; None where it is gone, or another one than was listed."""
        options: dict[str, Any] = {"range": (start, start + size)} if size < listed.size else {}
        if listed.etag is not None:
            options["if_match"] = listed.etag
        with self.named():
            try:
                found = optional("obstore").get(self.store, listed.name, options=options)
                data = bytes(found.bytes())
            except (FileNotFoundError, optional("obstore.exceptions").PreconditionError):
                return None
        same = found.meta["e_tag"] == listed.etag and len(data) == size
        return Part(data, found.meta["version"]) if same else None

    def pinned(self, name: str, version: str | None, whole: int, start: int, size: int) -> bytes | None:
        """So many bytes of an object of `whole` bytes, of one version or as it is now; None where there is none of that size.

        Also where only this version may not be read.
        """
        exceptions = optional("obstore.exceptions")
        options: dict[str, Any] = {"version": version} if version is not None else {}
        if size:
            options["range"] = (start, start + size)
        with self.named():
            try:
                found = optional("obstore").get(self.store, name, options=options)
                data = bytes(found.bytes()) if found.meta["size"] == whole else b""
            except FileNotFoundError:
                return None
            except exceptions.PermissionDeniedError:
                if version is None:
                    raise
                return None
            except exceptions.GenericError:  # a part that is not there
                if version is not None or optional("obstore").head(self.store, name)["size"] == whole:
                    raise
                return None
        return data if found.meta["size"] == whole and len(data) == size else None

    def named(self) -> "_Named":
        """Turns the library's errors into one that names the place."""
        return _Named(self.place)


class _Named:
    """Turns the library's errors into one that names the place and what to do; never what was sent.

    Unavailable in a fork of a process that had asked: the library's threads are not there, and it would wait for ever.
    """

    asked_in: ClassVar[int | None] = None  # the process that asked first

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        _Named.asked_in = _Named.asked_in or os.getpid()
        if _Named.asked_in != os.getpid():
            remedy = "DataLoader(..., num_workers=0): the objects of a batch are fetched side by side all the same"
            raise Unavailable("a bucket cannot be read in a forked process", where=self.place, remedy=remedy)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or kind is None or isinstance(error, FileNotFoundError):
            return
        exceptions = optional("obstore.exceptions")
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            raise Unavailable(
                "the bucket refuses these credentials",
                where=self.place,
                remedy="set them in the environment (AWS_ACCESS_KEY_ID, ...) or in the usual file, then the command again",
            ) from error
        if isinstance(error, exceptions.BaseError) or kind.__module__.startswith("obstore"):
            raise Unavailable(
                f"the bucket cannot be reached: {_first_line(error)}",
                where=self.place,
                remedy="the command again later",
            ) from error


def _first_line(error: BaseException) -> str:
    """What went wrong in one line, without addresses that may hold a signature."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.partition("?")[0][:200]


def _of_aws() -> dict[str, str]:
    """Credentials, region and endpoint for S3: the environment's, else those of the profile in the usual files."""
    found: dict[str, str] = {}
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        found |= _profile(os.environ)
    for key, variable in AWS_KEYS.items():
        if os.environ.get(variable):
            found[key] = os.environ[variable]
    if os.environ.get("AWS_DEFAULT_REGION"):
        found.setdefault("region", os.environ["AWS_DEFAULT_REGION"])
    found.setdefault("region", "us-east-1")
    if "endpoint_url" in found:
        found["endpoint"] = found.pop("endpoint_url")
    return found


def _profile(around: Mapping[str, str]) -> dict[str, str]:
    """What the files of the AWS command line say of a profile. NotFound when one is named and not there."""
    home = Path.home() / ".aws"
    name = around.get("AWS_PROFILE") or "default"
    places = (
        (Path(around.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"), name),
        (Path(around.get("AWS_CONFIG_FILE") or home / "config"), name if name == "default" else f"profile {name}"),
    )
    found: dict[str, str] = {}
    known = False
    for path, section in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except configparser.Error as error:
            raise ConfigError("not a credentials file", where=str(path)) from error
        if parser.has_section(section):
            known = True
            found |= {k: v for k, v in parser.items(section) if k in AWS_KEYS}
    if "AWS_PROFILE" in around and not known:
        raise NotFound(f"no profile '{name}'", where=str(home), remedy="aws configure, or unset AWS_PROFILE")
    return found
