"""Faults: which interfaces go deaf, and what is left after healing."""

import pytest

from dmssd.lab.design import design
from dmssd.lab.errors import LabError
from dmssd.lab.faults import downed, frozen, losses, parted, ruleset, shifted, without
from dmssd.lab.shapes import parse
from dmssd.lab.state import Fault

PLAN = design(parse("line:3"), "lab", 1)


def test_a_drop_makes_both_ends_deaf_and_one_way_only_the_far_end() -> None:
    assert losses(PLAN, [Fault("drop", "n1", "n2")]) == {"n1": {"to-n2": 100}, "n2": {"to-n1": 100}}
    assert losses(PLAN, [Fault("drop", "n1", "n2", one_way=True)]) == {"n2": {"to-n1": 100}}
    assert losses(PLAN, [Fault("drop", "n2", "n1", one_way=True)]) == {"n1": {"to-n2": 100}}


def test_drop_node_takes_both_ends_of_every_link() -> None:
    assert losses(PLAN, [Fault("drop-node", "n2")]) == {
        "n1": {"to-n2": 100},
        "n2": {"to-n1": 100, "to-n3": 100},
        "n3": {"to-n2": 100},
    }


def test_a_drop_takes_all_parallel_links() -> None:
    plan = design(parse("abilene"), "lab", 1)
    found = losses(plan, [Fault("drop", "new-york", "chicago")])
    assert found.keys() == {"chicago", "new-york"}
    assert found["chicago"].keys() == {"to-new-york", "to-new-york-2"}
    assert found["new-york"].keys() == {"to-chicago", "to-chicago-2"}


def test_faults_that_overlap_stay_until_the_last_is_healed() -> None:
    both = [Fault("drop", "n1", "n2"), Fault("drop-node", "n2")]
    assert losses(PLAN, without(both, "n1", "n2")) == losses(PLAN, [Fault("drop-node", "n2")])
    assert losses(PLAN, without(both, "n2", None)) == {}
    assert without(both, None, None) == []
    assert without(both, "n2", "n1") == without(both, "n1", "n2")
    assert without(both, "n3", None) == both


def test_link_down_is_of_the_end_named_first_and_drops_nothing() -> None:
    fault = Fault("link-down", "n2", "n3")
    assert downed(PLAN, [fault]) == [("n2", "to-n3")]
    assert losses(PLAN, [fault]) == {}


def test_a_ruleset_replaces_the_table_whole() -> None:
    assert ruleset({}) == "table netdev dmssd_fault\ndelete table netdev dmssd_fault\n"
    both = ruleset({"to-a": 100, "to-b": 100, "to-c": 25})
    assert 'devices = { "to-a", "to-b" }' in both
    assert 'devices = { "to-c" } priority -500; policy accept;\n    numgen random mod 100 < 25 drop' in both


def test_a_loss_is_of_both_ends_of_the_links_and_the_worst_counts() -> None:
    two = [Fault("loss", "n1", "n2", percent=40), Fault("loss", "n2", percent=25)]
    assert losses(PLAN, two[:1]) == {"n1": {"to-n2": 40}, "n2": {"to-n1": 40}}
    assert losses(PLAN, two)["n2"] == {"to-n1": 40, "to-n3": 25}
    assert losses(PLAN, [*two, Fault("drop", "n1", "n2")])["n1"] == {"to-n2": 100}
    assert [str(fault) for fault in two] == ["loss 40 n1 n2", "loss 25 n2"]
    assert without(two, "n2", None) == []
    assert without(two, "n1", "n2") == two[1:]


def test_a_partition_drops_what_crosses_and_nothing_else() -> None:
    plan = design(parse("full:5"), "lab", 1)
    crossing = parted(plan, [["n1", "n2"], ["n3"]])
    kept = {frozenset(("n1", "n2")), frozenset(("n4", "n5"))}
    every = {frozenset((link.a, link.b)) for link in plan.links}
    assert {frozenset((fault.a, fault.b)) for fault in crossing} == every - kept
    assert {fault.kind for fault in crossing} == {"drop"}


def test_a_partition_of_a_node_in_two_groups_or_across_a_segment_is_refused() -> None:
    with pytest.raises(LabError, match="n1 is in two groups"):
        parted(PLAN, [["n1"], ["n2", "n1"]])
    with pytest.raises(LabError, match="no node 'n9'"):
        parted(PLAN, [["n9"]])
    with pytest.raises(LabError, match="segment lan joins nodes of several groups"):
        parted(design(parse("segment:3"), "lab", 1), [["n1"]])


def test_who_is_frozen_loses_nothing_and_is_healed_by_its_name() -> None:
    faults = [Fault("freeze", "n2"), Fault("drop", "n1", "n2")]
    assert frozen(faults) == ["n2"]
    assert losses(PLAN, faults[:1]) == {}
    assert frozen(without(faults, "n2", None)) == []
    assert frozen(without(faults, "n1", "n2")) == ["n2"]


def test_a_fault_where_no_link_is_is_refused() -> None:
    with pytest.raises(LabError, match="no link joins n1 and n3"):
        losses(PLAN, [Fault("drop", "n1", "n3")])


def test_shifts_of_a_clock_add_up_drop_nothing_and_are_healed_by_their_node() -> None:
    faults = [Fault("clock", "n2", seconds=86_400), Fault("clock", "n2", seconds=-60), Fault("clock", "n1", seconds=5)]
    assert shifted(faults) == {"n2": 86_340, "n1": 5}
    assert (losses(PLAN, faults), downed(PLAN, faults)) == ({}, [])
    assert shifted(without(faults, "n2", None)) == {"n1": 5}
    assert str(faults[1]) == "clock n2 -60"
