"""Who is admitted under a next key, and how nobody keeps two memberships: rules by themselves."""

import pytest

from dmssd.rules import rotation
from dmssd.rules.membership import Membership
from dmssd.security.acts import ADMISSION_CODEC, SUCCESSION_CODEC, TOPIC_ADMIT, TOPIC_EXPEL, TOPIC_SUCCEED, Admission
from dmssd.security.certificate import CAPABILITY_ADMIN, CHAIN_CODEC, Certificate, Subject, issue
from dmssd.security.identity import Identity
from dmssd.security.signer import STATEMENT_CONTEXT, MeshSigner
from gossip.statements import REPLICA_CODEC, Held, held
from routing.flood import FLOOD_CODEC
from routing.linkstate import SIGNED_CODEC
from routing.lsa import LSA_CODEC, Lsa
from sansio.ids import NodeId
from tests.unit.security.test_standing import Realm

NEXT, OTHER = Identity(b"next".ljust(32, b".")), Identity(b"other".ljust(32, b"."))


@pytest.fixture
def realm() -> Realm:
    made = Realm()
    made.admit("n0", "n1", admin=True)
    made.admit("n1", "m2")
    return made


def members(realm: Realm) -> dict[NodeId, Certificate]:
    membership = Membership(realm.members["n0"], 3)
    membership.standing = realm.judge()
    return membership.members(each.chain for each in realm.members.values())


def wish(realm: Realm, author: str, identity: Identity = NEXT, about: str | None = None) -> Held:
    """``author`` states a next key, which signed for ``about``."""
    publish = rotation.stated(identity, realm.node(about or author), realm.members["n0"].mesh)
    return realm.state(author, publish.topic, publish.subject, publish.body)


def to_admit(realm: Realm, *wishes: Held) -> list[NodeId]:
    return [author for author, _ in rotation.to_admit(wishes, members(realm))]


def succeed(realm: Realm, issuer: str, author: str, identity: Identity = NEXT) -> Held:
    subject = Subject(identity.key, identity.x25519, author)
    chain = issue(realm.members[issuer], subject, 99, 0)
    act = Admission(CHAIN_CODEC.decode(chain, "")[0], (), realm.node(author))
    statement = realm.state(issuer, TOPIC_ADMIT, identity.node, ADMISSION_CODEC.encode(act))
    realm.stated.append(statement)
    return statement


def test_a_member_that_states_a_next_key_is_admitted_under_it(realm):
    assert to_admit(realm, wish(realm, "m2"), wish(realm, "n1", OTHER)) == [realm.node("m2"), realm.node("n1")]


def test_a_next_key_that_did_not_sign_is_not_admitted(realm):
    assert to_admit(realm, wish(realm, "m2", about="n1")) == []
    publish = rotation.stated(NEXT, realm.node("m2"), realm.members["n0"].mesh)
    wanted = SUCCESSION_CODEC.decode(publish.body, "")
    forged = SUCCESSION_CODEC.encode(type(wanted)(OTHER.key, wanted.x25519, wanted.signature))
    assert to_admit(realm, realm.state("m2", TOPIC_SUCCEED, b"", forged)) == []
    assert to_admit(realm, realm.state("m2", TOPIC_SUCCEED, b"", b"\xc1")) == []


def test_the_next_key_is_nobodys_yet(realm):
    assert to_admit(realm, wish(realm, "m2", realm.identity("n1"))) == []


def test_a_member_has_one_successor(realm):
    succeed(realm, "n0", "m2")
    assert to_admit(realm, wish(realm, "m2", OTHER)) == []
    assert to_admit(realm, wish(realm, "n1", OTHER)) == [realm.node("n1")]


def test_whoever_admitted_a_successor_sees_to_it_that_the_old_key_goes(realm):
    succeed(realm, "n0", "m2")
    assert rotation.lingering(realm.judge(), realm.node("n0")) == [realm.node("m2")]
    assert rotation.lingering(realm.judge(), realm.node("n1")) == []
    realm.vote("m2", "m2")
    assert rotation.lingering(realm.judge(), realm.node("n0")) == []


def test_a_resignation_is_signed_beforehand_and_counts_when_it_is_said(realm):
    mine = realm.members["n1"]
    membership = Membership(mine, 3)
    resignation = membership.resignation(rotation.REASON, [each.chain for each in realm.members.values()])
    assert (resignation.topic, resignation.subject) == (TOPIC_EXPEL, mine.identity.node)
    said = rotation.signed_resignation(resignation, mine.identity.node, MeshSigner(mine, STATEMENT_CONTEXT))
    (statement,) = REPLICA_CODEC.decode(said, "").statements
    standing = realm.judge([*realm.stated, held(statement)])
    assert standing.refusal(mine.chain) == "expelled from the mesh"
    # Whom it had admitted is a member as before.
    assert standing.refusal(realm.members["m2"].chain) is None


def test_the_first_lsa_under_the_next_key_says_the_same_and_names_the_one_before(realm):
    mine = Lsa(realm.node("n1"), 4_711, "n1", (), (), successor=None)
    chain = issue(realm.members["n0"], Subject(NEXT.key, NEXT.x25519, "n1"), 5, CAPABILITY_ADMIN)
    credentials = type(realm.members["n0"]).load(NEXT, chain)
    (item,) = FLOOD_CODEC.decode(rotation.first_flood(mine, credentials), "").lsas
    lsa = LSA_CODEC.decode(SIGNED_CODEC.decode(item.signed, "").body, "")
    assert lsa == Lsa(NEXT.node, 1, "n1", (), (), successor=None, predecessor=realm.node("n1"))


def test_where_an_admin_admitted_its_own_successor_the_others_see_to_it():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    succeed(realm, "n0", "n0")
    assert rotation.lingering(realm.judge(), realm.node("n1")) == [realm.node("n0")]
    assert rotation.lingering(realm.judge(), realm.node("n0")) == []


def test_a_name_means_the_successor_before_the_resignation_has_come():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "m2")
    succeed(realm, "n1", "m2")
    assert [node for node, certificate in members(realm).items() if certificate.name == "m2"] == [NEXT.node]


def test_no_admin_gives_another_admin_a_successor_that_it_did_not_ask_for():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "n2", admin=True)
    succeed(realm, "n1", "n2")
    assert realm.node("n2") in members(realm)
    assert to_admit(realm, wish(realm, "n2", OTHER)) == [realm.node("n2")]
