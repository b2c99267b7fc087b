"""Joining without a token: the petitioner, who waits at a member, and approvals; twins."""

import random

import pytest

from dmssd.rules.statements import TOPICS
from dmssd.rules.waiting import APPROVALS_MAX, ASKED_FOR, STATE_INTERVAL, Approvals, Porch
from dmssd.security.acts import TOPIC_WAITING, WAITING_CODEC, WAITING_MAX, Waiting
from dmssd.security.admission import (
    JOIN_CODEC,
    Answered,
    Ask,
    IssuerReached,
    JoinAccepted,
    Joined,
    JoinFailed,
    JoinRefused,
    WaitNoted,
    WaitRequest,
)
from dmssd.security.certificate import Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.security.petition import ASK_INTERVAL, Petitioner
from dmssd.security.recovery import RecoveryKey
from dmssd.security.twins import PROBE_INTERVAL, PROOFS_SPAN, SHOWN_FOR, Twins
from sansio.core import Rejected, Wake
from sansio.errors import AdmissionError, RequestError
from sansio.ids import MeshId, NodeId
from sansio.instant import SECOND, Duration, Instant, after

ZERO = Instant(SECOND)
HOUR = Duration(3_600 * SECOND)


def identity(name: str) -> Identity:
    return Identity(name.encode().ljust(32, b"."))


def waiting(number: int) -> tuple[NodeId, Waiting]:
    one = identity(f"w{number}")
    return one.node, Waiting(one.key, one.x25519, f"w{number}")


FOUNDER: Credentials = found(identity("founder"), "founder", "mesh", random.Random(1).randbytes)
ME = identity("me")


def petitioner() -> Petitioner:
    return Petitioner(FOUNDER.identity.node, FOUNDER.mesh, ME, "me", random.Random(2).randbytes, ZERO, HOUR)


def reached(core: Petitioner) -> WaitRequest:
    (ask,) = core.handle(IssuerReached(FOUNDER.identity.node, FOUNDER.chain), ZERO)
    assert isinstance(ask, Ask)
    request = JOIN_CODEC.decode(ask.payload, "")
    assert isinstance(request, WaitRequest)
    return request


def said(core: Petitioner, message: object, peer: NodeId = FOUNDER.identity.node) -> list[object]:
    return core.handle(Answered(peer, JOIN_CODEC.encode(message)), ZERO)


def chain_for(one: Identity, issuer: Credentials = FOUNDER) -> bytes:
    return issue(issuer, Subject(one.key, one.x25519, "me"), 7)


def test_a_petitioner_asks_again_until_it_is_admitted():
    core = petitioner()
    request = reached(core)
    assert (request.mesh, request.key, request.name) == (FOUNDER.mesh, ME.key, "me")
    assert said(core, WaitNoted(request.nonce)) == []
    later = after(ZERO, ASK_INTERVAL)
    assert core.deadline() == later
    assert len(core.handle(Wake(), later)) == 1
    (joined,) = said(core, JoinAccepted(request.nonce, chain_for(ME)))
    assert isinstance(joined, Joined)
    assert joined.credentials.mesh == FOUNDER.mesh
    assert core.handle(Wake(), after(later, HOUR)) == []


def test_a_petitioner_speaks_to_no_one_who_does_not_belong_to_the_mesh_that_was_greeted():
    elsewhere = found(identity("elsewhere"), "x", "y", random.Random(3).randbytes)
    core = Petitioner(elsewhere.identity.node, FOUNDER.mesh, ME, "me", random.Random(2).randbytes, ZERO, HOUR)
    (failed,) = core.handle(IssuerReached(elsewhere.identity.node, elsewhere.chain), ZERO)
    assert isinstance(failed, JoinFailed)
    assert "do not trust it" in failed.reason


def test_a_petitioner_takes_no_certificate_of_another_key_or_mesh_or_from_another_node():
    core = petitioner()
    request = reached(core)
    elsewhere = found(identity("elsewhere"), "x", "y", random.Random(3).randbytes)
    for chain in (chain_for(identity("other")), chain_for(ME, elsewhere), b"junk"):
        assert all(isinstance(each, Rejected) for each in said(core, JoinAccepted(request.nonce, chain)))
    assert isinstance(said(core, JoinAccepted(request.nonce, chain_for(ME)), identity("other").node)[0], Rejected)
    assert isinstance(said(core, JoinAccepted(bytes(8), chain_for(ME)))[0], Rejected)
    assert not core.finished


def test_a_petitioner_says_why_it_gave_up():
    core = petitioner()
    request = reached(core)
    assert said(core, JoinRefused(request.nonce, "because")) == [JoinFailed("because")]
    silent = petitioner()
    reached(silent)
    (failed,) = silent.handle(Wake(), after(ZERO, HOUR))
    assert "older version" in failed.reason
    noted = petitioner()
    said(noted, WaitNoted(reached(noted).nonce))
    (failed,) = noted.handle(Wake(), after(ZERO, HOUR))
    assert f"dmssd admit {ME.node.hex()[:8]}" in failed.reason


# Who waits


def test_who_waits_is_stated_once_and_forgotten_when_it_asks_no_more():
    porch = Porch()
    node, one = waiting(1)
    assert porch.asked(node, one, ZERO)
    (publish,) = porch.wake(ZERO)
    assert WAITING_CODEC.decode(publish.body, "") == (one,)
    later = after(ZERO, STATE_INTERVAL)
    porch.asked(node, one, later)
    assert porch.wake(after(later, STATE_INTERVAL)) == []
    (publish,) = porch.wake(after(later, Duration(ASKED_FOR + STATE_INTERVAL)))
    assert publish.body == b""


def test_a_crowd_is_stated_once_a_second_at_most_and_bounded():
    porch = Porch()
    stated = 0
    for number in range(WAITING_MAX + 8):
        node, one = waiting(number)
        assert porch.asked(node, one, ZERO) == (number < WAITING_MAX)
        stated += len(porch.wake(ZERO))
    assert stated == 1
    (publish,) = porch.wake(after(ZERO, STATE_INTERVAL))
    assert len(WAITING_CODEC.decode(publish.body, "")) == WAITING_MAX


def test_an_approval_is_good_for_one_board_and_for_its_time_only():
    book = Approvals(None, ZERO)
    node, _ = waiting(1)
    book.add([node.hex(), "door", "late"], HOUR, ZERO)
    assert book.take(node, "whatever", ZERO)
    assert not book.take(node, "whatever", ZERO)
    assert book.take(waiting(2)[0], "door", ZERO)
    assert not book.take(waiting(3)[0], "door", ZERO)
    assert not book.take(waiting(4)[0], "late", after(ZERO, HOUR))


def test_approvals_outlive_a_restart_with_the_time_they_have_left():
    book = Approvals(None, ZERO)
    book.add(["door"], HOUR, ZERO)
    stored = book.export(after(ZERO, Duration(HOUR // 2)))
    again = Approvals(stored, Instant(5))
    assert not Approvals(stored, Instant(5)).take(waiting(1)[0], "door", after(Instant(5), HOUR))
    assert again.take(waiting(1)[0], "door", after(Instant(5), Duration(HOUR // 3)))


def test_too_many_approvals_are_refused_and_change_nothing():
    book = Approvals(None, ZERO)
    with pytest.raises(RequestError):
        book.add([f"n{number}" for number in range(APPROVALS_MAX + 1)], HOUR, ZERO)
    assert len(book) == 0


# Recovery keys, twins


def test_a_recovery_key_round_trips_and_hides_its_seed():
    key = RecoveryKey(MeshId(b"m" * 16), b"s" * 32)
    assert RecoveryKey.parse(f" {key}\n") == key
    assert "ssss" not in repr(key)
    for bad in ("", "dmssr1.", str(key)[:-3], str(key).removeprefix("dmssr1."), "dmss1." + str(key)[7:]):
        with pytest.raises(AdmissionError):
            RecoveryKey.parse(bad)


def test_a_few_late_handshakes_of_an_earlier_start_are_no_twin_and_many_are():
    twins = Twins()
    for _ in range(5):
        twins.refused(ME.node, "here", "there", ZERO)
    assert twins.others(ZERO) == []
    later = after(ZERO, PROOFS_SPAN)
    twins.refused(ME.node, "here", "there", later)
    assert twins.others(later) == [(ME.node, ("here", "there"))]
    assert twins.others(after(later, SHOWN_FOR)) == []


def test_one_who_greets_in_our_name_is_called_now_and_then_only():
    twins = Twins()
    assert twins.may_probe(ZERO)
    assert not twins.may_probe(after(ZERO, SECOND))
    assert twins.may_probe(after(ZERO, PROBE_INTERVAL))


def test_a_full_porch_of_the_longest_names_fits_the_statement_that_tells_of_it():
    full = tuple(Waiting(b"k" * 32, b"x" * 32, "n" * 64) for _ in range(WAITING_MAX))
    assert len(WAITING_CODEC.encode(full)) <= TOPICS[TOPIC_WAITING].body_bytes_max
