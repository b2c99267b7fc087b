"""When certificates are renewed, by whom, and what is complained of."""

from dataclasses import dataclass

import msgspec

from dmssd.rules.renewal import CLOCK_MIN, DAY_S, RENEWALS_MAX, Renewals
from dmssd.security.certificate import Certificate
from dmssd.security.identity import Identity

ME, OTHER = Identity(b"m" * 32), Identity(b"o" * 32)
DAYS = 400
START = CLOCK_MIN + 1_000 * DAY_S


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


def certificate(expiry: int, issuer: Identity = ME, serial: int = 1) -> Certificate:
    return Certificate(bytes(16), OTHER.key, OTHER.x25519, "board", 0, expiry, serial, issuer.node)


def test_a_certificate_lives_as_long_as_configured_by_the_admins_clock():
    assert Renewals(Clock(), DAYS).expiry() == START + DAYS * DAY_S
    assert Renewals(Clock(), 0).expiry() == 0


def test_an_admin_whose_clock_is_in_1970_gives_no_expiry_and_renews_nothing():
    renewals = Renewals(Clock(0.0), DAYS)
    assert renewals.expiry() == 0
    assert renewals.due([certificate(START)], ME.node) == []
    assert renewals.warning(certificate(START)) is None


def test_the_issuer_renews_at_half_of_the_lifetime_and_another_admin_at_three_quarters():
    clock = Clock()
    renewals = Renewals(clock, DAYS)
    held = certificate(renewals.expiry())
    for days, by_issuer, by_other in ((0, False, False), (199, False, False), (201, True, False), (301, True, True)):
        clock.now = START + days * DAY_S
        assert bool(renewals.due([held], ME.node)) == by_issuer
        assert bool(renewals.due([held], OTHER.node)) == by_other


def test_what_has_no_expiry_is_never_renewed():
    assert Renewals(Clock(START + 10**9), DAYS).due([certificate(0)], ME.node) == []


def test_those_that_expire_first_go_first_and_not_all_at_once():
    clock = Clock()
    many = [certificate(int(clock.now) + 100 * n, serial=n) for n in reversed(range(1, 2 * RENEWALS_MAX))]
    due = Renewals(clock, DAYS).due(many, ME.node)
    assert [each.serial for each in due] == list(range(1, RENEWALS_MAX + 1))


def test_a_certificate_that_nobody_renewed_is_complained_of_and_says_that_it_counts():
    clock = Clock()
    renewals = Renewals(clock, DAYS)
    held = certificate(renewals.expiry())
    assert renewals.warning(held) is None
    clock.now = START + 370 * DAY_S
    assert "expires in 30 days" in (renewals.warning(held) or "")
    clock.now = START + 410 * DAY_S
    warning = renewals.warning(held) or ""
    assert "expired 10 days ago and counts all the same" in warning
    assert "dmssd renew board" in warning
    assert renewals.warning(msgspec.structs.replace(held, expiry=0)) is None
