"""What differs between two configurations, and what each difference takes."""

from dmssd.config.changes import NEXT_JOIN, NOW, RESTART, Change, changes, in_effect
from dmssd.config.load import parse

LINKS = [{"match": "eth0", "metric": 3}, {"match": "eth*"}]


def differing(old, new):
    return changes(parse({"name": "a"} | old), parse({"name": "a"} | new))


def test_equal_configurations_have_no_changes():
    assert differing({"links": LINKS}, {"links": LINKS}) == []


def test_every_difference_is_told_with_its_key_and_both_values():
    assert differing({}, {"mesh": {"tp": ["b"]}, "liveness": {"echo_misses": 5}, "port": 5000}) == [
        Change("port", 4747, 5000, RESTART),
        Change("mesh.tp", [], ["b"], NOW),
        Change("liveness.echo_misses", 3, 5, NOW),
    ]


def test_link_rules_are_told_by_their_pattern():
    new = [{"match": "eth0", "metric": 4}, {"match": "wg0"}]
    assert differing({"links": LINKS}, {"links": new}) == [
        Change("links", ["eth0", "eth*"], ["eth0", "wg0"], NOW),
        Change('links["eth0"].metric', 3, 4, NOW),
        Change('links["eth*"].metric', 10, "not set", NOW),
        Change('links["eth*"].kind', "auto", "not set", NOW),
        Change('links["eth*"].medium', "auto", "not set", NOW),
        Change('links["wg0"].metric', "not set", 10, NOW),
        Change('links["wg0"].kind', "not set", "auto", NOW),
        Change('links["wg0"].medium', "not set", "auto", NOW),
    ]


def test_the_order_of_link_rules_is_a_difference_since_the_first_that_fits_decides():
    assert [one.key for one in differing({"links": LINKS}, {"links": LINKS[::-1]})] == ["links"]


def test_a_name_counts_at_the_next_join_and_a_table_that_comes_at_a_restart():
    new = {"name": "b", "record": {"path": "/r"}}
    assert [(one.key, one.effect) for one in differing({}, new)] == [
        ("name", NEXT_JOIN),
        ("record.path", RESTART),
        ("record.limit_mib", RESTART),
    ]


def test_what_is_in_effect_has_the_live_settings_of_the_new_and_the_rest_of_the_old():
    old, new = parse({"name": "a", "port": 1}), parse({"name": "b", "port": 2, "links": LINKS, "roles": []})
    merged = in_effect(old, new)
    assert (merged.port, merged.name, merged.links, merged.roles) == (1, "a", new.links, ())
    assert [one.effect for one in changes(merged, new)] == [NEXT_JOIN, RESTART]
