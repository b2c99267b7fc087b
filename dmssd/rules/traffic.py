"""What operators say about a node's traffic while it runs: to drain it, and what its links cost.

Theory of operation. Both change nothing but this node's own LSA, so every node in the mesh obeys, whatever its
version. Both are kept on disk until they are taken back. *Draining* lets all links of the node cost the most (RFC
6987): traffic takes every other way there is, and the node itself and what only it leads to stay reachable.

A link has two directions, each announced by the node that sends: setting a link's metric is an order to both of its
ends. The end that is this node obeys its own admin socket; the other is sent a message, over and over until it answers
or ``ORDER_PATIENCE`` has gone by, and obeys members with the admin capability alone. Orders say what shall be, not what
to change, so that it does no harm to obey one twice.

    MetricOrder  | tag 1 | number: named in the answer | neighbour: far end of those links | metric; 0: as configured
    MetricDone   | tag 2 | number                      | problem: why it was not done, for people; empty: done

``traffic`` on disk: Stored | draining | metrics: [neighbour, metric] each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, assert_never

import msgspec

from dmssd.events import Notice, Reply
from routing.linkstate import DrainSet, MetricsSet
from routing.lsa import METRIC_MAX, Lsa, Metric
from sansio.core import Persist, Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, WireNodeId, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.protocol import PROTOCOL_FIRST
from sansio.wire import WIRE, Codec

STORED_KEY = "traffic"
METRICS_MAX = 256
"""Neighbours with a metric of their own; one more is refused. An LSA holds no more adjacencies."""
ASKED_MAX = 64
"""Requests that wait for other members; one more is refused."""
PROBLEM_CHARACTERS_MAX = 200
ORDER_PATIENCE = Duration(8 * SECOND)
ORDER_AGAIN = Duration(500 * MILLISECOND)

VERBS = ("drain", "metric")

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class MetricOrder(msgspec.Struct, tag=1, **WIRE):
    """What the receiver's links to ``neighbour`` shall cost."""

    number: _Number
    neighbour: WireNodeId
    metric: Annotated[int, msgspec.Meta(ge=0, le=METRIC_MAX)]


class MetricDone(msgspec.Struct, tag=2, **WIRE):
    """The answer."""

    number: _Number
    problem: Annotated[str, msgspec.Meta(max_length=PROBLEM_CHARACTERS_MAX)] = ""


class Stored(msgspec.Struct, **WIRE):
    """What is on disk."""

    draining: bool = False
    metrics: Annotated[tuple[tuple[WireNodeId, Metric], ...], msgspec.Meta(max_length=METRICS_MAX)] = ()


TRAFFIC_CODEC: Codec[MetricOrder | MetricDone] = Codec(MetricOrder | MetricDone)
STORED_CODEC: Codec[Stored] = Codec(Stored)


@dataclass(frozen=True, slots=True)
class Began:
    """The node begins: have its LSA say what is on disk."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of this node's admin: ``drain`` {on}, or ``metric`` {a, b (hex ids), metric or None: as configured}."""

    number: int
    verb: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message on the traffic channel of member ``source``."""

    source: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendTraffic:
    """Send a message on the traffic channel to a member."""

    to: NodeId
    payload: bytes


TrafficEvent = Began | Asked | Heard | Wake
TrafficAction = DrainSet | MetricsSet | SendTraffic | Persist | Reply | Notice | Rejected


@dataclass(slots=True)
class _Waiting:
    """A request whose orders are under way."""

    number: int
    answer: dict[str, Any]
    orders: dict[NodeId, bytes]
    give_up: Instant
    again: Instant
    problems: list[str] = field(default_factory=list)


class Traffic:
    """One node's drain state and live metrics.

    ``lsdb`` is a live view; ``speaks`` (a protocol) and ``is_admin`` are asked about members.
    """

    def __init__(
        self,
        me: NodeId,
        stored: bytes | None,
        lsdb: Mapping[NodeId, Lsa],
        speaks: Callable[[NodeId], int],
        is_admin: Callable[[NodeId], bool],
    ) -> None:
        self._me = me
        self._lsdb = lsdb
        self._speaks = speaks
        self._is_admin = is_admin
        self._waiting: dict[int, _Waiting] = {}
        self._orders = 0
        kept = _kept(stored)
        self.draining = kept.draining
        self.metrics: dict[NodeId, int] = dict(kept.metrics)

    def handle(self, event: TrafficEvent, now: Instant) -> list[TrafficAction]:
        """The core's door."""
        match event:
            case Began():
                return [DrainSet(self.draining), MetricsSet(dict(self.metrics))]
            case Asked(number, "drain", arguments):
                return self._on_drain(number, bool(arguments.get("on", True)))
            case Asked():
                return self._on_metric(event, now)
            case Heard():
                return self._on_heard(event)
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When to repeat an order, or to give one up."""
        return min((min(w.again, w.give_up) for w in self._waiting.values()), default=None)

    # Here

    def _on_drain(self, number: int, on: bool) -> list[TrafficAction]:
        actions: list[TrafficAction] = []
        if on != self.draining:
            self.draining = on
            actions = [self._persist(), DrainSet(on), Notice("node.draining" if on else "node.undrained", {})]
        return [*actions, Reply(number, {"draining": on})]

    def _set(self, neighbour: NodeId, metric: int, by: NodeId) -> tuple[str, list[TrafficAction]]:
        """What is in the way, or an empty text, and the actions."""
        if metric and neighbour not in self.metrics and len(self.metrics) >= METRICS_MAX:
            return f"has {METRICS_MAX} metrics set already: take one back first", []
        before = dict(self.metrics)
        if metric:
            self.metrics[neighbour] = metric
        else:
            self.metrics.pop(neighbour, None)
        if self.metrics == before:
            return "", []
        facts = {"neighbour": neighbour.hex(), "metric": metric or None, "by": by.hex()}
        return "", [self._persist(), MetricsSet(dict(self.metrics)), Notice("metric.set", facts)]

    def _persist(self) -> Persist:
        return Persist(STORED_KEY, STORED_CODEC.encode(Stored(self.draining, tuple(self.metrics.items()))))

    # Asked here, to be done at both ends

    def _on_metric(self, asked: Asked, now: Instant) -> list[TrafficAction]:
        a, b = (NodeId(bytes.fromhex(str(asked.arguments[end]))) for end in ("a", "b"))
        metric = asked.arguments.get("metric") or 0
        problem = self._refusal(a, b)
        if problem is not None:
            return [Reply(asked.number, error=problem)]
        self._orders += 1
        number = self._orders
        done: list[NodeId] = []
        actions: list[TrafficAction] = []
        orders: dict[NodeId, bytes] = {}
        for end, neighbour in ((a, b), (b, a)):
            if end == self._me:
                refused, actions = self._set(neighbour, metric, self._me)
                if refused:
                    return [Reply(asked.number, error=f"this node {refused}")]
                done.append(end)
            else:
                orders[end] = TRAFFIC_CODEC.encode(MetricOrder(number, neighbour, metric))
        answer = {"ends": [a.hex(), b.hex()], "metric": metric or None, "set_at": [end.hex() for end in done]}
        patience, again = after(now, ORDER_PATIENCE), after(now, ORDER_AGAIN)
        self._waiting[number] = _Waiting(asked.number, answer, orders, patience, again)
        return [*actions, *self._send(self._waiting[number]), *self._finish(number)]

    def _refusal(self, a: NodeId, b: NodeId) -> str | None:
        if len(self._waiting) >= ASKED_MAX:
            return f"{ASKED_MAX} orders wait for other members already: try again later"
        if not any(adjacency.neighbour == b for adjacency in self._adjacencies(a)) or a == b:
            return f"{self._name(a)} and {self._name(b)} are not adjacent: dmssd network global shows the links"
        for end in (a, b):
            if end != self._me and self._speaks(end) <= PROTOCOL_FIRST:
                return (
                    f"{self._name(end)} runs version 0.1.0, which takes no orders: set the metric in its configuration"
                )
        return None

    def _adjacencies(self, node: NodeId) -> tuple[Any, ...]:
        lsa = self._lsdb.get(node)
        return lsa.adjacencies if lsa is not None else ()

    def _send(self, waiting: _Waiting) -> list[TrafficAction]:
        return [SendTraffic(end, payload) for end, payload in waiting.orders.items()]

    def _finish(self, number: int) -> list[TrafficAction]:
        waiting = self._waiting[number]
        if waiting.orders:
            return []
        del self._waiting[number]
        if not waiting.problems:
            return [Reply(waiting.number, waiting.answer)]
        done = ", ".join(self._name(NodeId(bytes.fromhex(end))) for end in waiting.answer["set_at"])
        others = f"; it is set at {done}" if done else ""
        return [Reply(waiting.number, error="; ".join(waiting.problems) + others)]

    # The other end

    def _on_heard(self, heard: Heard) -> list[TrafficAction]:
        source = short(heard.source)
        try:
            message = TRAFFIC_CODEC.decode(heard.payload, source)
        except RemoteProtocolError:
            return [Rejected(source, "traffic message cannot be decoded")]
        if isinstance(message, MetricDone):
            return self._on_done(heard.source, message)
        if not self._is_admin(heard.source):
            refused = f"{self._name(self._me)} refused: only members with the admin capability set others' metrics"
            done = SendTraffic(heard.source, TRAFFIC_CODEC.encode(MetricDone(message.number, refused)))
            return [Rejected(source, "order of a member without the admin capability"), done]
        problem, actions = self._set(message.neighbour, message.metric, heard.source)
        said = f"{self._name(self._me)} {problem}" if problem else ""
        return [*actions, SendTraffic(heard.source, TRAFFIC_CODEC.encode(MetricDone(message.number, said)))]

    def _on_done(self, source: NodeId, done: MetricDone) -> list[TrafficAction]:
        waiting = self._waiting.get(done.number)
        if waiting is None or waiting.orders.pop(source, None) is None:
            return []  # an answer to a repetition
        if done.problem:
            waiting.problems.append(done.problem)
        else:
            waiting.answer["set_at"].append(source.hex())
        return self._finish(done.number)

    def _on_wake(self, now: Instant) -> list[TrafficAction]:
        actions: list[TrafficAction] = []
        for number, waiting in list(self._waiting.items()):
            if now >= waiting.give_up:
                silent = ", ".join(map(self._name, waiting.orders))
                waiting.problems.append(f"{silent} did not answer: see dmssd member list, and say it again")
                waiting.orders.clear()
                actions += self._finish(number)
            elif now >= waiting.again:
                waiting.again = after(now, ORDER_AGAIN)
                actions += self._send(waiting)
        return actions

    def _name(self, node: NodeId) -> str:
        lsa = self._lsdb.get(node)
        return lsa.name if lsa is not None and lsa.name else short(node)


def _kept(stored: bytes | None) -> Stored:
    if stored is None:
        return Stored()
    try:
        return STORED_CODEC.decode(stored, STORED_KEY)
    except RemoteProtocolError:
        # Damaged: the configuration counts again, which people can see.
        return Stored()
