"""What the benchmark of small boards reads of the logs."""

from benchmarks.small import trouble

LOG = """\
INFO member.suspect node=ab name=r0c1
INFO member.suspect node=cd name=r0c10
INFO member.down node=cd name=r0c10
INFO neighbour.down node=ab name=r0c1 interface=to-r0c1
INFO member.up node=ab name=r0c1
"""


def test_trouble_is_counted_by_kind_and_by_the_node_that_it_is_about():
    assert trouble(LOG, "r0c1") == "member.suspect 1, member.down 0, neighbour.down 1"
    assert trouble(LOG, "r0c10") == "member.suspect 1, member.down 1, neighbour.down 0"
    assert trouble(LOG, "") == "member.suspect 2, member.down 1, neighbour.down 1"
    assert trouble("", "") == "member.suspect 0, member.down 0, neighbour.down 0"
