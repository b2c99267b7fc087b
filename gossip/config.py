"""Settings of the SWIM core, each with what turning it costs."""

from dataclasses import dataclass

from sansio.instant import MILLISECOND, SECOND, Duration

HOUR = 3_600 * SECOND


@dataclass(frozen=True, slots=True)
class SwimConfig:
    """The default profile. Members of one mesh should agree; nothing breaks if they do not.

    Every duration is in nanoseconds.
    """

    period: Duration = Duration(700 * MILLISECOND)
    """One member is probed per period. Lower finds failures sooner and sends more, in proportion."""

    probe_timeout: Duration = Duration(300 * MILLISECOND)
    """Wait for a direct answer over no hops. Lower asks relays sooner; below the round trip it asks them always."""

    hop_allowance: Duration = Duration(20 * MILLISECOND)
    """Added to the time-out per hop of the control path. Lower suspects far members of slow relays."""

    indirect_probes: int = 3
    """Relays asked when a direct probe fails (SWIM's k). Higher tolerates more loss, costs datagrams on each miss."""

    suspicion_scale: float = 4.0
    """Lifeguard's alpha: the shortest suspicion is alpha * log10(n) periods. Lower finds death sooner and refutes
    less."""

    suspicion_stretch: float = 6.0
    """Lifeguard's beta: an unconfirmed suspicion lasts beta times the shortest. Higher forgives a sick suspector
    longer."""

    suspicion_confirmations: int = 3
    """Lifeguard's K: independent confirmations that bring a suspicion to its shortest."""

    health_max: int = 8
    """Lifeguard's S: how far local health slows our own probing. Higher lets a sick member find failures later."""

    retransmit_scale: float = 4.0
    """SWIM's lambda: an update is sent lambda * log10(n + 1) times by each member. Higher survives more loss."""

    gossip_interval: Duration = Duration(200 * MILLISECOND)
    """How often news goes out by itself while there is any. Lower spreads faster, with the same number of copies."""

    gossip_fanout: int = 3
    """Members that get the news at each such interval."""

    sync_interval: Duration = Duration(30 * SECOND)
    """Push-pull with a random member. Lower repairs lost updates sooner; at rest it costs one small datagram."""

    sync_retry: Duration = Duration(1 * SECOND)
    """Wait for the answer to a push-pull with a newly met member before asking again."""

    dead_interval: Duration = Duration(5 * SECOND)
    """One dead member is pinged per interval, so that partitions heal. Lower heals sooner."""

    dead_gossip: Duration = Duration(30 * SECOND)
    """How long after its death a member is still sent gossip."""

    dead_retention: Duration = Duration(72 * HOUR)
    """The absence lease: how long the dead and the left are remembered."""

    leave_copies: int = 3
    """Members that must have acknowledged our leave before we go."""

    leave_retry: Duration = Duration(200 * MILLISECOND)
    """Wait for those acknowledgements before asking again, and one member more."""

    leave_timeout: Duration = Duration(2 * SECOND)
    """Go without acknowledgements after this."""
