import stat
import threading
from pathlib import Path

import pytest

from cdl.errors import ConfigError, Corrupt, Unavailable
from cdl.identity import Identity, public_key, wrap


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity(tmp_path / "config" / "identity")


def test_it_is_made_when_first_needed_and_stays(identity: Identity) -> None:
    assert not identity.made()
    public = identity.public
    assert stat.S_IMODE(identity.path.stat().st_mode) == 0o600
    assert Identity(identity.path).public == public == public_key(public + "\n")
    assert identity.path.read_text().strip() not in repr(identity) + public


def test_of_many_at_once_one_key_stays(identity: Identity) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Identity(identity.path).public)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {identity.public} and len(found) == 8
    assert [p.name for p in identity.path.parent.iterdir()] == ["identity"]


def test_only_whom_it_is_for_opens_it_and_only_for_what_it_is(identity: Identity, tmp_path: Path) -> None:
    wrapped = wrap(identity.public, b"keys", b"points of toy")
    assert identity.unwrap(wrapped, b"points of toy") == b"keys"
    for other, text, info in (
        (Identity(tmp_path / "other"), wrapped, b"points of toy"),
        (identity, wrapped, b"points of news"),
        (identity, wrapped[:-8] + "AAAAAAA=", b"points of toy"),
        (identity, "AAAA", b"points of toy"),
        (identity, "not base64", b"points of toy"),
    ):
        with pytest.raises(Unavailable, match="wrapped for somebody else"):
            other.unwrap(text, info)


def test_a_broken_key_or_one_that_others_can_read_is_named_without_its_text(identity: Identity) -> None:
    assert identity.public
    identity.path.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read the identity key"):
        _ = identity.public
    identity.path.chmod(0o600)
    identity.path.write_text("5ec2e7 not hex")
    with pytest.raises(Corrupt) as caught:
        _ = identity.public
    assert "5ec2e7" not in str(caught.value) and caught.value.__cause__ is None


def test_the_environment_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEYRING", str(tmp_path / "a" / "keyring"))
    assert Identity().path == tmp_path / "a" / "identity"
    monkeypatch.setenv("CDL_IDENTITY", str(tmp_path / "b"))
    assert Identity().path == tmp_path / "b"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x25519:",
        "x25519:" + "12" * 31,
        "ed25519:" + "12" * 32,
        "x25519:" + "zz" * 32,
        "x25519:" + "00" * 32,  # the neutral point
        "x25519:01" + "00" * 31,  # a point of order 4
        "x25519:" + "ff" * 32,  # more than the prime
        "x25519:ed" + "ff" * 30 + "7f",  # the prime: 0 in another spelling
        "x25519:e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",  # a point of order 8
        "x25519:02" + "00" * 31,  # a point of the twist
    ],
)
def test_what_is_no_public_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError):
        public_key(key)
