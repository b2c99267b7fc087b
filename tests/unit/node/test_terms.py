"""The terms of sessions in force: a function of what admins state, whoever tells it and in whatever order."""

import itertools

import pytest

from dmssd.cli import rotate
from dmssd.rules import terms
from dmssd.rules.statements import TOPICS
from dmssd.rules.terms import (
    EPOCH_MAX,
    LIFETIME_S,
    TERMS_CODEC,
    TOPIC_SESSIONS,
    SessionTerms,
    raised,
    terms_in_force,
)
from dmssd.security.certificate import CAPABILITY_ADMIN, CAPABILITY_RECOVERY, Credentials, Subject, issue
from gossip.statements import Held
from sansio.errors import RequestError
from sansio.wire import Codec
from tests.unit.security.test_standing import Realm


@pytest.fixture
def realm() -> Realm:
    made = Realm()
    for name, admin in (("n1", True), ("n2", True), ("n3", False), ("n4", False)):
        made.admit("n0", name, admin=admin)
    return made


def state(realm: Realm, author: str, epoch: int, lifetime_s: int = LIFETIME_S, subject: bytes = b"") -> Held:
    return realm.state(author, TOPIC_SESSIONS, subject, TERMS_CODEC.encode(SessionTerms(epoch, lifetime_s)))


def in_force(realm: Realm, *stated: Held) -> SessionTerms:
    """The same whatever the order."""
    (one,) = {terms_in_force(order, realm.judge()) for order in itertools.permutations(stated)}
    return one


def test_without_a_statement_a_session_may_be_a_day_old(realm):
    assert in_force(realm) == SessionTerms(0, 86_400)


def test_the_highest_epoch_is_in_force_and_of_equal_ones_that_of_the_higher_id(realm):
    one, two = sorted(("n1", "n2"), key=realm.node)
    assert in_force(realm, state(realm, one, 3, 100), state(realm, two, 2, 200)) == SessionTerms(3, 100)
    assert in_force(realm, state(realm, one, 2, 100), state(realm, two, 2, 200)) == SessionTerms(2, 200)


def test_only_admins_are_believed(realm):
    assert in_force(realm, state(realm, "n3", 9), state(realm, "n1", 1, 100)) == SessionTerms(1, 100)


def test_an_expelled_admin_is_believed_no_more(realm):
    stated = (state(realm, "n1", EPOCH_MAX, 60), state(realm, "n2", 4, 100))
    assert in_force(realm, *stated).epoch == EPOCH_MAX
    realm.vote("n0", "n1")
    realm.vote("n2", "n1")
    assert in_force(realm, *stated) == SessionTerms(4, 100)


def test_the_recovery_key_states_no_terms(realm):
    identity = realm.identity("key")
    capabilities = CAPABILITY_ADMIN | CAPABILITY_RECOVERY
    chain = issue(realm.members["n0"], Subject(identity.key, identity.x25519, "key"), 99, capabilities)
    realm.members["key"] = Credentials.load(identity, chain)
    assert in_force(realm, state(realm, "key", 5)) == SessionTerms()


def test_terms_out_of_bounds_and_what_cannot_be_read_are_not_believed(realm):
    loose = Codec(tuple[int, int])
    bad = [
        realm.state("n1", TOPIC_SESSIONS, b"", loose.encode(body))
        for body in ((1, 59), (1, 30 * 86_400 + 1), (-1, 100), (2**32, 100))
    ]
    bad += [realm.state("n1", TOPIC_SESSIONS, b"", b""), realm.state("n1", TOPIC_SESSIONS, b"", b"\xff")]
    bad.append(state(realm, "n1", 5, subject=b"x"))
    for each in bad:
        assert in_force(realm, each) == SessionTerms()
    assert in_force(realm, realm.state("n1", TOPIC_SESSIONS, b"", loose.encode((1, 60)))) == SessionTerms(1, 60)


def test_raising_takes_the_next_epoch_and_keeps_the_lifetime_unless_one_is_given():
    assert raised(SessionTerms(4, 100), None) == SessionTerms(5, 100)
    assert raised(SessionTerms(4, 100), 200) == SessionTerms(5, 200)
    with pytest.raises(RequestError, match="expel"):
        raised(SessionTerms(EPOCH_MAX, 100), None)


def test_a_statement_fits_its_topic_and_the_command_line_has_the_same_bounds():
    largest = TERMS_CODEC.encode(SessionTerms(EPOCH_MAX, terms.LIFETIME_S_MAX))
    assert len(largest) <= TOPICS[TOPIC_SESSIONS].body_bytes_max
    assert (rotate.LIFETIME_S_MIN, rotate.LIFETIME_S_MAX) == (terms.LIFETIME_S_MIN, terms.LIFETIME_S_MAX)
