"""What simulated daemons recorded is replayed to the same end, from memory and from the driver's file."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dmssd import __version__
from dmssd.cli.sim import sim
from dmssd.driver.record import EventCodec, Recorder
from dmssd.events import SettingsChanged
from dmssd.inner import PeerSpoke
from dmssd.recording import RECORDED_TYPES, NodeBegan, Recorded, RecordOpened
from dmssd.settings import NodeSettings
from dmssd.sim import mesh, shapes
from dmssd.sim.replay import replay, replay_entries
from dmssd.sim.scenario import Scenario, timeline_of_seconds
from dmssd.sim.world import Start
from gossip.swim import SwimConfig
from routing.adjacency import AdjacencyConfig
from sansio.instant import MILLISECOND, Duration, Instant, seconds


class Memory:
    def __init__(self) -> None:
        self.entries: list[tuple[Instant, Recorded]] = []

    def write(self, event: Recorded, now: Instant) -> None:
        self.entries.append((now, event))


def recorded_lives(seed: int) -> list[list[tuple[Instant, Recorded]]]:
    """The records of every start of every daemon in a world with faults."""
    tapes: list[Memory] = []

    def tape(_: Start) -> Memory:
        tapes.append(Memory())
        return tapes[-1]

    world = mesh.build(seed, shapes.parse("random:8", seed), mesh.MeshOptions(tape=tape))
    report = Scenario(world, mesh.VIEWS, timeline_of_seconds(18)).run(fault_count=8)
    assert report.findings == []
    return [memory.entries for memory in tapes]


def test_every_life_in_a_faulty_world_is_replayed_to_its_end():
    lives = recorded_lives(3)
    assert len(lives) > 8  # some daemon crashed and had a second life
    for life in lives:
        replayed = replay_entries(iter(life))
        assert replayed.diverged_at is None, replayed.diverged_event
        assert replayed.events > 50


def test_an_altered_event_is_found_where_it_first_matters():
    life = recorded_lives(3)[0]
    position = next(n for n, (_, entry) in enumerate(life) if isinstance(entry, PeerSpoke) and entry.payload[0] == 1)
    now, spoke = life[position]
    altered = PeerSpoke(spoke.node, spoke.path, spoke.member, spoke.payload[:-1])
    events = sum(
        type(entry).__name__ not in ("Signed", "Verified", "Outcome", "NodeBegan") for _, entry in life[:position]
    )
    replayed = replay_entries(iter([*life[:position], (now, altered), *life[position + 1 :]]))
    assert replayed.diverged_at == events + 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "record"
    recorder = Recorder(path, 64 << 20, EventCodec(RECORDED_TYPES), lambda before: RecordOpened(__version__, before))
    for now, entry in recorded_lives(3)[2]:
        recorder.write(entry, now)
    recorder.close()
    return path


def test_a_record_on_disk_is_replayed_by_the_command(file: Path):
    assert replay(file).diverged_at is None
    done = CliRunner().invoke(sim, ["replay", str(file)])
    assert (done.exit_code, "did the same to the end" in done.output) == (0, True), done.output


def test_a_record_holds_no_secret(file: Path):
    seed = 3
    world = mesh.build(seed, shapes.parse("random:8", seed))
    data = file.read_bytes()
    assert world.machines[2].node in data
    assert mesh.identity_seed(seed, 2) not in data
    assert not any(isinstance(entry, NodeBegan) and "membership" in entry.stored for _, entry in recorded_lives(3)[2])


def test_settings_that_change_while_a_world_runs_disturb_nobody_and_are_replayed():
    tapes: dict[str, Memory] = {}

    def tape(start: Start) -> Memory:
        return tapes.setdefault(start.machine.name, Memory())

    world = mesh.build(5, shapes.parse("random:8", 5), mesh.MeshOptions(tape=tape))
    timeline = timeline_of_seconds(24)

    def reconfigure() -> None:
        for machine in world.machines:
            settings = mesh.secure_of(machine.daemon).node.settings
            world.configure(machine, altered(settings, machine.number))

    for machine in world.machines:
        machine.wall_error_s = 0.0  # by 1970 nobody gives an expiry
    world.clock.after(seconds(8), reconfigure)
    report = Scenario(world, mesh.VIEWS, timeline).run(plan=())
    assert report.findings == []
    for machine in world.machines:
        secure = mesh.secure_of(machine.daemon)
        assert (secure.membership.first_admins, secure.renewals.expiry()) == (7, int(world.wall(machine)) + 86_400)
    assert not [notice for at, _, notice in world.notices if at > seconds(9) and notice.kind in FLAPS]
    for name, memory in tapes.items():
        assert any(isinstance(entry, SettingsChanged) for _, entry in memory.entries), name
        replayed = replay_entries(iter(memory.entries))
        assert replayed.diverged_at is None, replayed.diverged_event


FLAPS = ("neighbour.down", "neighbour.restarting", "member.suspect", "member.down")


def altered(settings: NodeSettings, number: int) -> NodeSettings:
    """Other timers for all, each its own, and other TopologyProcessors."""
    return replace(
        settings,
        tps=("n1", "n4"),
        admins=7,
        certificate_days=1,
        liveness=AdjacencyConfig(hello_interval=Duration((500 + 100 * number) * MILLISECOND), echo_misses=4),
        swim=SwimConfig(period=Duration((400 + 50 * number) * MILLISECOND)),
    )
