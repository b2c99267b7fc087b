"""Packing, summaries and outboxes by themselves."""

from itertools import pairwise

from routing.flood import (
    CLAIMS_MAX,
    FIRST_ORIGIN,
    FLOOD_BYTES_MAX,
    FLOOD_CODEC,
    FLOOD_LSAS_MAX,
    LAST_ORIGIN,
    RETRANSMISSIONS_MAX,
    URGENT_MAX,
    WINDOW,
    Ack,
    Flood,
    Outbox,
    Receipt,
    Request,
    Summary,
    pack,
    requests,
    summarise,
)
from routing.lsa import LSA_CODEC, Lsa
from routing.lsdb import Entry, Lsdb
from sansio.ids import NodeId, node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

T0 = Instant(SECOND)
HOUR = Duration(3600 * SECOND)
WAIT, LONGEST = Duration(100 * MILLISECOND), Duration(2 * SECOND)


def origin(number: int) -> NodeId:
    return node_id(number.to_bytes(4, "big"))


def entry(number: int, size: int = 300, expires: Instant | None = None) -> Entry:
    lsa = Lsa(origin(number), number, "x", (), ())
    return Entry(lsa, LSA_CODEC.encode(lsa), b"", bytes(size), expires)


def decoded(payloads: list[bytes]) -> list[Flood]:
    messages = [FLOOD_CODEC.decode(payload, "") for payload in payloads]
    return [message for message in messages if isinstance(message, Flood)]


def test_lsas_share_payloads_up_to_the_limit_and_keep_their_order() -> None:
    entries = [entry(number, 40 + 13 * number) for number in range(60)]
    payloads = pack(entries, HOUR, T0)
    assert max(map(len, payloads)) <= FLOOD_BYTES_MAX
    items = [item.signed for message in decoded(payloads) for item in message.lsas]
    assert items == [one.signed for one in entries]
    assert len(payloads) < len(entries)
    assert max(len(message.lsas) for message in decoded(payloads)) <= FLOOD_LSAS_MAX


def test_an_lsa_larger_than_a_payload_travels_alone() -> None:
    messages = decoded(pack([entry(1), entry(2, 5000), entry(3)], HOUR, T0))
    assert [len(message.lsas) for message in messages] == [1, 1, 1]


def test_remaining_lifetime_is_what_the_holder_has_left() -> None:
    entries = [entry(1, expires=after(T0, 7 * SECOND)), entry(2), entry(3, expires=Instant(0))]
    [message] = decoded(pack(entries, HOUR, T0))
    assert [item.remaining_ms for item in message.lsas] == [7000, 3_600_000, 0]


def test_acks_of_a_full_payload_and_requests_stay_under_the_limit() -> None:
    ack = Ack(tuple(Receipt(origin(number), 2**63 - 1) for number in range(FLOOD_LSAS_MAX)))
    assert len(FLOOD_CODEC.encode(ack)) <= FLOOD_BYTES_MAX
    payloads = requests([origin(number) for number in range(101)])
    assert max(map(len, payloads)) <= FLOOD_BYTES_MAX
    asked = [FLOOD_CODEC.decode(payload, "") for payload in payloads]
    assert sum(len(one.origins) for one in asked if isinstance(one, Request)) == 101


def pages_of(count: int, pages_max: int = 100, first: NodeId = FIRST_ORIGIN) -> tuple[list[Summary], NodeId, list[int]]:
    lsdb = Lsdb()
    for number in range(count):
        lsdb.put(entry(number))
    payloads, cursor = summarise(lsdb, first, pages_max)
    pages = [page for payload in payloads if isinstance(page := FLOOD_CODEC.decode(payload, ""), Summary)]
    return pages, cursor, [len(payload) for payload in payloads]


def test_summary_pages_cover_all_origins_without_a_gap() -> None:
    for count in (0, 1, CLAIMS_MAX, CLAIMS_MAX + 1, 5 * CLAIMS_MAX + 3):
        pages, cursor, sizes = pages_of(count)
        assert pages[0].first == FIRST_ORIGIN
        assert pages[-1].last == LAST_ORIGIN
        for page, following in pairwise(pages):
            assert int.from_bytes(page.last, "big") + 1 == int.from_bytes(following.first, "big")
        claimed = [claim.origin for page in pages for claim in page.claims]
        assert claimed == sorted(origin(number) for number in range(count))
        assert max(sizes) <= FLOOD_BYTES_MAX
        assert cursor == FIRST_ORIGIN


def test_a_bounded_summary_goes_on_where_it_ended() -> None:
    pages, cursor, _ = pages_of(200, pages_max=2)
    rest, end, _ = pages_of(200, first=cursor)
    claimed = [claim.origin for page in pages + rest for claim in page.claims]
    assert claimed == sorted(origin(number) for number in range(200))
    assert end == FIRST_ORIGIN


def test_an_outbox_sends_urgent_at_once_and_the_rest_by_window() -> None:
    outbox = Outbox(WAIT, LONGEST)
    for number in range(100):
        outbox.queue(origin(number), 1)
    assert len(outbox.take(T0)) == WINDOW
    outbox.urgent(origin(500), 1, T0)
    assert outbox.take(T0) == [origin(500)]
    outbox.acknowledge(origin(500), 1)
    for number in range(5):
        outbox.acknowledge(origin(number), 1)
    assert outbox.take(T0) == [origin(number) for number in range(WINDOW, WINDOW + 5)]


def test_an_outbox_gives_up_and_says_so() -> None:
    outbox = Outbox(WAIT, LONGEST)
    outbox.urgent(origin(1), 1, T0)
    sends = 0
    while (due := outbox.next()) is not None:
        sends += len(outbox.take(due))
    assert sends == RETRANSMISSIONS_MAX + 1
    assert outbox.exhausted
    assert len(outbox) == 0


def test_queueing_what_is_under_way_does_not_send_it_twice_but_a_newer_one_does() -> None:
    outbox = Outbox(WAIT, LONGEST)
    outbox.queue(origin(1), 1)
    assert outbox.take(T0) == [origin(1)]
    outbox.queue(origin(1), 1)
    assert outbox.take(T0) == []
    outbox.queue(origin(1), 2)
    assert outbox.take(T0) == [origin(1)]
    outbox.acknowledge(origin(1), 1)
    assert len(outbox) == 1
    outbox.acknowledge(origin(1), 2)
    assert len(outbox) == 0


def test_what_is_forgotten_is_not_sent() -> None:
    outbox = Outbox(WAIT, LONGEST)
    outbox.urgent(origin(1), 1, T0)
    outbox.queue(origin(2), 1)
    outbox.forget(origin(1))
    outbox.forget(origin(2))
    assert outbox.take(T0) == []


def test_urgent_lsas_for_a_neighbour_that_acknowledges_nothing_are_bounded_too() -> None:
    outbox = Outbox(WAIT, LONGEST)
    for number in range(1000):
        outbox.urgent(origin(number), 1, T0)
    assert len(outbox.take(T0)) == URGENT_MAX
    assert len(outbox) == 1000


def test_what_waits_is_sent_when_all_before_it_was_given_up() -> None:
    outbox = Outbox(WAIT, LONGEST)
    for number in range(WINDOW + 1):
        outbox.queue(origin(number), 1)
    taken: list[NodeId] = outbox.take(T0)
    while (due := outbox.next()) is not None:
        taken += outbox.take(due)
    assert origin(WINDOW) in taken
    assert len(outbox) == 0
