"""The loop that runs a node, on devices of memory and a node that does as it is told."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dmssd.driver import clock
from dmssd.driver.loop import REQUESTS_MAX, FibSuspect, Runner
from dmssd.driver.systemd import Notifier
from dmssd.events import (
    EchoReplied,
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
    Stopping,
)
from routing.fib import DeleteRoute, FibOperation, Installed
from routing.lsa import LinkNumber, Prefix
from sansio.core import Persist, Rejected, Wake
from sansio.errors import RequestError
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

LINK = LinkNumber(2)
PREFIX = Prefix.parse("10.0.0.0/24")
REPLY = EchoReplied(LINK, "fe80::1", 1)


class Inbox:
    """A source fed by the test, through a real descriptor."""

    def __init__(self, per_turn: int = 2) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self._waiting: list[NodeEvent | FibSuspect] = []
        self._per_turn = per_turn

    def put(self, *events: NodeEvent | FibSuspect) -> None:
        self._waiting += events
        for _ in events:
            self._theirs.send(b"x")

    def fileno(self) -> int:
        return self._ours.fileno()

    def receive(self) -> tuple[Sequence[NodeEvent | FibSuspect], bool]:
        taken, self._waiting = self._waiting[: self._per_turn], self._waiting[self._per_turn :]
        for _ in taken:
            self._ours.recv(1)
        return taken, bool(self._waiting)


class Memory:
    """Devices that write down what is asked of them."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.other = Inbox()
        self.done: list[object] = []
        self.failures: tuple[tuple[int, int], ...] = ()
        self.installed = Installed()

    def sources(self) -> Sequence[Inbox]:
        return (self.inbox, self.other)

    def start(self) -> Sequence[NodeEvent | FibSuspect]:
        return (FibSuspect(),)

    def send(self, action: SendDatagram) -> None:
        self.done.append(action)

    def echo(self, action: SendEcho) -> None:
        self.done.append(action)

    def pin(self, action: PinNeighbour) -> None:
        self.done.append(action)

    def program(self, operations: Sequence[FibOperation]) -> tuple[tuple[int, int], ...]:
        self.done.append(operations)
        self.installed = Installed(routes={PREFIX: len(self.done)})
        return self.failures

    def read_fib(self) -> Installed:
        return self.installed

    def persist(self, key: str, value: bytes) -> None:
        self.done.append((key, value))


class Scripted:
    """Remembers every event; answers by what ``rule`` says."""

    def __init__(self, rule: Callable[[NodeEvent], list[NodeAction]]) -> None:
        self.events: list[NodeEvent] = []
        self.at: Instant | None = None
        self._rule = rule

    def handle(self, event: NodeEvent, now: Instant) -> list[NodeAction]:
        self.events.append(event)
        if isinstance(event, Wake):
            self.at = None
        return self._rule(event)

    def deadline(self) -> Instant | None:
        return self.at


class Bench:
    """A runner with all it needs."""

    def __init__(self, rule: Callable[[NodeEvent], list[NodeAction]] = lambda _: [], **options: Any) -> None:
        self.node = Scripted(rule)
        self.devices = Memory()
        self.told: list[Notice | Rejected] = []
        self.runner = Runner(
            self.node, self.devices, on_notice=self.told.append, on_rejected=self.told.append, **options
        )

    def run(self, *steps: Callable[[], None], wait_s: float = 10) -> int:
        """Run until the node halts; each step is taken once what the one before caused has been done."""

        async def scenario() -> int:
            running = asyncio.ensure_future(self.runner.run())
            for step in steps:
                await asyncio.sleep(0)
                step()
            return await asyncio.wait_for(running, wait_s)

        return asyncio.run(scenario())


def halt_on(kind: type, *actions: NodeAction) -> Callable[[NodeEvent], list[NodeAction]]:
    return lambda event: [*actions, Halt()] if isinstance(event, kind) else []


def test_the_table_that_was_left_is_the_first_event() -> None:
    bench = Bench(halt_on(FibRead))
    bench.devices.installed = Installed(routes={PREFIX: 7})
    assert bench.run() == 0
    assert bench.node.events == [FibRead(Installed(routes={PREFIX: 7}))]


def test_actions_are_performed_in_order_each_on_its_device() -> None:
    actions: list[NodeAction] = [
        SendDatagram(LINK, None, b"x"),
        Persist("key", b"value"),
        SendEcho(LINK, "fe80::1", 5),
        PinNeighbour(LINK, "fe80::1"),
        Notice("kind"),
        Rejected("source", "reason"),
    ]
    bench = Bench(halt_on(EchoReplied, *actions))
    assert bench.run(lambda: bench.devices.inbox.put(REPLY)) == 0
    assert bench.devices.done == [actions[0], ("key", b"value"), actions[2], actions[3]]
    assert bench.told == actions[4:]


def test_a_batch_is_answered_before_the_next_event_comes() -> None:
    second = EchoReplied(LINK, "fe80::1", 2)
    batch = ProgramFib(9, (DeleteRoute(PREFIX),))
    bench = Bench(lambda event: [batch] if event == REPLY else [Halt()] if event == second else [])
    bench.run(lambda: bench.devices.inbox.put(REPLY, second))
    assert bench.node.events[1:] == [REPLY, FibProgrammed(9), second]


def test_a_refused_batch_is_followed_by_a_reading_made_after_it() -> None:
    batch = ProgramFib(9, (DeleteRoute(PREFIX),))
    bench = Bench(lambda event: [batch] if event == REPLY else [Halt()] if event == FibRead(after_batch) else [])
    bench.devices.failures = ((0, 22),)
    after_batch = Installed(routes={PREFIX: 1})
    bench.run(lambda: bench.devices.inbox.put(REPLY))
    assert bench.node.events[1:] == [REPLY, FibProgrammed(9, ((0, 22),)), FibRead(after_batch)]


def test_an_answer_to_an_answer_comes_before_what_else_was_answered() -> None:
    def rule(event: NodeEvent) -> list[NodeAction]:
        match event:
            case EchoReplied():
                return [ProgramFib(1, ())]
            case FibProgrammed(1):
                bench.devices.failures = ()
                return [ProgramFib(2, ())]
            case FibRead() if len(bench.node.events) > 1:
                return [Halt()]
            case _:
                return []

    bench = Bench(rule)
    bench.devices.failures = ((0, 22),)
    bench.run(lambda: bench.devices.inbox.put(REPLY))
    assert [type(event) for event in bench.node.events[2:]] == [FibProgrammed, FibProgrammed, FibRead]


def test_a_suspected_table_is_read_when_its_turn_comes_not_when_it_was_suspected() -> None:
    batch = ProgramFib(9, (DeleteRoute(PREFIX),))
    bench = Bench(lambda event: [batch] if event == REPLY else [Halt()] if event == FibRead(after_batch) else [])
    after_batch = Installed(routes={PREFIX: 1})
    bench.run(lambda: bench.devices.inbox.put(REPLY, FibSuspect()))
    assert bench.node.events[-1] == FibRead(after_batch)


def test_every_socket_is_emptied_before_a_wake() -> None:
    replies = [EchoReplied(LINK, "fe80::1", number) for number in range(20)]

    def rule(event: NodeEvent) -> list[NodeAction]:
        if event == replies[0]:
            bench.node.at = clock.now()  # due at once, while all the other replies are waiting, two to a turn
        return [Halt()] if isinstance(event, Wake) else []

    def stalled() -> None:
        bench.devices.inbox.put(*replies[:10])
        bench.devices.other.put(*replies[10:])

    bench = Bench(rule)
    bench.run(stalled)
    assert bench.node.events[-1] == Wake()
    assert sorted(event.nonce for event in bench.node.events if isinstance(event, EchoReplied)) == list(range(20))


def test_the_deadline_is_kept_and_never_early() -> None:
    woken: list[Instant] = []

    def rule(event: NodeEvent) -> list[NodeAction]:
        if isinstance(event, Wake):
            woken.append(clock.now())
            return [Halt()]
        bench.node.at = due
        return []

    bench = Bench(rule)
    due = after(clock.now(), Duration(30 * MILLISECOND))
    assert bench.run() == 0
    assert woken[0] >= due


def test_a_deadline_that_moves_back_causes_no_early_wake() -> None:
    woken: list[Instant] = []
    due: list[Instant] = []

    def rule(event: NodeEvent) -> list[NodeAction]:
        if isinstance(event, Wake):
            woken.append(clock.now())
            return [Halt()]
        due.append(after(clock.now(), Duration((5 if isinstance(event, FibRead) else 40) * MILLISECOND)))
        bench.node.at = due[-1]
        return []

    bench = Bench(rule)
    assert bench.run(lambda: bench.devices.inbox.put(REPLY)) == 0
    assert len(due) == 2
    assert woken[0] >= due[-1]


def test_a_deadline_that_moves_forward_is_kept_too() -> None:
    def rule(event: NodeEvent) -> list[NodeAction]:
        if isinstance(event, FibRead):
            bench.node.at = after(clock.now(), Duration(3_600_000 * MILLISECOND))
        elif event == REPLY:
            bench.node.at = clock.now()
        return [Halt()] if isinstance(event, Wake) else []

    bench = Bench(rule)
    assert bench.run(lambda: bench.devices.inbox.put(REPLY)) == 0


def test_a_core_that_always_wants_to_be_woken_does_not_take_the_processor() -> None:
    wakes = 0

    def rule(event: NodeEvent) -> list[NodeAction]:
        nonlocal wakes
        wakes += isinstance(event, Wake)
        bench.node.at = Instant(0)
        return [Halt()] if wakes == 20 else []

    bench = Bench(rule)
    started = clock.now()
    bench.run()
    assert clock.now() - started >= 15 * MILLISECOND


def test_a_request_is_answered_by_the_reply_of_its_number() -> None:
    async def scenario() -> tuple[Any, str]:
        running = asyncio.ensure_future(bench.runner.run())
        value = await bench.runner.request("double", {"of": 21})
        with pytest.raises(RequestError) as refusal:
            await bench.runner.request("unknown")
        bench.runner.stop()
        await running
        return value, str(refusal.value)

    def rule(event: NodeEvent) -> list[NodeAction]:
        match event:
            case Request(number, "double", arguments):
                return [Reply(number + 1, "not yours"), Reply(number, 2 * arguments["of"])]
            case Request(number):
                return [Reply(number, error="no such verb: see dmssd --help")]
            case _:
                return []

    bench = Bench(rule)
    assert asyncio.run(scenario()) == (42, "no such verb: see dmssd --help")


def test_requests_are_bounded_and_those_unanswered_at_the_end_are_refused() -> None:
    async def scenario() -> None:
        running = asyncio.ensure_future(bench.runner.run())
        asked = [asyncio.ensure_future(bench.runner.request("wait")) for _ in range(REQUESTS_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="in progress already: try again later"):
            await bench.runner.request("one more")
        bench.runner.stop()
        assert await running == 0
        refused = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(refusal) for refusal in refused} == {"the daemon stopped before it could answer"}
        with pytest.raises(RequestError, match="stopping"):
            await bench.runner.request("too late")

    bench = Bench()
    asyncio.run(scenario())


def test_a_reply_to_somebody_who_has_gone_is_dropped() -> None:
    async def scenario() -> int:
        running = asyncio.ensure_future(bench.runner.run())
        asked = asyncio.ensure_future(bench.runner.request("wait"))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.sleep(0)
        bench.devices.inbox.put(REPLY)
        return await running

    bench = Bench(halt_on(EchoReplied, Reply(1, "late")))
    assert asyncio.run(scenario()) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_touches_no_route(number: signal.Signals) -> None:
    bench = Bench()
    assert bench.run(lambda: os.kill(os.getpid(), number)) == 0
    assert bench.devices.done == []


def test_what_was_to_be_saved_later_is_saved_when_it_is_told_to_stop_and_not_when_it_halts_by_itself() -> None:
    def rule(event: NodeEvent) -> list[NodeAction]:
        return [Persist("key", b"value")] if isinstance(event, Stopping) else [Halt()] if event == REPLY else []

    told = Bench(rule)
    assert told.run(told.runner.stop) == 0
    assert told.devices.done == [("key", b"value")]
    halted = Bench(rule)
    assert halted.run(lambda: halted.devices.inbox.put(REPLY)) == 0
    assert halted.devices.done == []


def test_a_bug_in_the_node_ends_the_process_with_status_one(caplog: pytest.LogCaptureFixture) -> None:
    def rule(event: NodeEvent) -> list[NodeAction]:
        if event == REPLY:
            raise ZeroDivisionError("a bug")
        return []

    bench = Bench(rule)
    assert bench.run(lambda: bench.devices.inbox.put(REPLY, REPLY)) == 1
    assert "ZeroDivisionError: a bug" in caplog.text
    assert bench.node.events.count(REPLY) == 1, "nothing is handed to a broken node"


def test_every_event_is_recorded_before_it_is_handled() -> None:
    recorded: list[NodeEvent] = []

    def rule(event: NodeEvent) -> list[NodeAction]:
        assert recorded[-1] == event
        return [Halt()]

    bench = Bench(rule, record=lambda event, _: recorded.append(event))
    assert bench.run() == 0
    assert recorded == bench.node.events


def test_by_how_much_the_loop_came_late_is_counted() -> None:
    gone_by = [0]

    def rule(event: NodeEvent) -> list[NodeAction]:
        if isinstance(event, FibRead):
            bench.node.at = after(clock.now(), MILLISECOND)
        if event == REPLY:
            gone_by[0] = 3 * SECOND  # somebody had the processor before the timer was due
        return [Halt()] if isinstance(event, Wake) else []

    bench = Bench(rule, now=lambda: Instant(clock.now() + gone_by[0]))
    assert bench.run(lambda: bench.devices.inbox.put(REPLY)) == 0
    assert bench.runner.lag.counts[-1] == 1
    assert sum(bench.runner.lag.counts) == 1
    assert bench.runner.lag.total > 2.9


def test_the_service_manager_hears_of_start_and_stop(tmp_path: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000"}
        bench = Bench(notifier=Notifier(environment, os.getpid()))

        async def scenario() -> None:
            running = asyncio.ensure_future(bench.runner.run())
            await asyncio.to_thread(lambda: [heard.append(manager.recv(100)) for _ in range(2)])
            bench.runner.stop()
            await running

        heard: list[bytes] = []
        asyncio.run(scenario())
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(100))
    assert heard[:2] == [b"READY=1", b"WATCHDOG=1"]
