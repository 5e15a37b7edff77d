"""A remote that is a bucket: S3, Google Cloud Storage or Azure Blob Storage, through obstore.

Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*) or the usual files (~/.aws/credentials and config, the
application default credentials of Google), are asked for anew each time, and are never kept. Plain http is for loopback only.
"""

import configparser
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cdl.errors import ConfigError, NotFound, Unavailable
from cdl.optional import optional
from cdl.store.remote import Held

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


class Bucket:
    """A bucket, or what lies below a prefix of it: `s3://team-news/cdl`."""

    def __init__(self, place: str) -> None:
        self.place = place
        parts = urlsplit(place)
        if not parts.netloc or parts.query or parts.username:
            raise ConfigError(f"'{place}' names no bucket", where="cdl.yaml: store", remedy="s3://BUCKET/FOLDER")
        self._scheme = parts.scheme
        optional("obstore")

    @cached_property
    def _store(self) -> Any:
        """The client. Its configuration is read when it is first used."""
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
        with self._named():
            return optional("obstore.store").from_url(
                self.place, config=given or None, client_options=timeouts, retry_config=retry
            )

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""
        with self._named():
            try:
                return bytes(optional("obstore").get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Writes whole bytes under a name, over what was there; large ones in parts."""
        with self._named():
            optional("obstore").put(self._store, name, bytes(data))

    def create(self, name: str, data: bytes) -> bool:
        """Writes bytes under a name that is free; False when it is taken.

        A request that is tried again may meet what its own first try wrote: the same bytes count as ours.
        """
        taken = optional("obstore.exceptions").AlreadyExistsError
        with self._named():
            try:
                optional("obstore").put(self._store, name, data, mode="create", use_multipart=False)
            except taken:
                return self.get(name) == data
        return True

    def held(self, prefix: str) -> Iterator[Held]:
        """What is held below a prefix."""
        with self._named():
            for some in optional("obstore").list(self._store, prefix.rstrip("/")):
                for found in some:
                    yield Held(found["path"], found["size"], found["last_modified"].timestamp())

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below a prefix."""
        with self._named():
            found = optional("obstore").list_with_delimiter(self._store, prefix.rstrip("/"))
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def delete(self, name: str) -> None:
        """Removes a name."""
        with self._named():
            try:
                optional("obstore").delete(self._store, name)
            except FileNotFoundError:
                pass

    def _named(self) -> "_Named":
        return _Named(self.place)


class _Named:
    """Turns the library's errors into one that names the place and what to do; never what was sent."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or kind is None or isinstance(error, FileNotFoundError):
            return
        exceptions = optional("obstore.exceptions")
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            raise Unavailable(
                "the store refuses these credentials",
                where=self.place,
                remedy="set them in the environment (AWS_ACCESS_KEY_ID, ...) or in the usual file, then the command again",
            ) from error
        if isinstance(error, exceptions.BaseError) or kind.__module__.startswith("obstore"):
            raise Unavailable(
                f"the store cannot be reached: {_first_line(error)}", where=self.place, remedy="the command again later"
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
