"""Certificates get new ones long before they expire, by whoever is an admin then, without anybody asking.

An admin gives certificates a lifetime by its own clock (``mesh.certificate_days``) and looks every ``LOOK_INTERVAL``:
it renews what it issued itself once half of the lifetime has gone, and what another admin issued once three quarters
have, for that other one may be no more. A renewal is an ``admit`` statement like any; its subject finds it and shows it
from then on, whether it was up or away at the time.

Clocks are not trusted: an admin whose clock says a time before ``CLOCK_MIN`` gives no expiry and renews nothing; what
has expired goes on to count, and is only complained of (DESIGN.md 3, Clocks).
"""

from collections.abc import Callable, Iterable

from dmssd.security.certificate import Certificate
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration

LOOK_FIRST = Duration(60 * SECOND)
LOOK_INTERVAL = Duration(3_600 * SECOND)
RENEWALS_MAX = 64
"""Certificates renewed at one look; the next look takes more."""

CLOCK_MIN = 1_704_067_200  # 2024
DAY_S = 86_400


class Renewals:
    """The times of certificates. ``wall``: seconds since 1970 as this machine knows; ``days``: 0 for no expiry."""

    def __init__(self, wall: Callable[[], float], days: int) -> None:
        self._wall = wall
        self._lifetime_s = days * DAY_S

    def set_days(self, days: int) -> None:
        """Have certificates made from now on live for so long."""
        self._lifetime_s = days * DAY_S

    def expiry(self) -> int:
        """What a certificate made now says; 0: none."""
        now = self._wall()
        return int(now) + self._lifetime_s if self._lifetime_s and now >= CLOCK_MIN else 0

    def due(self, best: Iterable[Certificate], me: NodeId) -> list[Certificate]:
        """Those to renew now, the one that expires first first. ``best``: the best certificate of each member."""
        now = self._wall()
        if not self.expiry():
            return []
        due = []
        for certificate in best:
            left_s = certificate.expiry - now
            part = 2 if certificate.issuer == me else 4
            if certificate.expiry and left_s < self._lifetime_s / part:
                due.append(certificate)
        return sorted(due, key=lambda certificate: (certificate.expiry, certificate.node))[:RENEWALS_MAX]

    def warning(self, certificate: Certificate) -> str | None:
        """What people must do about a certificate that nobody renewed; ``None`` where all is well."""
        now = self._wall()
        if not certificate.expiry or now < CLOCK_MIN or certificate.expiry - now > self._lifetime_s / 8:
            return None
        days = int(abs(certificate.expiry - now) // DAY_S)
        when = f"expires in {days} days"
        if certificate.expiry <= now:
            when = f"expired {days} days ago and counts all the same"
        return (
            f"the certificate of this node {when}: is an admin up, and is this machine's clock right?"
            f" next: dmssd renew {certificate.name} on an admin"
        )
