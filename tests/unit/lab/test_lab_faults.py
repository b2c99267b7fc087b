"""Faults: which interfaces go deaf, and what is left after healing."""

import pytest

from dmssd.lab.design import design
from dmssd.lab.errors import LabError
from dmssd.lab.faults import deaf, downed, ruleset, shifted, without
from dmssd.lab.shapes import parse
from dmssd.lab.state import Fault

PLAN = design(parse("line:3"), "lab", 1)


def test_a_drop_makes_both_ends_deaf_and_one_way_only_the_far_end() -> None:
    assert deaf(PLAN, [Fault("drop", "n1", "n2")]) == {"n1": ["to-n2"], "n2": ["to-n1"]}
    assert deaf(PLAN, [Fault("drop", "n1", "n2", one_way=True)]) == {"n2": ["to-n1"]}
    assert deaf(PLAN, [Fault("drop", "n2", "n1", one_way=True)]) == {"n1": ["to-n2"]}


def test_drop_node_takes_both_ends_of_every_link() -> None:
    assert deaf(PLAN, [Fault("drop-node", "n2")]) == {"n1": ["to-n2"], "n2": ["to-n1", "to-n3"], "n3": ["to-n2"]}


def test_a_drop_takes_all_parallel_links() -> None:
    plan = design(parse("abilene"), "lab", 1)
    found = deaf(plan, [Fault("drop", "new-york", "chicago")])
    assert found == {"chicago": ["to-new-york", "to-new-york-2"], "new-york": ["to-chicago", "to-chicago-2"]}


def test_faults_that_overlap_stay_until_the_last_is_healed() -> None:
    both = [Fault("drop", "n1", "n2"), Fault("drop-node", "n2")]
    assert deaf(PLAN, without(both, "n1", "n2")) == deaf(PLAN, [Fault("drop-node", "n2")])
    assert deaf(PLAN, without(both, "n2", None)) == {}
    assert without(both, None, None) == []
    assert without(both, "n2", "n1") == without(both, "n1", "n2")
    assert without(both, "n3", None) == both


def test_link_down_is_of_the_end_named_first_and_drops_nothing() -> None:
    fault = Fault("link-down", "n2", "n3")
    assert downed(PLAN, [fault]) == [("n2", "to-n3")]
    assert deaf(PLAN, [fault]) == {}


def test_a_ruleset_replaces_the_table_whole() -> None:
    assert ruleset([]) == "table netdev dmssd_fault\ndelete table netdev dmssd_fault\n"
    assert 'devices = { "to-a", "to-b" }' in ruleset(["to-a", "to-b"])


def test_a_fault_where_no_link_is_is_refused() -> None:
    with pytest.raises(LabError, match="no link joins n1 and n3"):
        deaf(PLAN, [Fault("drop", "n1", "n3")])


def test_shifts_of_a_clock_add_up_drop_nothing_and_are_healed_by_their_node() -> None:
    faults = [Fault("clock", "n2", seconds=86_400), Fault("clock", "n2", seconds=-60), Fault("clock", "n1", seconds=5)]
    assert shifted(faults) == {"n2": 86_340, "n1": 5}
    assert (deaf(PLAN, faults), downed(PLAN, faults)) == ({}, [])
    assert shifted(without(faults, "n2", None)) == {"n1": 5}
    assert str(faults[1]) == "clock n2 -60"
