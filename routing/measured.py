"""Measured metrics: what a link costs by how long its echoes take and how many are lost, without flapping.

Theory of operation. Every ``SAMPLE_INTERVAL`` each adjacency on a measured link is looked at: its smoothed round trip
and loss give a cost, ``METRIC_UNIT`` for a clean link of at most a millisecond, in proportion to the round trip beyond,
and multiplied by the transmissions that a packet and its answer take (ETX, De Couto et al. 2003, 3). The cost is
smoothed again and quantised to steps of one half, so that links that are alike cost the same and share traffic.

A change of metric moves traffic, and moved traffic changes what is measured. So a metric moves only once the cost is
well beyond the border to the next step (``HYSTERESIS`` over the step's own width), and no sooner than ``HOLD`` after it
last did.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

from routing.linkstate import MeasuredSet
from routing.lsa import METRIC_MAX, LinkNumber
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

METRIC_UNIT = 10
"""What a measured link costs before anything is known of it, and the least that it ever does."""
STEP = 1.5
HYSTERESIS = 1.4
"""Above the square root of ``STEP``, where the border between two steps is."""
SAMPLE_INTERVAL = Duration(2 * SECOND)
HOLD = Duration(10 * SECOND)
LOSS_MAX = 0.9
SMOOTHING = 0.25


class Observed(Protocol):
    """What is known of an adjacency; :class:`routing.adjacency.NeighbourView` is one."""

    @property
    def node(self) -> NodeId:
        """The neighbour."""

    @property
    def link(self) -> LinkNumber:
        """Over which link."""

    @property
    def state(self) -> str:
        """``up`` where it may be used."""

    @property
    def rtt_ns(self) -> Duration | None:
        """Smoothed round trip."""

    @property
    def loss_ppm(self) -> int:
        """Smoothed share of unanswered echoes, in millionths."""


@dataclass(frozen=True, slots=True)
class LinksMeasured:
    """These links are to be measured; replaces all before."""

    links: frozenset[LinkNumber]


@dataclass(slots=True)
class _Track:
    cost: float
    metric: int
    moved: Instant


class Measured:
    """The core; ``look`` shows every adjacency there is."""

    def __init__(self, look: Callable[[], Iterable[Observed]]) -> None:
        self._look = look
        self._links: frozenset[LinkNumber] = frozenset()
        self._tracks: dict[tuple[NodeId, LinkNumber], _Track] = {}
        self._due: Instant | None = None

    def handle(self, event: LinksMeasured | Wake, now: Instant) -> list[MeasuredSet]:
        """The core's door."""
        match event:
            case LinksMeasured(links):
                self._links = links
                self._due = after(now, SAMPLE_INTERVAL) if links and self._due is None else self._due
                return self._sample(now) if not links else []
            case Wake():
                if self._due is None or now < self._due:
                    return []
                return self._sample(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When to look again; never where no link is measured."""
        return self._due

    @property
    def metrics(self) -> Mapping[tuple[NodeId, LinkNumber], int]:
        """What each measured adjacency costs now."""
        return {key: track.metric for key, track in self._tracks.items()}

    def _sample(self, now: Instant) -> list[MeasuredSet]:
        self._due = after(now, SAMPLE_INTERVAL) if self._links else None
        before = self.metrics
        tracks: dict[tuple[NodeId, LinkNumber], _Track] = {}
        for one in self._look():
            key = one.node, one.link
            if one.link in self._links and one.state != "down" and one.rtt_ns is not None:
                # Two adjacencies with one node on one segment link are one to the LSA: the better counts.
                cost = cost_of(one.rtt_ns, one.loss_ppm)
                tracks[key] = _moved(self._tracks.get(key), cost, now) if key not in tracks else tracks[key]
        self._tracks = tracks
        return [MeasuredSet(self.metrics)] if self.metrics != before else []


def cost_of(rtt_ns: int, loss_ppm: int) -> float:
    """The unquantised cost of an adjacency."""
    loss = min(loss_ppm / 1_000_000, LOSS_MAX)
    # An echo is lost if either way loses it, so that answered echoes are one in ETX.
    return float(METRIC_UNIT * max(1.0, rtt_ns / MILLISECOND) / (1 - loss))


def quantised(cost: float) -> int:
    """The step nearest to a cost, by ratio."""
    metric = float(METRIC_UNIT)
    while metric * STEP**0.5 < cost and metric < METRIC_MAX:
        metric *= STEP
    return min(round(metric), METRIC_MAX)


def _moved(track: _Track | None, cost: float, now: Instant) -> _Track:
    if track is None:
        return _Track(cost, quantised(cost), now)
    smooth = track.cost + SMOOTHING * (cost - track.cost)
    strays = not track.metric / HYSTERESIS <= smooth <= track.metric * HYSTERESIS
    if strays and now >= after(track.moved, HOLD) and quantised(smooth) != track.metric:
        return _Track(smooth, quantised(smooth), now)
    return _Track(smooth, track.metric, track.moved)
