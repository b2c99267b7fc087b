import pytest

from dmssd.events import (
    Datagram,
    EchoReplied,
    FibProgrammed,
    FibRead,
    LinkDown,
    LinkUp,
    ProgramFib,
    SendDatagram,
    SettingsChanged,
)
from dmssd.settings import NodeSettings
from dmssd.sim import world as module
from dmssd.sim.clock import SimulationError
from dmssd.sim.network import EchoReply, Quality
from routing.fib import Gateway, SetNexthop
from sansio.core import Wake
from sansio.instant import MILLISECOND, SECOND


def of(machine, kind):
    return [event for event in machine.daemon.heard if isinstance(event, kind)]


def test_a_multicast_reaches_the_other_end_with_the_senders_address(toys):
    world = toys.start(toys.build("line:2"))
    world.run_for(50 * MILLISECOND)
    heard = of(world.machines[1], Datagram)
    assert heard[0] == Datagram(2, world.machines[0].kernel.interfaces[2].address, b"hello")


def test_a_datagram_to_another_address_is_not_delivered(toys):
    world = toys.start(toys.build("line:2"))
    world._perform(world.machines[0], SendDatagram(2, "fe80::dead", b"x"))
    world._perform(world.machines[0], SendDatagram(2, world.machines[1].kernel.interfaces[2].address, b"y"))
    world.run_for(50 * MILLISECOND)
    payloads = {event.payload for event in of(world.machines[1], Datagram)}
    assert b"y" in payloads
    assert b"x" not in payloads


def test_a_hub_floods_multicast_to_all_others_and_carries_the_rest_to_its_address_alone(toys):
    world = toys.start(toys.build("segment:4"))
    world.run_for(50 * MILLISECOND)
    sender, receiver = world.machines[0], world.machines[2]
    for machine in world.machines:
        heard = {event.address for event in of(machine, Datagram)}
        assert heard == {other.kernel.interfaces[2].address for other in world.machines if other is not machine}
        machine.daemon.heard.clear()
    world._perform(sender, SendDatagram(2, receiver.kernel.interfaces[2].address, b"y"))
    world._perform(sender, SendDatagram(2, "fe80::dead", b"x"))
    world.run_for(20 * MILLISECOND)
    got = {machine.number for machine in world.machines for e in of(machine, Datagram) if e.payload in (b"x", b"y")}
    assert got == {2}


def test_a_port_of_a_hub_that_drops_or_is_unplugged_silences_only_its_machine(toys):
    world = toys.start(toys.build("segment:3"))
    addresses = [machine.kernel.interfaces[2].address for machine in world.machines]
    world.drop(world.network.cables[1], 1, 1)
    assert world.network.passes((0, 2), addresses[1]) is None
    assert world.network.passes((1, 2), addresses[0]) == (0, 2)
    assert world.network.passes((0, 2), addresses[0]) is None
    world.unplug(world.network.cables[2])
    world.run_for(10 * MILLISECOND)
    assert world.network.passes((0, 2), addresses[2]) is None
    assert [len(of(machine, LinkDown)) for machine in world.machines] == [0, 0, 1]


def test_the_kernel_answers_echoes_while_the_daemon_is_dead_and_not_without_power(toys):
    world = toys.start(toys.build("line:3"))
    first, dead, _ = world.machines
    world.run_for(SECOND)
    world.stop_daemon(dead)
    first.daemon.heard.clear()
    echo = toys_echo(world, first, dead)
    world.run_for(50 * MILLISECOND)
    assert of(first, EchoReplied) == [EchoReplied(2, echo, 9)]
    world.stop_machine(dead)
    first.daemon.heard.clear()
    toys_echo(world, first, dead)
    world.run_for(50 * MILLISECOND)
    assert of(first, EchoReplied) == []


def toys_echo(world, sender, receiver):
    from dmssd.events import SendEcho

    address = receiver.kernel.interfaces[2].address
    world._perform(sender, SendEcho(2, address, 9))
    return address


def test_the_disk_survives_the_crash_of_daemon_and_machine(toys):
    world = toys.start(toys.build("line:2"))
    machine = world.machines[0]
    world.stop_daemon(machine)
    world.start(machine)
    world.stop_machine(machine)
    world.start(machine)
    assert machine.disk.read() == {"starts": b"3"}


def test_routes_survive_the_daemon_and_are_read_back_but_not_by_a_machine_without_power(toys):
    world = toys.start(toys.build("line:2"))
    toys.program(world)
    machine = world.machines[0]
    routes = machine.kernel.installed()
    assert routes.routes
    world.stop_daemon(machine)
    assert machine.kernel.installed() == routes
    world.stop_machine(machine)
    assert not machine.kernel.installed().routes


def test_a_dead_daemon_hears_nothing_and_its_old_wake_does_not_reach_its_successor(toys):
    world = toys.start(toys.build("line:2"))
    world.run_for(SECOND)
    machine = world.machines[0]
    before = machine.daemon
    woken = len(before.woken)
    world.stop_daemon(machine)
    world.run_for(SECOND)
    assert len(before.woken) == woken
    world.start(machine)
    world.run_for(SECOND)
    assert len(before.woken) == woken
    assert 9 <= len(machine.daemon.woken) <= 11


def test_a_wake_is_never_early(toys):
    world = toys.start(toys.build("line:2"))
    world.run_for(5 * SECOND)
    gaps = [b - a for a, b in zip(world.machines[0].daemon.woken, world.machines[0].daemon.woken[1:], strict=False)]
    assert min(gaps) >= 100 * MILLISECOND


def test_unplugging_tells_both_daemons_and_then_shows_them_the_kernel(toys):
    world = toys.start(toys.build("line:2"))
    cable = world.network.cables[0]
    world.unplug(cable)
    world.run_for(10 * MILLISECOND)
    for machine in world.machines:
        assert of(machine, LinkDown) == [LinkDown(2)]
    world.plug(cable)
    world.run_for(10 * MILLISECOND)
    assert world.machines[0].daemon.links == [2, 2]


def test_a_flap_shorter_than_the_news_of_it_is_no_link_event_but_shows_the_kernel(toys):
    world = toys.start(toys.build("line:2"))
    toys.program(world)
    machine, cable = world.machines[0], world.network.cables[0]
    heard = []
    original = machine.daemon.handle
    machine.daemon.handle = lambda event, now: heard.append(event) or original(event, now)
    world.unplug(cable)
    world.plug(cable)
    world.run_for(50 * MILLISECOND)
    told = [event for event in heard if isinstance(event, LinkDown | LinkUp | FibRead)]
    assert told == [FibRead(machine.kernel.installed())] * 2
    assert not machine.kernel.installed().routes


def test_programming_answers_with_the_failures_and_then_shows_the_kernel(toys):
    world = toys.start(toys.build("line:2"))
    machine = world.machines[0]
    heard = []
    refused = ProgramFib(5, (SetNexthop(1, Gateway(99, bytes(16))),))
    machine.daemon.handle = lambda event, now: heard.append(event) or ([refused] if isinstance(event, LinkUp) else [])
    world._enter(machine, LinkUp(2, "eth2", 1))
    told = [event for event in heard if isinstance(event, FibProgrammed | FibRead)]
    assert told == [FibProgrammed(5, ((0, 22),)), FibRead(machine.kernel.installed())]


def test_a_stalled_daemon_drains_its_socket_before_it_wakes(toys):
    world = toys.start(toys.build("line:2"))
    world.run_for(SECOND)
    machine = world.machines[0]
    order = []
    original = machine.daemon.handle
    machine.daemon.handle = lambda event, now: order.append(type(event)) or original(event, now)
    world.stall(machine)
    world.run_for(SECOND)
    address = machine.kernel.interfaces[2].address
    world._receive(0, 2, EchoReply("fe80::1", address, 3))
    assert order == []
    world.resume(machine)
    world.run_for(2 * MILLISECOND)
    assert order.index(EchoReplied) < order.index(Datagram) < order.index(Wake)
    assert Datagram not in order[order.index(Wake) :]


def test_a_stalled_daemon_hears_of_links_first_and_only_what_they_amount_to(toys):
    world = toys.start(toys.build("line:3"))
    machine, (flapping, cut) = world.machines[1], world.network.cables
    world.run_for(SECOND)
    world.stall(machine)
    world.unplug(flapping)
    world.unplug(cut)
    world.run_for(SECOND)
    world.plug(flapping)
    world.run_for(SECOND)
    heard = []
    machine.daemon.handle = lambda event, now: heard.append(event) or []
    world.resume(machine)
    assert heard[:2] == [LinkDown(3), FibRead(machine.kernel.installed())]
    assert not any(isinstance(event, LinkDown | LinkUp | FibRead) for event in heard[2:])


def test_a_torn_daemon_dies_between_two_of_its_actions(toys):
    world = toys.start(toys.build("star:6"))
    hub = world.machines[0]
    world.run_for(SECOND)
    world.stop_daemon(hub, torn=True)
    assert hub.daemon is not None
    world.run_for(SECOND)
    assert hub.daemon is None


def test_a_lossy_jittery_duplicating_cable_loses_reorders_and_duplicates(toys):
    quality = Quality(loss=0.2, duplication=0.2, reordering=0.2)
    world = toys.start(toys.build("line:2", quality=quality))
    sender, receiver = world.machines
    for number in range(500):
        world._perform(sender, SendDatagram(2, None, b"%04d" % number))
        world.run_for(MILLISECOND)
    world.run_for(SECOND)
    payloads = [event.payload for event in of(receiver, Datagram) if event.payload != b"hello"]
    assert 350 < len(set(payloads)) < 450
    assert len(payloads) > len(set(payloads)) + 30
    assert payloads != sorted(payloads)


def test_a_datagram_above_the_limit_stops_the_simulation(toys):
    world = toys.start(toys.build("line:2"))
    with pytest.raises(SimulationError, match="1201 bytes"):
        world._perform(world.machines[0], SendDatagram(2, None, bytes(1201)))


def test_an_exception_in_a_core_stops_the_simulation_and_names_the_event(toys):
    world = toys.start(toys.build("line:2"))

    def broken(event, now):
        raise KeyError("oops")

    world.machines[1].daemon.handle = broken
    with pytest.raises(SimulationError, match=r"n1: \w+ made the core raise KeyError"):
        world.run_for(SECOND)


def test_the_same_seed_gives_the_same_digest_and_another_seed_another(toys):
    def run(seed):
        world = toys.start(toys.build("random:8", seed, Quality(loss=0.1)))
        world.run_for(3 * SECOND)
        return world.digest()

    assert run(1) == run(1) != run(2)


def test_the_link_up_of_a_start_follows_the_reading_of_the_kernel(toys):
    world = toys.build("line:2")
    heard = []
    machine = world.machines[0]
    boot = world._boot

    def recording(start):
        toy = boot(start)
        original = toy.handle
        toy.handle = lambda event, now: heard.append(event) or original(event, now)
        return toy

    world._boot = recording
    world.start(machine)
    interface = machine.kernel.interfaces[2]
    up = LinkUp(2, "eth2", interface.metric, interface.address)
    assert heard == [FibRead(machine.kernel.installed()), up]


def test_a_metric_set_while_the_world_runs_leaves_all_else_of_the_link_as_it_was(toys):
    world = toys.start(toys.build("line:2"))
    world.set_metric(world.network.cables[0], 1, 77)
    before, after = world.machines[1].daemon.told_up
    assert (after.link, after.name, after.address) == (before.link, before.name, before.address)
    assert after.metric == 77


def test_a_configuration_outlives_the_daemon_and_a_stalled_one_takes_it_when_it_goes_on(toys, monkeypatch):
    monkeypatch.setattr(module, "INBOX_MAX", 0)
    world = toys.start(toys.build("line:2"))
    machine = world.machines[0]
    machine.settings = NodeSettings(name="n0")
    world.stall(machine)
    world.reload(machine, gateway=9)
    assert of(machine, SettingsChanged) == []
    world.resume(machine)
    assert [event.settings.gateway for event in of(machine, SettingsChanged)] == [9]
    world.stop_daemon(machine)
    world.reload(machine, mwt="spanning")
    assert (machine.settings.gateway, machine.settings.mwt) == (9, "spanning")
