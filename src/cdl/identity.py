"""A person's own key: what the keys of datasets are wrapped for, so that they travel in the git repository.

    <config folder>/cdl/identity      0600, beside the keyring: 64 hex digits, an X25519 private key (RFC 7748)
    x25519:8520f0...                  its public half, one line: `cdl key public`

It is made when it is first needed. `CDL_IDENTITY` names another file. Wrapped is with HPKE (RFC 9180: X25519, HKDF-SHA256,
AES-256-GCM, base mode); what a wrapping is for stands in its info, so one that is copied elsewhere does not open.
"""

import base64
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from cdl.errors import CdlError, ConfigError, Corrupt, Unavailable
from cdl.keys import default_path, require_private

PREFIX = "x25519:"
KEY_BYTES = 32
PRIME = 2**255 - 19
COEFFICIENT = 486662  # of the curve: v^2 = u^3 + COEFFICIENT u^2 + u


class Identity:
    """The key of a person, in a file. Nothing of its private half shows in a repr."""

    def __init__(self, path: Path | None = None) -> None:
        given = os.environ.get("CDL_IDENTITY")
        self.path = path or (Path(given) if given else default_path().with_name("identity"))

    def __repr__(self) -> str:
        return f"Identity({self.path})"

    def made(self) -> bool:
        """Whether there is a key already."""
        return self.path.exists()

    @property
    def public(self) -> str:
        """The public half; the key is made when there is none."""
        return PREFIX + bytes(self._private().public_key().public_bytes_raw()).hex()

    def unwrap(self, wrapped: str, info: bytes) -> bytes:
        """What was wrapped for this person under an info. Unavailable for another's, or under another info."""
        invalid = import_module("cryptography.exceptions").InvalidTag
        try:
            found: bytes = _suite().decrypt(base64.b64decode(wrapped, validate=True), self._private(), info=info)
        except (invalid, ValueError) as error:
            raise Unavailable("these keys were wrapped for somebody else, or for something else") from error
        return found

    def _private(self) -> Any:
        if not self.made():
            self._make()
        require_private(self.path, "the identity key")
        try:
            key = bytes.fromhex(self.path.read_text().strip())
            return import_module(
                "cryptography.hazmat.primitives.asymmetric.x25519"
            ).X25519PrivateKey.from_private_bytes(key)
        except ValueError:  # its text is the secret, and stays out of every message
            raise Corrupt("not an identity key", where=str(self.path), remedy="restore it from a backup") from None

    def _make(self) -> None:
        """Draws the key; of two processes that do at once, the first one's stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".identity-")
        with os.fdopen(handle, "w") as file:
            file.write(os.urandom(KEY_BYTES).hex() + "\n")
        os.chmod(temporary, 0o600)
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)


def wrap(public: str, data: bytes, info: bytes) -> str:
    """Wraps bytes for the holder of a public half, under an info."""
    x25519 = import_module("cryptography.hazmat.primitives.asymmetric.x25519")
    key = x25519.X25519PublicKey.from_public_bytes(bytes.fromhex(public_key(public).removeprefix(PREFIX)))
    return base64.b64encode(_suite().encrypt(data, key, info=info)).decode()


def public_key(text: str, *, where: str | None = None) -> str:
    """A public half as it is written; ConfigError when it is none: another form, not on the curve, or of a small group."""
    digits = text.strip().removeprefix(PREFIX)
    try:
        key = bytes.fromhex(digits) if text.strip().startswith(PREFIX) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"not a public key: {PREFIX} and 64 hex digits", where=where, remedy="cdl key public")
    if not _on_curve(int.from_bytes(key, "little")) or _gives_nothing(key):
        raise ConfigError("not a point that a key can have", where=where, remedy="cdl key public, of who it is for")
    return PREFIX + key.hex()


def _on_curve(u: int) -> bool:
    """Whether a coordinate is that of a point on the curve, and not on its twist, as all public halves are."""
    return u < PRIME and pow(u**3 + COEFFICIENT * u**2 + u, (PRIME - 1) // 2, PRIME) in (0, 1)


def _gives_nothing(key: bytes) -> bool:
    """Whether anybody's exchange with a key comes to zeros: it is one of the few points of small order."""
    x25519 = import_module("cryptography.hazmat.primitives.asymmetric.x25519")
    try:
        x25519.X25519PrivateKey.generate().exchange(x25519.X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return True
    return False


def _suite() -> Any:
    try:
        hpke = import_module("cryptography.hazmat.primitives.hpke")
    except ImportError as error:
        raise CdlError("cryptography is too old for members", remedy="pip install 'cryptography>=47'") from error
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
