"""Runs a node on asyncio: hands it events, performs its actions, keeps its one deadline.

Theory of operation. Everything happens in one thread and one step at a time: an event goes in, its actions are
performed in list order, what those answer (``FibProgrammed``) goes in next, and only then the next event. Writing
``Persist`` and ``ProgramFib`` at once, not in a task, makes them the barriers that they are meant to be; both are
off the hot path.

A ``Wake`` is handed in only after every socket has been emptied. A daemon that was stopped for a second finds the
echo replies of that second waiting, and must not take its own stall for its neighbours' loss (DESIGN 7).

The forwarding table is read back at the moment when the reading is handed in, never before: a reading older than a
batch already performed would undo what the node knows.

An exception from ``handle`` is a bug, and fatal: the process ends with status 1, forwarding stays, and the service
manager starts it afresh. SIGTERM and SIGINT end it cleanly; routes stay in either case (fail static).
"""

import asyncio
import contextlib
import logging
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from dmssd.counts import Histogram
from dmssd.driver import clock
from dmssd.driver.systemd import Notifier
from dmssd.events import (
    FibProgrammed,
    FibRead,
    Halt,
    NodeAction,
    NodeEvent,
    Notice,
    PinNeighbour,
    ProgramFib,
    Reply,
    Request,
    SendDatagram,
    SendEcho,
    SetAddresses,
    Stopping,
)
from routing.fib import FibOperation, Installed
from sansio.core import Persist, Rejected, Wake
from sansio.errors import DmssdError, RequestError
from sansio.instant import MILLISECOND, SECOND, Instant, after

REQUESTS_MAX = 256
"""Admin requests in flight; one more is refused."""

DRAIN_ROUNDS_MAX = 32
"""Rounds over all sockets before a ``Wake``: bounds the delay that a flood can cause."""

LAG_BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
"""How late the loop came to its timer is counted within these, in seconds."""

# A core that asks for a Wake in the past again and again must not take the processor.
_WAKE_GAP_MIN = MILLISECOND
_log = logging.getLogger("dmssd")


class Runnable(Protocol):
    """A node, or the secured node around it."""

    def handle(self, event: NodeEvent, now: Instant) -> Sequence[NodeAction]:
        """React to one event."""

    def deadline(self) -> Instant | None:
        """When it next wants a ``Wake``."""


@dataclass(frozen=True, slots=True)
class FibSuspect:
    """The forwarding table may have changed behind our back: read it when this event's turn comes."""


class Source(Protocol):
    """Something that the event loop waits for."""

    def fileno(self) -> int:
        """The descriptor that becomes readable."""

    def receive(self) -> tuple[Sequence[NodeEvent | FibSuspect], bool]:
        """Some of what has arrived, bounded, and whether more may be waiting. Never blocks."""


class Devices(Protocol):
    """What a node's actions are performed on."""

    def sources(self) -> Sequence[Source]:
        """Where events come from, in the order in which they are emptied."""

    def start(self) -> Sequence[NodeEvent | FibSuspect]:
        """The first events: how things stand."""

    def send(self, action: SendDatagram) -> None:
        """Send a datagram; it may be lost."""

    def echo(self, action: SendEcho) -> None:
        """Send an echo request; it may be lost."""

    def pin(self, action: PinNeighbour) -> None:
        """Confirm a neighbour entry."""

    def set_addresses(self, action: SetAddresses) -> None:
        """Have these addresses of the node's own and no others that an earlier one set."""

    def program(self, operations: Sequence[FibOperation]) -> tuple[tuple[int, int], ...]:
        """Perform forwarding table operations; (position, errno) of those refused."""

    def read_fib(self) -> Installed:
        """What the forwarding table holds of ours."""

    def persist(self, key: str, value: bytes) -> None:
        """Have a value on disk before returning."""


class Runner:
    """Runs one node until it halts, a signal comes or :meth:`stop` is called."""

    def __init__(
        self,
        node: Runnable,
        devices: Devices,
        *,
        on_notice: Callable[[Notice], None],
        on_rejected: Callable[[Rejected], None],
        record: Callable[[NodeEvent, Instant], None] | None = None,
        notifier: Notifier | None = None,
        now: Callable[[], Instant] = clock.now,
    ) -> None:
        self._node = node
        self._devices = devices
        self._on_notice = on_notice
        self._on_rejected = on_rejected
        self._record = record
        self._notifier = notifier or Notifier({}, 0)
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant | None = None
        self.lag = Histogram(LAG_BOUNDS_S)
        self._wake_from = Instant(0)
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._stopped: asyncio.Event = asyncio.Event()
        self._failure: Exception | None = None
        self._halted = False

    async def run(self) -> int:
        """Run the node; the exit status of the process: 0 after a clean stop, 1 after a failure (already logged)."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            undo.callback(self._abandon_requests)
            undo.callback(self._disarm)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
                undo.callback(loop.remove_signal_handler, number)
            for source in self._devices.sources():
                loop.add_reader(source.fileno(), self._guarded, self._take, source)
                undo.callback(loop.remove_reader, source.fileno())
            self._guarded(self._start)
            watchdog = asyncio.ensure_future(self._feed_watchdog())
            undo.callback(watchdog.cancel)
            await self._stopped.wait()
            self._notifier.stopping()
            self._have_saved()
        return self._exit_status()

    def stop(self) -> None:
        """End :meth:`run`; routes stay."""
        self._stopped.set()

    async def request(self, verb: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Have the node carry out an admin request; its answer, or ``RequestError``.

        Waits as long as the node takes; cancelling the wait does not undo the request.
        """
        if self._stopped.is_set():
            raise RequestError("the daemon is stopping: try again once it runs")
        if len(self._requests) >= REQUESTS_MAX:
            raise RequestError(f"{REQUESTS_MAX} requests are in progress already: try again later")
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        try:
            self._guarded(self._deliver, Request(number, verb, dict(arguments or {})))
            return await answer
        finally:
            self._requests.pop(number, None)

    def enter(self, events: Sequence[NodeEvent | FibSuspect]) -> None:
        """Hand in events that come from no socket: other settings, links chosen anew."""
        for event in events:
            self._guarded(self._deliver, event)

    # Events in

    def _start(self) -> None:
        for event in self._devices.start():
            self._deliver(event)
        self._arm()
        self._notifier.ready()

    def _take(self, source: Source) -> bool:
        events, more = source.receive()
        for event in events:
            self._deliver(event)
        return more

    def _wake(self) -> None:
        if self._timer_at is not None:
            self.lag.observe(max(0, self._now() - self._timer_at) / SECOND)
        self._timer = self._timer_at = None
        for _ in range(DRAIN_ROUNDS_MAX):
            more = [self._take(source) for source in self._devices.sources()]
            if not any(more):
                break
        deadline = self._node.deadline()
        now = self._now()
        if deadline is not None and deadline <= now:
            self._deliver(Wake())
            self._wake_from = after(now, _WAKE_GAP_MIN)

    def _deliver(self, event: NodeEvent | FibSuspect) -> None:
        pending: deque[NodeEvent | FibSuspect] = deque([event])
        while pending:
            current = pending.popleft()
            if isinstance(current, FibSuspect):
                current = FibRead(self._devices.read_fib())
            now = self._now()
            if self._record is not None:
                self._record(current, now)
            answers: list[NodeEvent | FibSuspect] = []
            for action in self._node.handle(current, now):
                answers += self._perform(action)
            pending.extendleft(reversed(answers))

    # Actions out

    def _perform(self, action: NodeAction) -> Sequence[NodeEvent | FibSuspect]:
        match action:
            case SendDatagram():
                self._devices.send(action)
            case SendEcho():
                self._devices.echo(action)
            case PinNeighbour():
                self._devices.pin(action)
            case SetAddresses():
                self._devices.set_addresses(action)
                # The kernel takes routes along that started from an address which has gone.
                return (FibSuspect(),)
            case ProgramFib():
                return self._program(action)
            case Persist():
                self._devices.persist(action.key, action.value)
            case Reply():
                self._answer(action)
            case Notice():
                self._on_notice(action)
            case Rejected():
                self._on_rejected(action)
            case Halt():
                self._halted = True
                self.stop()
            case _:
                assert_never(action)
        return ()

    def _program(self, action: ProgramFib) -> Sequence[NodeEvent | FibSuspect]:
        failures = self._devices.program(action.operations)
        programmed = FibProgrammed(action.batch, failures)
        return (programmed, FibSuspect()) if failures else (programmed,)

    def _answer(self, reply: Reply) -> None:
        answer = self._requests.get(reply.number)
        if answer is None or answer.done():
            return  # whoever asked has gone
        if reply.error is None:
            answer.set_result(reply.value)
        else:
            answer.set_exception(RequestError(reply.error))

    # The deadline

    def _arm(self) -> None:
        deadline = self._node.deadline()
        if deadline is None or self._stopped.is_set():
            return
        at = max(deadline, self._wake_from)
        # A timer that fires too early looks again, which is cheaper than moving it at every event.
        if self._timer_at is not None and self._timer_at <= at:
            return
        self._disarm()
        loop = asyncio.get_running_loop()
        # Measured from now, because the node's clock need not be the loop's.
        self._timer = loop.call_at(loop.time() + (at - self._now()) / SECOND, self._guarded, self._wake)
        self._timer_at = at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None

    # The outermost loop

    def _guarded(self, step: Callable[..., object], *arguments: object) -> None:
        if self._stopped.is_set():
            return
        try:
            step(*arguments)
            self._arm()
        except Exception as failure:  # noqa: BLE001 - the outermost loop: whatever it is, it ends the process
            self._failure = failure
            self.stop()

    def _have_saved(self) -> None:
        """What the node would have written in a moment; one that halted by itself or failed is not asked."""
        if self._halted or self._failure is not None:
            return
        try:
            self._deliver(Stopping())
        except Exception as failure:  # noqa: BLE001 - as above
            self._failure = failure

    def _exit_status(self) -> int:
        if self._failure is None:
            return 0
        if isinstance(self._failure, DmssdError):
            _log.critical("stopping: %s", self._failure)
        else:
            _log.critical("stopping because of a bug, please report it; forwarding stays", exc_info=self._failure)
        return 1

    def _abandon_requests(self) -> None:
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(RequestError("the daemon stopped before it could answer"))

    async def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_interval
        while interval is not None:
            await asyncio.sleep(interval / SECOND)
            self._notifier.watchdog()
