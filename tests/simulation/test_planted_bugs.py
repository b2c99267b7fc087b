"""Each checker is proven by a bug: planted in the real core's own small rule, it must be reported, and only then.

Every scenario is run twice, sound and with the plant, so that what is reported is the bug and not the scenario.
"""

from collections.abc import Mapping

import pytest

import routing.pseudonode
from dmssd.secure import SecureNode
from dmssd.sim import mesh, shapes
from dmssd.sim.faults import Fault
from dmssd.sim.scenario import Report, Scenario, Timeline
from dmssd.sim.shapes import Edge, Shape
from gossip.members import Standing, State, join
from routing import graph
from routing.lsa import Lsa
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration, Instant


def at(seconds: float) -> Instant:
    """An instant by its distance from the beginning of the world, which is at 1 s."""
    return Instant(int((seconds + 1) * SECOND))


def play(
    shape: Shape, plan: tuple[Fault, ...], plant: mesh.Plant | None, faulty: int, healed: int = 20, seed: int = 7
) -> Report:
    world = mesh.build(seed, shape, mesh.MeshOptions(plant=plant, processors=2))
    timeline = Timeline(
        Duration(10 * SECOND), Duration(faulty * SECOND), Duration(healed * SECOND), Duration(18 * SECOND)
    )
    return Scenario(world, mesh.VIEWS, timeline).run(plan)


def checkers(report: Report) -> set[str]:
    return {finding.checker for finding in report.findings}


# A refutation that never counts


def never_believes_a_refutation(secure: SecureNode) -> None:
    def deaf(held: Standing, claim: Standing) -> Standing:
        if held.state in (State.SUSPECT, State.DEAD) and claim.state is State.ALIVE:
            return held
        return join(held, claim)

    secure.node.swim._claims._join = deaf


STALL = (Fault("stall-daemon", at(11), at(15), (5,)),)


@pytest.mark.parametrize(("plant", "bug"), [(None, False), (never_believes_a_refutation, True)])
def test_a_refutation_that_never_counts_is_reported_as_a_false_death(plant, bug):
    report = play(shapes.parse("grid:3x3", 7), STALL, plant, faulty=30)
    assert ("false death" in checkers(report)) == bug
    if bug:
        assert any("n5 dead, which nothing has disturbed" in finding.text for finding in report.findings)
    else:
        assert report.findings == []


# A sequence number that is not raised


def never_raises_its_sequence(secure: SecureNode) -> None:
    linkstate = secure.node.linkstate
    if linkstate._name == "n4":
        first, persists = linkstate._next_sequence(0)
        linkstate._next_sequence = lambda floor: (first, persists)


# Nobody can take back an adjacency without a new number: of two LSAs with one number all keep the longer here.
CUT = (Fault("link-down", at(10.5), at(1000), (3,)),)


@pytest.mark.parametrize(("plant", "bug"), [(None, False), (never_raises_its_sequence, True)])
def test_a_sequence_number_that_is_not_raised_is_reported_as_databases_that_differ(plant, bug):
    report = play(shapes.parse("grid:3x3", 7), CUT, plant, faulty=1)
    assert ("lsdb" in checkers(report)) == bug
    if bug:
        assert all("of n4" in finding.text for finding in report.findings if finding.checker == "lsdb")
    else:
        assert report.findings == []


# A link counted one way

# 1 is on the short way from 0 to 2. Its daemon dies and its cable to 2 is cut: 0 keeps the neighbour, because only it
# leads to 4; 2 drops it; and 1 cannot take back its half of the link to 2. Whoever counts a link by one half sends what
# is for 2 into the dead end, though the way over 3 is there.
SQUARE = Shape(
    "square with a tail", 5, (Edge(0, 1, 1, 1), Edge(1, 2, 1, 1), Edge(2, 3, 5, 5), Edge(3, 0, 5, 5), Edge(1, 4, 1, 1))
)
DEAD_END = (Fault("crash-daemon", at(11), at(40), (1,)), Fault("silent-drop", at(11.05), at(40), (1,)))


def counting_links_one_way(lsdb: Mapping[NodeId, Lsa]) -> graph.Graph[NodeId]:
    edges = (
        graph.Edge(node, adjacency.neighbour, adjacency.metric, adjacency.link, adjacency.remote_link)
        for node in sorted(lsdb)
        for adjacency in lsdb[node].adjacencies
        if adjacency.neighbour in lsdb
    )
    return graph.Graph(sorted(lsdb), edges)


@pytest.mark.parametrize("bug", [False, True])
def test_a_link_counted_one_way_is_reported_as_a_black_hole(monkeypatch, bug):
    if bug:
        monkeypatch.setattr(routing.pseudonode, "from_lsdb", counting_links_one_way)
    report = play(SQUARE, DEAD_END, None, faulty=30)
    assert ("lasting black hole" in checkers(report)) == bug
    if bug:
        assert any("n0 to n2 has been lost" in finding.text for finding in report.findings)
    else:
        assert report.findings == []


# A forwarder that does not take new rows


def keeps_the_row_it_has_when_trouble_begins(secure: SecureNode) -> None:
    forwarder = secure.node.forwarder
    if forwarder is None or secure.node.settings.name != "n0":
        return
    take = forwarder._install

    def stubborn(row, source, now):
        return [] if now >= at(11) else take(row, source, now)

    forwarder._install = stubborn


# 0 reaches 2 over 1; when 1-2 fails, 1 sends what is for 2 back to 0, which must not send it to 1 again.
BYPASS = (Fault("silent-drop", at(11), at(40), (1,)),)


@pytest.mark.parametrize(("plant", "bug"), [(None, False), (keeps_the_row_it_has_when_trouble_begins, True)])
def test_a_forwarder_that_ignores_new_rows_is_reported_as_a_loop(plant, bug):
    report = play(SQUARE, BYPASS, plant, faulty=30)
    assert ("lasting loop" in checkers(report)) == bug
    if bug:
        assert any("n0 > n1 > n0" in finding.text for finding in report.findings)
    else:
        assert report.findings == []
