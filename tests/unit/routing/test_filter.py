"""Which announced prefixes a forwarder takes."""

import pytest

from routing.filter import RouteFilter
from routing.lsa import Prefix


def filter_of(accept: str = "", deny: str = "") -> RouteFilter:
    lists = [tuple(map(Prefix.parse, text.replace("default", "").split())) for text in (accept, deny)]
    return RouteFilter(*lists, accept_default="default" in accept, deny_default="default" in deny)


@pytest.mark.parametrize(
    ("accept", "deny", "taken", "refused"),
    [
        ("", "", "0.0.0.0/0 ::/0 10.0.0.0/8 fd00::/8", ""),
        ("10.0.0.0/8", "", "10.0.0.0/8 10.5.0.1/32", "0.0.0.0/0 11.0.0.0/8 0.0.0.0/4 fd00::/8"),
        ("", "10.0.0.0/8", "0.0.0.0/0 8.0.0.0/6 11.0.0.0/8 fd00::/8", "10.0.0.0/8 10.5.0.1/32"),
        ("10.5.0.0/16", "10.0.0.0/8", "10.5.0.1/32", "10.6.0.1/32 11.0.0.0/8"),
        ("10.0.0.0/8", "10.5.0.0/16", "10.6.0.1/32 10.0.0.0/8", "10.5.0.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8", "", "10.0.0.0/8 10.1.1.1/32"),
        ("", "default", "10.0.0.0/8 0.0.0.0/1 fd00::/8", "0.0.0.0/0 ::/0"),
        ("default", "", "0.0.0.0/0 ::/0", "10.0.0.0/8 0.0.0.0/1"),
        ("default 10.0.0.0/8", "0.0.0.0/0", "0.0.0.0/0 10.0.0.0/8", "11.0.0.0/8"),
        ("default", "default", "", "0.0.0.0/0"),
        ("0.0.0.0/0", "", "0.0.0.0/0 10.0.0.0/8", "::/0 fd00::/8"),
    ],
)
def test_the_longest_entry_that_holds_a_prefix_decides_and_default_means_default_routes_alone(
    accept: str, deny: str, taken: str, refused: str
) -> None:
    chosen = filter_of(accept, deny)
    assert [text for text in taken.split() if not chosen.takes(Prefix.parse(text))] == []
    assert [text for text in refused.split() if chosen.takes(Prefix.parse(text))] == []
