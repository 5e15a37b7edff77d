import stat
from pathlib import Path

import pytest

from cdl.errors import ConfigError, Conflict, Corrupt, Unavailable
from cdl.keys import DatasetKeys, Keyring, verify


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.delenv("CDL_KEY", raising=False)
    return Keyring(tmp_path / "config" / "keyring")


def test_keys_are_kept_for_their_owner_only(keyring: Keyring) -> None:
    made = keyring.create("p", "d")
    assert stat.S_IMODE(keyring.path.stat().st_mode) == 0o600
    found = Keyring(keyring.path).require("p", "d")
    assert (found.split_key, found.public) == (made.split_key, made.public)
    keyring.path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        keyring.find("p", "d")


def test_a_secret_is_never_replaced(keyring: Keyring) -> None:
    keyring.create("p", "d")
    with pytest.raises(Conflict):
        keyring.create("p", "d")
    assert keyring.find("p", "other") is None
    with pytest.raises(Unavailable, match="no key of other"):
        keyring.require("p", "other")


def test_one_secret_gives_the_same_keys_and_each_purpose_its_own(keyring: Keyring) -> None:
    one, two = keyring.create("p", "a", secret=b"\1" * 32), keyring.create("p", "b", secret=b"\1" * 32)
    assert (one.split_key, one.identity_key, one.data_key("k-1")) == (
        two.split_key,
        two.identity_key,
        two.data_key("k-1"),
    )
    assert len({one.split_key, one.identity_key, one.data_key("k-1"), b"\1" * 32}) == 4
    assert one.public != two.public
    with pytest.raises(Unavailable):
        one.data_key("k-2")


def test_a_backup_restores_and_shows_nothing_in_a_repr(keyring: Keyring, tmp_path: Path) -> None:
    made = keyring.create("p", "d")
    line = keyring.backup("p", "d")
    other = Keyring(tmp_path / "other")
    assert other.restore(line + "\n") == other.restore(line) == "p/d"
    assert other.require("p", "d").public == made.public
    assert made.split_key.hex() not in repr(made) and "k-1" in repr(made)
    with pytest.raises(ConfigError):
        other.restore("cdlkey1:AAAA")


def test_the_environment_may_hold_a_bundle_or_a_secret(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keyring.create("p", "d")
    line = keyring.backup("p", "d")
    empty = Keyring(keyring.path.with_name("none"))
    monkeypatch.setenv("CDL_KEY", line)
    assert empty.require("p", "d").public == made.public
    assert empty.find("p", "other") is None
    monkeypatch.setenv("CDL_KEY", "07" * 32)
    assert empty.require("p", "x").split_key == DatasetKeys(b"\7" * 32, {}, b"\0" * 32).split_key
    monkeypatch.setenv("CDL_KEY", "what")
    with pytest.raises(ConfigError):
        empty.find("p", "x")


def test_signatures_verify_and_forged_ones_do_not(keyring: Keyring) -> None:
    one, two = keyring.create("p", "a"), keyring.create("p", "b")
    signature = one.sign(b"data")
    assert verify(one.public, b"data", signature)
    assert not verify(two.public, b"data", signature)
    assert not verify(one.public, b"date", signature)
    assert not verify(one.public, b"data", "ed25519:zz")


def test_a_broken_keyring_is_named(keyring: Keyring) -> None:
    keyring.create("p", "d")
    keyring.path.write_text("{")
    with pytest.raises(Corrupt):
        keyring.find("p", "d")


def test_renewed_keys_read_what_was_sealed_before_and_sign_anew(keyring: Keyring) -> None:
    first = keyring.create("p", "d")
    second = keyring.renewing("p", "d", first)
    assert keyring.require("p", "d").public == first.public  # nothing changed before the branch names them
    assert keyring.renewing("p", "d", first).public == second.public  # and after a kill they are the same
    assert second.data_key_name == "k-2" and second.data_key("k-1") == first.data_key("k-1")
    assert second.public != first.public and second.before == (first.public,) and second.knows(first.public)
    assert (second.split_key, second.identity_key) == (first.split_key, first.identity_key)
    keyring.take("p", "d", second)
    assert keyring.require("p", "d").entry() == second.entry()
    assert keyring.renewing("p", "d", second).data_key_name == "k-3"


def test_two_that_were_renewed_at_once_keep_both_data_keys(keyring: Keyring) -> None:
    first = keyring.create("p", "d")
    mine, theirs = first.renewed(), first.renewed()
    keyring.take("p", "d", mine)
    kept = keyring.take("p", "d", theirs)
    assert kept.public == theirs.public and kept.data_key("k-2") == theirs.data_key("k-2")
    assert mine.data_key("k-2") in kept.data_keys.values() and kept.knows(mine.public) and kept.knows(first.public)
    assert kept.data_key_name == "k-2" and kept.renewed().data_key_name == "k-3"


def test_another_secret_never_takes_the_place_of_one(keyring: Keyring, tmp_path: Path) -> None:
    keyring.create("p", "d")
    other = Keyring(tmp_path / "other").create("p", "d")
    with pytest.raises(Conflict, match="another secret"):
        keyring.take("p", "d", other)
    with pytest.raises(Conflict):
        keyring.restore(Keyring(tmp_path / "other").backup("p", "d"))


def test_a_backup_of_older_keys_takes_nothing_back(keyring: Keyring) -> None:
    first = keyring.create("p", "d")
    old = keyring.backup("p", "d")
    keyring.take("p", "d", first.renewed())
    new = keyring.backup("p", "d")
    assert keyring.restore(old) == "p/d" and keyring.require("p", "d").data_key_name == "k-2"
    elsewhere = Keyring(keyring.path.with_name("elsewhere"))
    elsewhere.restore(old)
    assert elsewhere.restore(new) == "p/d" and elsewhere.require("p", "d").data_key_name == "k-2"
