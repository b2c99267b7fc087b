"""The page of metrics, read by Prometheus' own parser."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dmssd.counts import KIND_ECHO, Histogram, Tally
from dmssd.exposition import LABEL_CHARACTERS_MAX, Exposition, Family
from dmssd.metrics import FAMILIES, Machine, page
from dmssd.queries import Surroundings
from dmssd.sim import mesh, shapes
from sansio.instant import SECOND, Instant

MEMBERS = 3


def machine_of(**changed):
    sent = Tally()
    for kind, size in ((4, 100), (4, 60), (1, 300), (3, 200), (77, 9), (-1, 1), (KIND_ECHO, 16)):
        sent.add(kind, size)
    lag = Histogram((0.01, 0.1))
    for late in (0.0, 0.01, 0.05, 7.0):
        lag.observe(late)
    fields = {
        "started_s": 1.5,
        "cpu_s": 0.25,
        "resident_bytes": 4096,
        "open_fds": 12,
        "lag": lag,
        "links": {"eth0": True, "eth1": False},
        "sent": sent,
        "received": Tally(),
        "fib_operations": {4: 5, 0: 2},
        "fib_refused": {16: 1},
        "fib_reads": 3,
        "events": {"member.down": 2},
        "disk_writes": 7,
        "disk_bytes": 700,
    }
    return Machine(**(fields | changed))


@pytest.fixture(scope="module")
def world():
    made = mesh.build(1, shapes.parse(f"line:{MEMBERS}", 1), mesh.MeshOptions())
    for each in made.machines:
        made.start(each)
    made.run_for(20 * SECOND)
    return made


def read(world, number=0, around=None, **changed):
    secure = mesh.secure_of(world.machines[number].daemon)
    around = around or Surroundings("9.9", Instant(world.now - 20 * SECOND), {'an "odd"\\\nreason': 4})
    return page(secure, around, machine_of(**changed), world.now)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_every_family_with_its_type_and_help(world):
    found = {family.name: family for family in text_string_to_metric_families(read(world))}
    for family in FAMILIES:
        # Prometheus' parser calls a counter by its name without the ending.
        parsed = found[family.name.removesuffix("_total") if family.type == "counter" else family.name]
        assert (parsed.type, parsed.documentation) == (family.type, family.help)
    assert len(found) == len(FAMILIES)


def test_names_follow_the_conventions():
    for family in FAMILIES:
        assert family.name.startswith("dmssd_")
        assert family.name.endswith("_total") == (family.type == "counter"), family.name
        assert not set(family.labels) & {"member", "node", "neighbour"} or family.name == "dmssd_node_info"
        assert family.help.endswith(".")


def test_what_the_node_knows_is_what_is_shown(world):
    found = samples(read(world, 1))
    assert found["dmssd_members", ("state", "up")] == MEMBERS
    assert found["dmssd_members", ("state", "down")] == 0
    ups = [value for key, value in found.items() if key[0] == "dmssd_adjacencies" and ("state", "up") in key]
    assert ups == [1, 1]
    assert found["dmssd_sessions",] == MEMBERS - 1
    assert found["dmssd_lsdb_origins",] == MEMBERS
    assert found["dmssd_lsdb_adjacencies",] == 2 * (MEMBERS - 1)
    assert found["dmssd_routes_wanted", ("family", "ipv4")] == found["dmssd_routes_programmed", ("family", "ipv4")] > 0
    assert found["dmssd_routes_wanted", ("family", "ipv6")] == found["dmssd_routes_programmed", ("family", "ipv6")] > 0
    assert found["dmssd_uptime_seconds",] == 20
    assert found["dmssd_problems",] == 0
    assert found["dmssd_build_info", ("version", "9.9")] == 1


def test_messages_are_counted_by_channel_in_both_directions(world):
    mine, theirs = samples(read(world, 0)), samples(read(world, 2))
    for channel in ("hello", "flood", "swim"):
        for direction in ("sent", "received"):
            assert mine[f"dmssd_{direction}_messages_total", ("channel", channel)] > 0, channel
            size = mine[f"dmssd_{direction}_message_bytes_total", ("channel", channel)]
            assert size >= mine[f"dmssd_{direction}_messages_total", ("channel", channel)]
    # Nothing is lost in this world: what one end of the line sends, the other has had, but for what is under way.
    assert mine["dmssd_received_messages_total", ("channel", "swim")] <= sum(
        samples(read(world, number))["dmssd_sent_messages_total", ("channel", "swim")] for number in (1, 2)
    )
    assert theirs["dmssd_received_messages_total", ("channel", "other")] == 0


def test_kinds_that_stand_for_nothing_are_counted_together(world):
    found = samples(read(world))
    assert found["dmssd_sent_datagrams_total", ("kind", "sealed")] == 2
    assert found["dmssd_sent_bytes_total", ("kind", "sealed")] == 160
    assert found["dmssd_sent_datagrams_total", ("kind", "handshake")] == 2
    assert found["dmssd_sent_datagrams_total", ("kind", "echo")] == 1
    assert found["dmssd_sent_datagrams_total", ("kind", "other")] == 2
    assert found["dmssd_received_datagrams_total", ("kind", "other")] == 0
    kinds = {key[1] for key in found if key[0] == "dmssd_sent_datagrams_total"}
    assert len(kinds) == 5


def test_a_histogram_counts_what_is_within_each_bound(world):
    found = samples(read(world))
    buckets = {key[1][1]: value for key, value in found.items() if key[0] == "dmssd_loop_lag_seconds_bucket"}
    assert buckets == {"0.01": 2, "0.1": 3, "+Inf": 4}
    assert found["dmssd_loop_lag_seconds_count",] == 4
    assert math.isclose(found["dmssd_loop_lag_seconds_sum",], 7.06)


def test_what_others_call_themselves_adds_no_line_and_no_label():
    hostile = 'x"} 1\ndmssd_members{state="up"} 99\n\\" # \r' + "y" * 500
    out = Exposition((Family("dmssd_node_info", "gauge", "Who.", ("name",)), Family("dmssd_members", "gauge", "n.")))
    out.add("dmssd_node_info", 1, hostile)
    out.add("dmssd_members", 3)
    families = list(text_string_to_metric_families(out.text()))
    assert [[sample.value for sample in family.samples] for family in families] == [[1], [3]]
    assert families[0].samples[0].labels == {"name": hostile[:LABEL_CHARACTERS_MAX]}


def test_odd_reasons_come_through_as_they_are(world):
    assert samples(read(world))["dmssd_rejected_total", ("reason", 'an "odd"\\\nreason')] == 4


def test_a_certificate_without_an_end_has_no_expiry_and_the_guard_is_up_only_without_a_problem(world):
    def guarded(**guard):
        around = Surroundings("", world.now, guard={"ruleset": "table", "restored": 2, "problem": None} | guard)
        return samples(read(world, around=around))

    expires = "dmssd_certificate_expiry_timestamp_seconds"
    expiry = mesh.secure_of(world.machines[0].daemon).credentials.certificate.expiry
    assert [value for key, value in guarded().items() if key[0] == expires] == ([expiry] if expiry else [])
    assert guarded()["dmssd_guard_up",] == 1
    assert guarded()["dmssd_guard_restored_total",] == 2
    assert guarded(problem="nft is not installed")["dmssd_guard_up",] == 0
    assert guarded(ruleset="")["dmssd_guard_up",] == 0


def test_a_label_too_many_or_too_few_is_an_error():
    out = Exposition((Family("dmssd_members", "gauge", "n.", ("state",)),))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        out.add("dmssd_members", 1)
