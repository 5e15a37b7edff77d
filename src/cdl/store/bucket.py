"""A remote that is a bucket."""

from collections.abc import Iterator

from cdl.optional import optional
from cdl.store.client import Client
from cdl.store.remote import Held


class Bucket(Client):
    """A bucket, or what lies below a prefix of it, as a remote."""

    def __init__(self, place: str) -> None:
        super().__init__(place, where="cdl.yaml: store")

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""
        with self.named():
            try:
                return bytes(optional("obstore").get(self.store, name).bytes())
            except FileNotFoundError:
                return None

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Writes whole bytes under a name, over what was there; large ones in parts."""
        with self.named():
            optional("obstore").put(self.store, name, bytes(data))

    def create(self, name: str, data: bytes) -> bool:
        """Writes bytes under a name that is free; False when it is taken.

        A request that is tried again may meet what its own first try wrote: the same bytes count as ours.
        """
        taken = optional("obstore.exceptions").AlreadyExistsError
        with self.named():
            try:
                optional("obstore").put(self.store, name, data, mode="create", use_multipart=False)
            except taken:
                return self.get(name) == data
        return True

    def held(self, prefix: str) -> Iterator[Held]:
        """What is held below a prefix."""
        with self.named():
            for some in optional("obstore").list(self.store, prefix.rstrip("/")):
                for found in some:
                    yield Held(found["path"], found["size"], found["last_modified"].timestamp())

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below a prefix."""
        with self.named():
            found = optional("obstore").list_with_delimiter(self.store, prefix.rstrip("/"))
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def delete(self, name: str) -> None:
        """Removes a name."""
        with self.named():
            try:
                optional("obstore").delete(self.store, name)
            except FileNotFoundError:
                pass
