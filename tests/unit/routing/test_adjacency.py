"""Adjacencies fed by hand, and two of them talking to each other."""

import random
from dataclasses import dataclass, field
from typing import Any, assert_never

import pytest

from routing.adjacency import (
    FAST_HELLOS_MAX,
    HELLO_CODEC,
    NEIGHBOURS_MAX,
    Adjacencies,
    AdjacencyAction,
    AdjacencyConfig,
    AdjacencyEvent,
    Configured,
    EchoReplied,
    Heard,
    Hello,
    HelloReceived,
    Leaving,
    MetricSet,
    NeighbourForgotten,
    Paired,
    PinNeighbour,
    RankSet,
    SendEcho,
    SendHello,
    SessionRestarted,
    Spared,
    Succeeded,
)
from routing.lsa import LinkNumber
from routing.neighbours import (
    SPARED,
    SUCCEEDED,
    LinkDown,
    LinkUp,
    NeighbourDown,
    NeighbourRestarting,
    NeighbourSpeaks,
    NeighbourUp,
)
from sansio.core import Rejected, Wake
from sansio.ids import NodeId, node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

T0 = Instant(100 * SECOND)
ME, PEER, OTHER = (node_id(bytes([number])) for number in range(3))
LINK, REMOTE = LinkNumber(3), LinkNumber(8)
HERE, THERE = "fe80::1", "fe80::2"


def ms(value: float) -> Duration:
    return Duration(round(value * MILLISECOND))


@dataclass
class Bench:
    """One core, whose neighbour is played by the test: kernel and daemon answer while they are told to."""

    config: AdjacencyConfig = field(default_factory=AdjacencyConfig)
    now: Instant = T0
    kernel: bool = True
    daemon: bool = True
    instance: int = 77
    remote: LinkNumber = REMOTE
    log: list[tuple[Instant, AdjacencyAction]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = Adjacencies(ME, random.Random(1), self.config)
        self.heard: Heard | None = None
        self.tell(LinkUp(LINK, "eth0", 10))

    def tell(self, event: AdjacencyEvent) -> list[AdjacencyAction]:
        actions = self.core.handle(event, self.now)
        self.log += [(self.now, action) for action in actions]
        for action in actions:
            self.react(action)
        return actions

    def react(self, action: AdjacencyAction) -> None:
        match action:
            case SendHello(_, _, _, payload):
                hello = HELLO_CODEC.decode(payload, "")
                if self.daemon:
                    self.heard = Heard(ME, hello.link, hello.instance)
            case SendEcho(link, address, nonce):
                if self.kernel:
                    self.tell(EchoReplied(link, address, nonce))
            case _:
                pass

    def hello(self, **changes: object) -> list[AdjacencyAction]:
        fields: dict[str, Any] = {"heard": self.heard} | changes
        hello = Hello(self.instance, self.remote, 10, 333, 100, **fields)
        return self.tell(HelloReceived(PEER, LINK, THERE, HELLO_CODEC.encode(hello)))

    def run(self, duration: Duration) -> None:
        """Time passes; the neighbour says hello every 333 ms."""
        end = after(self.now, duration)
        next_hello = self.now
        while True:
            deadline = self.core.deadline()
            at = min(end, next_hello, deadline if deadline is not None else end)
            self.now = max(self.now, at)
            if self.now >= end:
                return
            if self.now >= next_hello:
                next_hello = after(self.now, ms(333))
                if self.daemon:
                    self.hello()
            self.tell(Wake())

    def up(self) -> "Bench":
        self.tell(Paired(PEER, LINK, THERE))
        self.hello()
        assert self.seen(NeighbourUp)
        self.log.clear()
        return self

    def seen(self, *kinds: type) -> list[AdjacencyAction]:
        return [action for _, action in self.log if isinstance(action, kinds)]

    def verdicts(self) -> list[AdjacencyAction]:
        return self.seen(NeighbourUp, NeighbourDown, NeighbourRestarting, NeighbourForgotten)


UP = NeighbourUp(PEER, LINK, REMOTE, THERE, 10)


def lost(reason: str) -> NeighbourDown:
    return NeighbourDown(PEER, LINK, reason, REMOTE, THERE)


# Coming up


def test_pairing_sends_hello_and_echo_at_once() -> None:
    bench = Bench(kernel=False)
    actions = bench.tell(Paired(PEER, LINK, THERE))
    assert [type(action) for action in actions] == [SendEcho, SendHello]


def test_up_once_heard_both_ways_and_echo_answered() -> None:
    bench = Bench()
    bench.tell(Paired(PEER, LINK, THERE))
    assert bench.verdicts() == []
    bench.hello()
    assert bench.verdicts() == [UP]


@pytest.mark.parametrize(
    "heard",
    [None, Heard(OTHER, LINK, 0), Heard(ME, LinkNumber(99), 0), Heard(ME, LINK, 1)],
    ids=["nobody", "another node", "another link", "an earlier instance of us"],
)
def test_not_up_while_the_neighbour_does_not_hear_this_instance_of_us_on_this_link(heard: Heard | None) -> None:
    bench = Bench()
    bench.tell(Paired(PEER, LINK, THERE))
    if heard is not None and heard.instance == 0:  # in these cases only the other field is wrong
        assert bench.heard is not None
        heard = Heard(heard.node, heard.link, bench.heard.instance)
    for _ in range(20):
        bench.hello(heard=heard)
    assert bench.verdicts() == []


def test_not_up_while_no_echo_is_answered() -> None:
    bench = Bench(kernel=False)
    bench.tell(Paired(PEER, LINK, THERE))
    bench.run(ms(5000))
    assert bench.verdicts() == []
    bench.kernel = True
    bench.run(ms(120))
    assert bench.verdicts() == [UP]


def test_a_hello_that_changes_what_we_heard_is_answered_at_once() -> None:
    bench = Bench()
    bench.tell(Paired(PEER, LINK, THERE))
    [answer] = [action for action in bench.hello(heard=None) if isinstance(action, SendHello)]
    assert HELLO_CODEC.decode(answer.payload, "").heard == Heard(PEER, REMOTE, 77)
    again = [action for action in bench.hello(heard=None) if isinstance(action, SendHello)]
    assert again == [], "nothing new: the timer does"


def test_hellos_are_fast_while_coming_up_but_not_for_ever() -> None:
    bench = Bench(kernel=False, daemon=False)
    bench.tell(Paired(PEER, LINK, THERE))
    bench.run(ms(1000))
    assert 18 <= len(bench.seen(SendHello)) <= 23
    bench.run(ms(9000))
    assert len(bench.seen(SendHello)) <= FAST_HELLOS_MAX + 7000 // 290


def test_two_cores_bring_each_other_up_within_two_hello_exchanges() -> None:
    pair = Pair(random.Random(1), loss=0.0)
    pair.start()
    pair.run(ms(10))
    assert pair.ups == {ME: 1, PEER: 1}


@pytest.mark.parametrize("seed", range(10))
def test_two_cores_bring_each_other_up_under_loss(seed: int) -> None:
    pair = Pair(random.Random(seed), loss=0.3)
    pair.start()
    pair.run(ms(1500))
    assert set(pair.ups) == {ME, PEER}


def test_a_hello_from_a_session_pairs_by_itself() -> None:
    bench = Bench()
    bench.hello(heard=None)
    bench.hello()
    assert bench.verdicts() == [UP]


# Echo


@pytest.mark.parametrize("phase", [1, 37, 73, 99])
def test_echo_lost_takes_the_neighbour_down_after_three_unanswered_echoes(phase: int) -> None:
    bench = Bench().up()
    bench.run(ms(5000 + phase))
    bench.kernel = False
    cut = bench.now
    bench.log.clear()
    bench.run(ms(600))
    assert bench.verdicts() == [lost("echo lost")]
    [at] = [at for at, action in bench.log if isinstance(action, NeighbourDown)]
    assert ms(215) <= at - cut <= ms(375)
    assert len([at_echo for at_echo, action in bench.log if isinstance(action, SendEcho) and at_echo < at]) == 3


def test_two_lost_echoes_do_not_take_the_neighbour_down() -> None:
    bench = Bench().up()
    bench.run(ms(1000))
    for _ in range(20):
        bench.log.clear()
        bench.kernel = False
        while len(bench.seen(SendEcho)) < 2:
            bench.run(ms(1))
        bench.kernel = True
        bench.run(ms(130))
        assert bench.verdicts() == []


def test_hello_alone_does_not_bring_back_what_the_echo_lost() -> None:
    bench = Bench().up()
    bench.kernel = False
    bench.run(ms(5000))
    assert bench.verdicts() == [lost("echo lost")]


def test_a_healed_neighbour_is_back_within_two_intervals() -> None:
    bench = Bench().up()
    bench.kernel = bench.daemon = False
    bench.run(ms(20_000))
    bench.kernel = bench.daemon = True
    bench.log.clear()
    bench.run(ms(500))
    assert bench.verdicts() == [UP]


def test_a_verdict_delayed_by_our_own_stall_is_put_off_for_one_more_echo() -> None:
    bench = Bench().up()
    bench.run(ms(1000))
    bench.kernel = False
    bench.log.clear()
    while len(bench.seen(SendEcho)) < 3:
        bench.run(ms(1))
    bench.now = after(bench.now, ms(400))
    bench.tell(Wake())
    assert bench.verdicts() == []
    bench.run(ms(60))
    assert bench.verdicts() == [lost("echo lost")], "once only"


def test_a_long_stall_sends_one_echo_and_not_a_burst() -> None:
    bench = Bench().up()
    bench.run(ms(1000))
    bench.log.clear()
    bench.now = after(bench.now, ms(30_000))
    bench.tell(Wake())
    assert len(bench.seen(SendEcho)) == 1
    assert bench.verdicts() == []


def test_an_answer_to_no_echo_is_rejected() -> None:
    bench = Bench().up()
    [rejected] = bench.tell(EchoReplied(LINK, THERE, 12345))
    assert isinstance(rejected, Rejected)
    [rejected] = bench.tell(EchoReplied(LINK, "fe80::99", 12345))
    assert isinstance(rejected, Rejected)


def test_an_answer_counts_once() -> None:
    bench = Bench(kernel=False)
    bench.tell(Paired(PEER, LINK, THERE))
    [echo] = bench.seen(SendEcho)
    assert isinstance(echo, SendEcho)
    bench.tell(EchoReplied(LINK, THERE, echo.nonce))
    [rejected] = bench.tell(EchoReplied(LINK, THERE, echo.nonce))
    assert isinstance(rejected, Rejected)


# Hello


def test_hello_lost_with_echo_alive_is_restarting_and_kept_until_the_lease_ends() -> None:
    bench = Bench().up()
    bench.run(ms(2000))
    bench.daemon = False
    bench.log.clear()
    bench.run(ms(1500))
    assert bench.verdicts() == [NeighbourRestarting(PEER, LINK)]
    bench.log.clear()
    bench.run(ms(57_000))
    assert bench.verdicts() == []
    bench.run(ms(2000))
    assert bench.verdicts() == [lost("hello lease ended"), NeighbourForgotten(PEER, LINK, THERE)]


def test_a_kernel_that_still_answers_does_not_bring_a_dead_daemon_back() -> None:
    bench = Bench().up()
    bench.daemon = False
    bench.run(ms(62_000))
    bench.log.clear()
    bench.run(ms(30_000))
    assert bench.log == []


def test_a_neighbour_that_returns_within_its_lease_is_told_up_again_and_never_down() -> None:
    bench = Bench().up()
    bench.daemon = False
    bench.run(ms(10_000))
    bench.daemon = True
    bench.run(ms(1000))
    assert bench.verdicts() == [NeighbourRestarting(PEER, LINK), UP]


def test_another_instance_proves_both_ways_anew_and_stays_up_meanwhile() -> None:
    bench = Bench().up()
    bench.instance = 78
    bench.hello(heard=None)
    assert bench.verdicts() == [NeighbourRestarting(PEER, LINK)]
    bench.hello()
    assert bench.verdicts() == [NeighbourRestarting(PEER, LINK), UP]


def test_another_instance_that_never_hears_us_is_down_when_the_lease_ends() -> None:
    bench = Bench().up()
    bench.daemon = False
    bench.instance = 78
    for _ in range(200):
        bench.hello(heard=None)
        bench.run(ms(333))
    assert bench.verdicts()[:2] == [NeighbourRestarting(PEER, LINK), lost("hello lease ended")]


def test_a_restarted_session_is_greeted_at_once_and_kept() -> None:
    bench = Bench().up()
    actions = bench.tell(SessionRestarted(PEER))
    assert [type(action) for action in actions] == [NeighbourRestarting, SendHello]
    assert bench.tell(SessionRestarted(OTHER)) == []


def test_another_link_number_is_another_adjacency() -> None:
    bench = Bench().up()
    bench.remote = LinkNumber(9)
    bench.instance = 78
    bench.hello()
    assert bench.verdicts() == [
        NeighbourRestarting(PEER, LINK),
        lost("link number changed"),
        NeighbourUp(PEER, LINK, LinkNumber(9), THERE, 10),
    ]


def test_goodbye_takes_down_at_once_and_a_late_hello_does_not_revive() -> None:
    bench = Bench().up()
    bench.hello(goodbye=True)
    assert bench.verdicts() == [lost("said goodbye"), NeighbourForgotten(PEER, LINK, THERE)]
    [rejected] = bench.hello()
    assert isinstance(rejected, Rejected)
    bench.instance = 79
    bench.hello()
    bench.hello()
    assert bench.verdicts()[-1] == UP, "the next start of its daemon is welcome"


def test_leaving_says_goodbye_to_everybody_and_falls_silent() -> None:
    bench = Bench().up()
    [goodbye] = bench.tell(Leaving())
    assert isinstance(goodbye, SendHello)
    assert HELLO_CODEC.decode(goodbye.payload, "").goodbye
    assert bench.core.deadline() is None
    assert bench.hello() == []


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xc1" * 40, b"\x90", b"x" * 5000])
def test_a_hello_that_is_none_is_rejected(payload: bytes) -> None:
    bench = Bench().up()
    [rejected] = bench.tell(HelloReceived(PEER, LINK, THERE, payload))
    assert isinstance(rejected, Rejected)


def test_a_kernel_that_recovers_alone_does_not_bring_the_adjacency_back_on_old_hellos() -> None:
    bench = Bench().up()
    bench.kernel = bench.daemon = False
    bench.run(ms(2000))
    bench.kernel = True
    bench.run(ms(5000))
    assert bench.verdicts() == [lost("echo lost")]
    [latest] = [action for action in bench.seen(SendHello)[-1:] if isinstance(action, SendHello)]
    assert HELLO_CODEC.decode(latest.payload, "").heard is None, "the neighbour must prove it too"


def test_the_first_answer_after_a_loss_is_followed_by_a_hello_at_once() -> None:
    bench = Bench().up()
    bench.kernel = bench.daemon = False
    bench.run(ms(20_000))
    [echo] = [action for action in bench.seen(SendEcho)[-1:] if isinstance(action, SendEcho)]
    actions = bench.tell(EchoReplied(LINK, THERE, echo.nonce))
    assert [type(action) for action in actions] == [SendHello]


def test_a_neighbour_that_still_seeks_is_answered_soon_though_we_have_it_up() -> None:
    bench = Bench().up()
    bench.run(ms(1000))
    bench.hello()
    for _ in range(5):
        bench.log.clear()
        bench.hello(seeking=True)
        bench.now = after(bench.now, ms(50))
        bench.tell(Wake())
        assert len(bench.seen(SendHello)) == 1


# Links, metrics, bounds


def test_link_down_takes_its_neighbours_down_at_once() -> None:
    bench = Bench().up()
    actions = bench.tell(LinkDown(LINK))
    assert actions == [lost("link down"), NeighbourForgotten(PEER, LINK, THERE)]
    assert bench.core.deadline() is None
    [rejected] = bench.tell(Paired(PEER, LINK, THERE))
    assert isinstance(rejected, Rejected)


def test_another_metric_is_told_of_every_adjacency_on_the_link() -> None:
    bench = Bench().up()
    assert bench.tell(MetricSet(LINK, 30)) == [NeighbourUp(PEER, LINK, REMOTE, THERE, 30)]
    assert bench.tell(LinkUp(LINK, "eth0", 30)) == []


def test_parallel_links_are_adjacencies_of_their_own() -> None:
    bench = Bench().up()
    second = LinkNumber(4)
    bench.tell(LinkUp(second, "eth1", 20))
    bench.tell(Paired(PEER, second, "fe80::22"))
    assert bench.heard is not None
    hello = Hello(77, LinkNumber(9), 10, 333, 100, Heard(ME, second, bench.heard.instance))
    bench.tell(HelloReceived(PEER, second, "fe80::22", HELLO_CODEC.encode(hello)))
    assert bench.verdicts() == [NeighbourUp(PEER, second, LinkNumber(9), "fe80::22", 20)]
    bench.log.clear()
    bench.tell(LinkDown(second))
    assert [action for action in bench.verdicts() if isinstance(action, NeighbourDown)] == [
        NeighbourDown(PEER, second, "link down", LinkNumber(9), "fe80::22")
    ]
    assert bench.core.path(PEER) == (LINK, THERE)


def test_an_address_taken_over_by_another_node_ends_the_first_adjacency() -> None:
    bench = Bench().up()
    actions = bench.tell(Paired(OTHER, LINK, THERE))
    assert actions[0] == lost("address taken over by another node")
    assert [view.node for view in bench.core.neighbours()] == [OTHER]


def test_neighbours_beyond_the_maximum_displace_the_idle_and_never_the_living() -> None:
    bench = Bench().up()
    bench.kernel = False
    for number in range(NEIGHBOURS_MAX + 5):
        bench.tell(Paired(NodeId(number.to_bytes(20, "big")), LINK, f"fe80::1:{number:x}"))
    views = bench.core.neighbours()
    assert len(views) == NEIGHBOURS_MAX
    assert [view.node for view in views if view.state == "up"] == [PEER]


def test_when_all_neighbours_are_up_a_further_one_finds_no_room() -> None:
    bench = Bench()
    for number in range(NEIGHBOURS_MAX + 1):
        node, there = NodeId(number.to_bytes(20, "big")), f"fe80::1:{number:x}"
        bench.tell(Paired(node, LINK, there))
        hello = Hello(bench.instance, REMOTE, 10, 333, 100, heard=bench.heard)
        bench.tell(HelloReceived(node, LINK, there, HELLO_CODEC.encode(hello)))
    assert len(bench.seen(NeighbourUp)) == NEIGHBOURS_MAX
    assert len(bench.core.neighbours()) == NEIGHBOURS_MAX


def test_the_neighbour_entry_is_refreshed_on_hellos_but_at_most_every_five_seconds() -> None:
    bench = Bench().up()
    bench.run(ms(20_000))
    assert 3 <= len(bench.seen(PinNeighbour)) <= 4


def test_neighbours_are_asked_on_one_beat() -> None:
    # Each wake-up of an idle daemon costs more than what it then does.
    bench = Bench().up()
    bench.run(ms(37))
    bench.tell(Paired(OTHER, LINK, "fe80::3"))
    bench.run(ms(500))
    bench.log.clear()
    bench.run(ms(2_000))
    asked = {HERE: set(), THERE: set(), "fe80::3": set()}
    for at, action in bench.log:
        if isinstance(action, SendEcho):
            asked[action.address].add(at)
    assert asked[THERE] == asked["fe80::3"]
    assert 17 <= len(asked[THERE]) <= 23


def test_a_hello_goes_out_with_an_echo() -> None:
    bench = Bench().up()
    bench.run(ms(1_000))
    bench.log.clear()
    bench.run(ms(5_000))
    echoes = {at for at, action in bench.log if isinstance(action, SendEcho)}
    hellos = [at for at, action in bench.log if isinstance(action, SendHello)]
    assert 12 <= len(hellos) <= 20
    assert echoes.issuperset(hellos)


def test_a_hello_tells_no_rank_and_no_mtu_unless_they_are_known() -> None:
    bench = Bench().up()
    bench.run(ms(400))
    said = [HELLO_CODEC.decode(action.payload, "") for action in bench.seen(SendHello)]
    assert {(hello.rank, hello.mtu) for hello in said} == {(0, 0)}
    assert {hello.echo_interval_ms for hello in said} == {bench.config.echo_interval // MILLISECOND}


def test_a_view_tells_state_and_round_trip() -> None:
    bench = Bench().up()
    [view] = bench.core.neighbours()
    assert (view.node, view.state, view.metric, view.remote_link, view.rtt_ns) == (PEER, "up", 10, REMOTE, 0)


def test_the_round_trip_is_smoothed_towards_what_is_measured_and_not_beyond() -> None:
    bench = Bench().up()
    bench.kernel = False
    seen = []
    for _ in range(60):
        bench.now = max(bench.now, bench.core.deadline())
        bench.hello()
        for echo in [action for action in bench.tell(Wake()) if isinstance(action, SendEcho)]:
            bench.now = after(bench.now, ms(8))
            bench.tell(EchoReplied(LINK, THERE, echo.nonce))
            seen.append(bench.core.neighbours()[0].rtt_ns)
    assert seen[0] == ms(1)
    assert seen == sorted(seen)
    assert ms(7) < seen[-1] <= ms(8)


@dataclass
class Pair:
    """Two cores on one wire with a millisecond of delay and some loss, both kernels alive."""

    rng: random.Random
    loss: float

    def __post_init__(self) -> None:
        self.now = T0
        self.cores = {who: Adjacencies(who, random.Random(self.rng.random())) for who in (ME, PEER)}
        self.wire: list[tuple[Instant, int, NodeId, AdjacencyEvent]] = []
        self.ups: dict[NodeId, int] = {}
        self.count = 0

    def start(self) -> None:
        for who in self.cores:
            self.tell(who, LinkUp(LINK, "eth0", 10))
            other, address = self.far(who)
            self.tell(who, Paired(other, LINK, address))

    def far(self, who: NodeId) -> tuple[NodeId, str]:
        return (PEER, THERE) if who == ME else (ME, HERE)

    def tell(self, who: NodeId, event: AdjacencyEvent) -> None:
        other, address = self.far(who)
        mine = HERE if who == ME else THERE
        for action in self.cores[who].handle(event, self.now):
            match action:
                case SendHello(_, _, _, payload):
                    self.post(other, HelloReceived(who, LINK, mine, payload), ms(1))
                case SendEcho(_, _, nonce):
                    self.post(who, EchoReplied(LINK, address, nonce), ms(2))
                case NeighbourUp():
                    self.ups[who] = self.ups.get(who, 0) + 1
                case PinNeighbour() | NeighbourDown() | NeighbourRestarting() | NeighbourForgotten() | Rejected():
                    pass
                case _:
                    assert_never(action)

    def post(self, who: NodeId, event: AdjacencyEvent, delay: Duration) -> None:
        self.count += 1
        if self.rng.random() >= self.loss:
            self.wire.append((after(self.now, delay), self.count, who, event))

    def run(self, duration: Duration) -> None:
        end = after(self.now, duration)
        while self.now < end:
            self.now = after(self.now, ms(1))
            due = sorted([item for item in self.wire if item[0] <= self.now], key=lambda item: item[:2])
            self.wire = [item for item in self.wire if item[0] > self.now]
            for _, _, who, event in due:
                self.tell(who, event)
            for who in self.cores:
                self.tell(who, Wake())


# Other settings


def test_faster_echoes_are_in_force_at_once_and_nothing_flaps() -> None:
    bench = Bench(AdjacencyConfig(echo_interval=Duration(5 * SECOND))).up()
    bench.tell(Configured(AdjacencyConfig(echo_interval=ms(50))))
    bench.run(ms(1000))
    assert bench.verdicts() == []
    assert len(bench.seen(SendEcho)) >= 15
    bench.kernel = False
    bench.run(ms(400))
    assert bench.seen(NeighbourDown) == [lost("echo lost")]


def test_the_neighbour_is_told_the_new_pace_at_once() -> None:
    bench = Bench().up()
    actions = bench.tell(Configured(AdjacencyConfig(hello_interval=Duration(10 * SECOND))))
    (told,) = [HELLO_CODEC.decode(action.payload, "") for action in actions if isinstance(action, SendHello)]
    assert told.hello_interval_ms == 10_000


def test_a_lease_that_is_shortened_ends_sooner_for_who_is_restarting_already() -> None:
    bench = Bench().up()
    bench.daemon = False
    bench.run(Duration(5 * SECOND))
    assert bench.seen(NeighbourRestarting)
    bench.tell(Configured(AdjacencyConfig(hello_lease=Duration(10 * SECOND))))
    bench.run(Duration(6 * SECOND))
    assert bench.seen(NeighbourDown) == [lost("hello lease ended")]


def test_the_same_settings_again_do_nothing() -> None:
    bench = Bench().up()
    assert bench.tell(Configured(AdjacencyConfig())) == []


# Segments


def test_a_spared_neighbour_is_let_go_without_a_word_and_without_being_forgotten() -> None:
    bench = Bench().up()
    actions = bench.tell(Spared(LINK, frozenset({PEER})))
    assert [action.reason for action in actions if isinstance(action, NeighbourDown)] == [SPARED]
    assert len(actions) == 1
    assert bench.core.neighbours() == []
    bench.log.clear()
    bench.run(Duration(2 * SECOND))
    assert not bench.seen(SendHello)
    assert not bench.seen(SendEcho)


def test_whoever_is_spared_is_paired_by_no_greeting_and_no_hello_unless_it_speaks() -> None:
    bench = Bench()
    bench.tell(Spared(LINK, frozenset({PEER})))
    assert bench.tell(Paired(PEER, LINK, THERE)) == []
    assert bench.hello() == []
    assert any(isinstance(action, NeighbourSpeaks) for action in bench.hello(rank=2))
    bench.hello(rank=2)
    assert bench.seen(NeighbourUp)


def test_nobody_is_spared_while_we_speak_and_everyone_paired_hears_at_once_that_we_do() -> None:
    bench = Bench().up()
    (said,) = [action for action in bench.tell(RankSet(LINK, 5)) if isinstance(action, SendHello)]
    assert HELLO_CODEC.decode(said.payload, "").rank == 5
    bench.tell(Spared(LINK, frozenset({PEER})))
    assert bench.core.neighbours()[0].state == "up"


def test_another_rank_is_told_once_and_again_after_the_neighbour_was_lost() -> None:
    bench = Bench().up()
    assert NeighbourSpeaks(PEER, LINK, 4) in bench.hello(rank=4)
    assert not [action for action in bench.hello(rank=4) if isinstance(action, NeighbourSpeaks)]
    bench.kernel = False
    bench.run(Duration(SECOND))
    bench.kernel = True
    bench.log.clear()
    bench.hello(rank=4)
    assert bench.seen(NeighbourSpeaks)


def test_hellos_carry_the_links_mtu_and_the_neighbours_is_shown() -> None:
    bench = Bench().up()
    assert bench.core.neighbours()[0].mtu == 0
    bench.hello(mtu=9000)
    assert bench.core.neighbours()[0].mtu == 9000
    bench.tell(LinkUp(LINK, "eth0", 10, mtu=1400))
    (said,) = [action for action in bench.tell(RankSet(LINK, 0)) if isinstance(action, SendHello)]
    assert HELLO_CODEC.decode(said.payload, "").mtu == 1400


def test_over_a_radio_neighbours_are_asked_and_missed_at_its_own_pace() -> None:
    bench = Bench()
    bench.tell(LinkUp(LINK, "wlan0", 10, medium="radio"))
    bench.up()
    bench.run(Duration(10 * SECOND))
    asked = sum(isinstance(action, SendEcho) for _, action in bench.log)
    assert 8 <= asked <= 13
    bench.kernel = False
    bench.log.clear()
    bench.run(Duration(1500 * MILLISECOND))
    assert not bench.seen(NeighbourDown)
    bench.run(Duration(3 * SECOND))
    assert bench.seen(NeighbourDown)


# One machine under another key

HEIR = NodeId(b"H" * 20)


def test_a_machine_under_another_key_takes_its_place_up_first_and_proves_itself_anew() -> None:
    bench = Bench().up()
    bench.tell(Succeeded(PEER, HEIR))
    assert bench.verdicts() == [
        NeighbourUp(HEIR, LINK, REMOTE, THERE, 10),
        lost(SUCCEEDED),
        NeighbourRestarting(HEIR, LINK),
    ]
    assert bench.core.holder(LINK, THERE) == HEIR
    assert bench.seen(SendHello)[-1].node == HEIR


def test_the_old_name_takes_no_place_back() -> None:
    bench = Bench().up()
    bench.tell(Succeeded(PEER, HEIR))
    bench.tell(Paired(PEER, LINK, THERE))
    bench.hello()
    assert bench.core.holder(LINK, THERE) == HEIR


def test_an_heir_that_never_speaks_is_lost_when_the_lease_ends() -> None:
    bench = Bench(config=AdjacencyConfig(hello_lease=Duration(5 * SECOND))).up()
    bench.daemon = False
    bench.tell(Succeeded(PEER, HEIR))
    bench.log.clear()
    bench.run(Duration(6 * SECOND))
    assert [action.node for action in bench.seen(NeighbourDown)] == [HEIR]


def test_whoever_was_not_up_changes_its_name_and_is_told_of_nothing() -> None:
    bench = Bench()
    bench.tell(Paired(PEER, LINK, THERE))
    bench.tell(Succeeded(PEER, HEIR))
    assert bench.verdicts() == []
    assert bench.core.holder(LINK, THERE) == HEIR
