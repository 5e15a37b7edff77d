"""Members: keys travel wrapped to who is entitled, once the policy is approved, and to nobody else."""

import stat
from pathlib import Path

import msgspec
import pytest

from cdl import document
from cdl.cycle import CYCLE
from cdl.data.history.reproduce import reproduce_data, reproduce_labels
from cdl.data.history.rewrite import unrewritten
from cdl.data.labels import unlabeled
from cdl.errors import ConfigError, Conflict, Corrupt, NotFound, Refused, Unavailable
from cdl.keys import DatasetKeys, Keyring
from cdl.registry.keyfile import Holder, KeyFile, encode, signed_part, written
from cdl.registry.records import Dataset, DatasetHead, Labels, key_path
from cdl.registry.records import encode as encode_record
from cdl.store.seal import Vault
from cdl.workflow.decide import waiting
from cdl.workflow.policy import MEMBERS, decisions, in_force, unapproved
from cdl.workflow.run import run
from cdl.workflow.wrapping import unwrapped
from tests.desks import Desk, Team
from tests.projects import DATA, OPS, REVIEW, ROLES, SCIENCE, YAML, table

KEYS = key_path("points")


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    return Team(tmp_path, monkeypatch)


def joined(team: Team, *who: str) -> list[Desk]:
    """The desks of some people, whose keys the first one listed and the Model Validator approved."""
    desks = [team.desk(email) for email in who]
    for desk in desks:
        team.first.type("member", "add", desk.email, desk.public)
    team.first.approve(REVIEW, "policy")
    run(team.first.me(), CYCLE, "deployment")
    team.first.push()
    for desk in desks:
        desk.pull()
    return desks


def approved(team: Team) -> None:
    """The Model Validator approves the policy where he holds no key, so that a holder's run has the wrapping to do."""
    Desk(team.first.root, team.patch, REVIEW, team.folder / "homes/none").approve(REVIEW, "policy")


def key_file(desk: Desk) -> KeyFile:
    found = desk.me().key_file("points")
    assert found is not None
    return found


def replaced(desk: Desk, path: str, data: bytes) -> None:
    """Somebody with push rights writes a file of the registry by hand."""
    workspace = desk.me()
    desk.write(path, data.decode())
    workspace.git.run("add", path)
    workspace.git.run("commit", "--quiet", "--message", "by hand")


def test_an_approver_without_the_key_leaves_the_wrapping_to_a_holder(team: Team) -> None:
    review, data = team.desk(REVIEW), team.first
    assert review.type("key", "public").strip() == review.public
    assert stat.S_IMODE((review.home / "identity").stat().st_mode) == 0o600
    data.type("member", "add", REVIEW, review.public)
    data.push()
    review.pull()
    assert not key_file(review).holders and not review.me().holds_key("points")
    with pytest.raises(Unavailable, match=rf"no key of points \(holders: {DATA}\)") as caught:
        review.me().keys("points")
    assert f"cdl member add {REVIEW}" in str(caught.value)
    review.approve(REVIEW, "policy")
    assert (
        review.said[-1] == f"keys of points: to be wrapped for {DATA}, {REVIEW}: waits for {DATA}, who runs `cdl run`"
    )
    assert review.said[-1] in review.type("status") and not key_file(review).holders
    review.push()
    data.pull()
    assert len(unwrapped(data.me())) == 1 and "waits for" in data.type("member", "list")
    data.type("run", "--yes")
    assert not unwrapped(data.me())
    data.push()
    review.pull()
    assert review.me().holds_key("points") and Keyring(review.home / "keyring").find("toy", "points") is None
    assert review.me().keys("points").split_key == data.me().keys("points").split_key
    assert Keyring(review.home / "keyring").require("toy", "points").public == key_file(review).evaluation
    secret = Keyring(data.home / "keyring").require("toy", "points").entry()["secret"]
    for kept in (key_file(data), review.me().journal.events(), data.me().journal.events(), data.said, review.said):
        assert str(secret) not in str(kept) and b"a key of 32 bytes".hex() not in str(kept)


def test_alone_everybody_listed_holds_the_keys_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team(tmp_path, monkeypatch, roles=False)
    data, review = team.first, team.desk(REVIEW)
    (team.folder / "review.pub").write_text(review.public + "\n")
    data.write("cdl.yaml", YAML + ROLES)
    data.commit(data.me(), "roles")
    data.type("member", "add", REVIEW, str(team.folder / "review.pub"))
    assert data.type("member").count("  no\n") == 2 and not key_file(data).holders
    data.approve(DATA, "policy")
    assert data.said[-1] == f"keys of points wrapped for {DATA}, {REVIEW}"
    assert set(key_file(data).holders) == {DATA, REVIEW}
    data.push()
    review.pull()
    assert review.me().vault("points", by="test").name == "k-1"


def test_a_member_without_an_entitled_role_gets_no_keys(team: Team) -> None:
    science, ops = joined(team, SCIENCE, OPS)
    assert set(key_file(team.first).holders) == {DATA, OPS}
    assert ops.me().holds_key("points") and not science.me().holds_key("points")
    with pytest.raises(Unavailable, match=f"holders: {DATA}, {OPS}"):
        science.me().keys("points")
    listed = team.first.me().git.read("main", MEMBERS) or b""
    replaced(team.first, MEMBERS, listed + b"entitled: [data_engineer, data_scientist]\n")
    team.first.approve(REVIEW, "policy")
    run(team.first.me(), CYCLE, "deployment")
    assert set(key_file(team.first).holders) == {DATA, SCIENCE} and key_file(team.first).data_key == "k-2"


def test_the_wrong_role_changes_no_member_and_no_key(team: Team) -> None:
    science, before = team.desk(SCIENCE), team.first.me().registry.tip()
    for command in (
        ["member", "add", SCIENCE, science.public],
        ["member", "remove", DATA],
        ["key", "create", "points"],
        ["key", "backup"],
    ):
        with pytest.raises(Refused, match=f"{' '.join(command[:2])} is for"):
            science.type(*command)
        event = science.me().journal.events("decision.refused")[-1]
        said = " ".join(command[:2])
        assert (event.who, event.fields) == (SCIENCE, {"gate": said, "subject": said, "because": "role"})
    assert science.me().registry.tip() == before


def test_what_is_no_member_is_named(team: Team) -> None:
    data, review = team.first, team.desk(REVIEW)
    for key in ("x25519:" + "00" * 32, "x25519:" + "ff" * 32, "x25519:01" + "00" * 31, "x25519:02" + "00" * 31):
        with pytest.raises(ConfigError, match="not a point"):
            data.type("member", "add", REVIEW, key)
    for key in ("x25519:12", "nowhere.pub", "cdlkey1:AAAA"):
        with pytest.raises(ConfigError, match="public key"):
            data.type("member", "add", REVIEW, key)
    for email in ("review", "a b@example.org", "../x@example.org", "x@\nexample.org"):
        with pytest.raises(ConfigError, match="no mail address"):
            data.type("member", "add", email, review.public)
    with pytest.raises(NotFound, match="no member"):
        data.type("member", "remove", REVIEW)
    data.type("member", "add", REVIEW, review.public)
    with pytest.raises(Conflict, match="listed with this key"):
        data.type("member", "add", REVIEW.upper(), review.public)


def test_members_written_by_hand_count_for_nothing_until_approved(team: Team) -> None:
    evil = team.desk("evil@example.org")
    replaced(evil, MEMBERS, document.write({"members": {OPS: evil.public}}))
    evil.push()
    team.first.pull()
    run(team.first.me(), CYCLE, "deployment")
    assert not key_file(team.first).holders
    assert f"members +{OPS} {evil.public[:15]}" in team.first.type("status")
    replaced(evil, MEMBERS, document.write({"members": {OPS: "x25519:" + "00" * 32}}))
    evil.push()
    team.first.pull()
    assert "not a point" in team.first.type("status")
    before = in_force(team.first.me()).id
    with pytest.raises(ConfigError, match="not a point"):
        team.first.approve(REVIEW, "policy")
    assert in_force(team.first.me()).id == before


def test_keys_wrapped_for_somebody_else_do_not_open(team: Team) -> None:
    (review,) = joined(team, REVIEW)
    file = key_file(review)
    copied = {**file.holders, REVIEW: Holder(public=review.public, wrapped=file.holders[DATA].wrapped)}
    replaced(review, KEYS, encode(msgspec.structs.replace(file, holders=copied)))
    with pytest.raises(Corrupt, match="not signed by the evaluation key"):
        review.me().keys("points")
    keys = Keyring(team.first.home / "keyring").require("toy", "points")
    signed = written("toy", "points", keys, {DATA: review.public, REVIEW: review.public}, data_key="k-1", older=[])
    mixed = {DATA: signed.holders[DATA], REVIEW: signed.holders[DATA]}  # a holder puts one wrapping under two names
    replaced(review, KEYS, encode(_signed_again(signed, mixed, keys)))
    with pytest.raises(Unavailable, match="wrapped for somebody else"):
        review.me().keys("points")


def test_keys_of_another_project_or_another_secret_are_not_taken(team: Team) -> None:
    (review,) = joined(team, REVIEW)
    file, keyring = key_file(review), Keyring(review.home / "evil")
    other = keyring.create("toy", "points")
    members = {DATA: team.first.public, REVIEW: review.public}
    keys = Keyring(team.first.home / "keyring").require("toy", "points")
    replaced(review, KEYS, encode(written("other", "points", keys, members, data_key="k-1", older=[])))
    with pytest.raises(Corrupt, match="not signed"):
        review.me().keys("points")
    replaced(review, KEYS, encode(file))
    assert review.me().keys("points").public == keys.public
    replaced(review, KEYS, encode(written("toy", "points", other, members, data_key="k-1", older=[])))
    with pytest.raises(Corrupt, match="do not follow those in your keyring"):
        review.me().keys("points")
    review.push()
    team.first.pull()
    with pytest.raises(Corrupt, match="do not follow those in your keyring"):
        team.first.me().signing("points")
    assert Keyring(review.home / "keyring").require("toy", "points").public == keys.public


def _signed_again(file: KeyFile, holders: dict[str, Holder], keys: DatasetKeys) -> KeyFile:
    """A file as a holder of the keys could forge it."""
    changed = msgspec.structs.replace(file, holders=holders)
    return msgspec.structs.replace(changed, signature=keys.sign(signed_part("toy", "points", changed)))


def test_a_member_who_leaves_is_followed_by_other_keys(team: Team) -> None:
    review, ops = joined(team, REVIEW, OPS)
    data = team.first
    data.data(table(60))
    before, old = key_file(data), Keyring(ops.home / "keyring")
    data.push()
    ops.pull()
    assert ops.me().keys("points").public == before.evaluation
    said = data.type("member", "remove", OPS)
    assert "warning" not in said and key_file(data).data_key == "k-1"
    data.approve(REVIEW, "policy")
    run(data.me(), CYCLE, "deployment")
    after = key_file(data)
    assert (after.data_key, set(after.holders), len(after.older)) == ("k-2", {DATA, REVIEW}, 1)
    assert after.older[0].public == before.evaluation != after.evaluation
    data.push()
    for desk in (ops, review):
        desk.pull()
    assert review.me().vault("points", by="test").name == "k-2"
    assert review.me().signing("points").public == after.evaluation
    assert not ops.me().holds_key("points") and old.require("toy", "points").public == before.evaluation
    with pytest.raises(Unavailable, match=f"older keys only of points \\(holders: {DATA}, {REVIEW}\\)"):
        ops.me().signing("points")
    record = data.me().registry.all(Dataset)[-1][1]
    assert len(ops.me().vault("points", by="test").tree(record.test)) == record.items["test"]  # what he could read
    with pytest.raises(Unavailable, match="k-2 seals now"):
        ops.me().vault("points", by="test").put(b"x")
    data.write("incoming/points.csv", table(80))
    run(data.me(), CYCLE, "data")
    newest = next(r for _, r in data.me().registry.all(Dataset) if r.parent)
    assert newest.data_key == "k-2"
    with pytest.raises(Unavailable, match="another key than yours"):
        ops.me().vault("points", by="test").tree(newest.test)
    assert "warning: data@example.org alone" in data.type("member", "remove", REVIEW)


def left(team: Team, *options: str) -> Desk:
    """The first desk after ops@ joined and left."""
    joined(team, REVIEW, OPS)
    data = team.first
    data.data(table(60))
    data.type("member", "remove", OPS, *options)
    approved(team)
    return data


def test_what_was_sealed_before_is_read_and_made_again_with_the_key_that_sealed_it(team: Team) -> None:
    data = left(team)
    (identity, record), *_ = data.me().registry.all(Dataset)
    run(data.me(), CYCLE, "deployment")
    workspace = data.me()
    assert workspace.vault("points", by="test").name == "k-2" and record.data_key == "k-1"
    assert all(same.identical for same in reproduce_data(workspace, identity))
    (released, labels), *_ = workspace.registry.all(Labels)
    assert reproduce_labels(workspace, released).identical
    assert workspace.vault("points", by="test").key_of(labels.rows["test"]) == "k-1"
    assert len(unlabeled(workspace, "points")) == 0
    assert "key renew: points k-2" in workspace.git.text("log", "--format=%s", "main")


def test_sealing_again_makes_a_version_that_only_the_new_key_opens(team: Team) -> None:
    data = left(team, "--rewrite")
    old = Keyring(data.home / "keyring").require("toy", "points")
    (before, record), *_ = data.me().registry.all(Dataset)
    run(data.me(), CYCLE, "deployment")
    assert any("points: seal the current version again, k-1 -> k-2" in line for line in data.said)
    workspace = data.me()
    head = workspace.registry.head(DatasetHead, "points")
    assert head is not None and head.before == before
    again = workspace.registry.record(Dataset, head.version)
    assert (again.parent, again.data_key, again.items) == (before, "k-2", record.items)
    assert [s.train for s in again.steps] == [s.train for s in record.steps]
    sealed = [again.split.ledger, *(s.test for s in again.steps), *(s.raw for s in again.sources)]
    earlier = [record.split.ledger, *(s.test for s in record.steps), *(s.raw for s in record.sources)]
    assert not set(sealed) & set(earlier)
    vault = workspace.vault("points", by="test")
    for new, was in zip(sealed[1:], earlier[1:], strict=True):
        trees = vault.tree(new), vault.tree(was)
        assert trees[0].contents() == trees[1].contents()
        assert [(e.name, e.meta) for e in trees[0].entries] == [(e.name, e.meta) for e in trees[1].entries]
    who_left = Vault(workspace.store, old.data_key("k-1"), "k-1", identity=old.identity_key)
    assert len(who_left.tree(record.test)) == record.items["test"]
    for name in (again.test, again.sources[0].raw):
        with pytest.raises(Unavailable, match="another key than yours"):
            who_left.tree(name)
    assert unrewritten(workspace) == [] and "data" in {o.gate for o in waiting(workspace, CYCLE)}
    data.approve(DATA, "data")
    run(data.me(), CYCLE, None)
    rows = max(data.me().registry.all(Labels), key=lambda p: p[1].dataset == head.version)[1].rows["test"]
    assert data.me().vault("points", by="test").key_of(rows) == "k-2"
    assert all(same.identical for same in reproduce_data(data.me(), head.version))


def test_what_a_kill_leaves_between_branch_and_keyring_is_finished(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    data = left(team)
    first = Keyring(data.home / "keyring").require("toy", "points")

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("cdl.registry.chain.Chain.land", killed)
        with pytest.raises(Killed):
            run(data.me(), CYCLE, "deployment")
    assert key_file(data).data_key == "k-1" and data.me().vault("points", by="test").name == "k-1"
    assert data.me().signing("points").public == first.public
    with monkeypatch.context() as patch:
        patch.setattr(Keyring, "take", killed)
        with pytest.raises(Killed):
            run(data.me(), CYCLE, "deployment")
    file = key_file(data)
    assert file.data_key == "k-2" and Keyring(data.home / "keyring").require("toy", "points").public == first.public
    (data.home / "identity").unlink()  # what was wrapped for him cannot be what brings them back
    assert data.me().holds_key("points") and data.me().signing("points").public == file.evaluation
    assert Keyring(data.home / "keyring").require("toy", "points").public == file.evaluation


def test_another_key_of_a_member_is_followed_by_other_keys(team: Team) -> None:
    (review,) = joined(team, REVIEW)
    data, lost = team.first, key_file(team.first).holders[REVIEW].public
    (review.home / "identity").unlink()
    data.type("member", "add", REVIEW, review.public)
    data.approve(REVIEW, "policy")
    run(data.me(), CYCLE, "deployment")
    file = key_file(data)
    assert file.data_key == "k-2" and file.holders[REVIEW].public == review.public != lost


def test_who_left_does_not_renew_the_keys(team: Team) -> None:
    (review,) = joined(team, REVIEW)
    data = team.first
    data.type("member", "remove", DATA)
    approved(team)
    assert unwrapped(data.me()) == []
    assert f"keys of points: to be renewed, {DATA} left: waits for {REVIEW}" in data.type("status")
    data.push()
    review.pull()
    review.type("run", "--yes")
    assert set(key_file(review).holders) == {REVIEW} and key_file(review).data_key == "k-2"


def test_keys_in_the_environment_go_into_no_keyring_and_wrap_for_nobody(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(team, REVIEW)
    line = team.first.type("key", "backup").strip()
    other = team.desk("runner@example.org")
    team.first.type("member", "remove", REVIEW)
    monkeypatch.setenv("CDL_KEY", line)
    team.first.approve(REVIEW, "policy")
    assert other.me().holds_key("points") and unwrapped(team.first.me()) == []
    assert not (other.home / "keyring").exists() and not (other.home / "identity").exists()
    monkeypatch.delenv("CDL_KEY")
    run(team.first.me(), CYCLE, "deployment")
    monkeypatch.setenv("CDL_KEY", line)
    with pytest.raises(Unavailable, match="CDL_KEY holds other keys"):
        team.first.me().signing("points")


def test_no_key_is_wrapped_under_a_policy_that_nobody_could_approve(team: Team) -> None:
    data, evil = team.first, team.desk(OPS)
    replaced(data, MEMBERS, document.write({"members": {OPS: evil.public}}))
    workspace = data.me()
    policy = unapproved(workspace)
    assert policy is not None
    last = max(decisions(workspace, "policy"), key=lambda p: p[1].made.when)[1]
    made = msgspec.structs.replace(last.made, who=OPS)
    forged = msgspec.structs.replace(
        last,
        subject=policy.id,
        made=made,
        policy=in_force(workspace).id,
        document=dict(policy.document),
        after=sorted(i for i, _ in decisions(workspace, "policy")),
    )
    _, path, content = encode_record(forged)
    replaced(data, path, content)
    assert in_force(data.me()).id == policy.id
    with pytest.raises(Refused, match="no model_validator approved policy"):
        run(data.me(), CYCLE, "deployment")
    assert not key_file(data).holders
