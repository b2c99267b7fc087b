"""Recording at the inner door, and running a node again from the record."""

import random

import pytest

from dmssd.driver.record import EventCodec, Recorder
from dmssd.events import Datagram, LinkUp, Request, SendDatagram
from dmssd.recording import RECORDED_TYPES, NodeBegan, Outcome, RecordOpened, Signed, Tap
from dmssd.secure import SecureNode, stored_membership
from dmssd.security.certificate import Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.settings import NodeSettings
from dmssd.sim.replay import replay, replay_entries
from routing.lsa import LinkNumber, Prefix
from sansio.core import Wake
from sansio.errors import StoreError
from sansio.instant import SECOND, Instant

LINK = LinkNumber(2)
ADDRESS = {"ann": "fe80::a", "bob": "fe80::b"}
SEEDS = {"ann": b"A" * 32, "bob": b"B" * 32}


def entropy(name):
    generator = random.Random(name)
    return generator.randbytes


def pair(tap):
    """Two admitted nodes on one link; ``tap`` listens to ann."""
    ann, bob = Identity(SEEDS["ann"]), Identity(SEEDS["bob"])
    founder = found(ann, "ann", "mesh", entropy("founding"))
    chain = issue(founder, Subject(bob.key, bob.x25519, "bob"), 7)
    assert Credentials.load(bob, chain).mesh == founder.mesh
    stored = {"ann": stored_membership(founder.chain), "bob": stored_membership(chain)}
    return {
        name: SecureNode(
            NodeSettings(name, (Prefix.parse(f"10.0.0.{number}/32"),), tps=("ann",)),
            identity,
            stored[name],
            random.Random(number),
            entropy(name),
            tap=tap if name == "ann" else None,
        )
        for number, (name, identity) in enumerate((("ann", ann), ("bob", bob)), start=1)
    }


def run(nodes, until):
    """Carry datagrams between the two, at once; wake whoever asks, until ``until``."""
    now = Instant(0)
    queue = [(name, LinkUp(LINK, "eth0", 1)) for name in nodes]
    while now < until:
        while queue:
            name, event = queue.pop(0)
            other = "bob" if name == "ann" else "ann"
            for action in nodes[name].handle(event, now):
                if isinstance(action, SendDatagram):
                    queue.append((other, Datagram(LINK, ADDRESS[name], action.payload)))
        now = Instant(max(now + 1, min(due for node in nodes.values() if (due := node.deadline()) is not None)))
        queue = [(name, Wake()) for name, node in nodes.items() if (node.deadline() or now + 1) <= now]


@pytest.fixture
def record(tmp_path):
    """A record of ann meeting bob, and where it is."""
    path = tmp_path / "record"
    recorder = Recorder(path, 1 << 20, EventCodec(RECORDED_TYPES), lambda before: RecordOpened("test", before))
    nodes = pair(Tap(recorder))
    run(nodes, Instant(3 * SECOND))
    assert [member.name for member in nodes["ann"].node.swim.members() if member.name != "ann"] == ["bob"]
    nodes["ann"].handle(Request(1, "token", {"uses": 1, "ttl_s": 60}), Instant(3 * SECOND))
    recorder.close()
    return path


def test_a_recorded_node_does_the_same_again(record):
    report = replay(record)
    assert report.diverged_at is None
    assert report.events > 50
    assert report.nodes == 1


def test_the_record_holds_no_key_and_no_session_secret(record):
    data = record.read_bytes()
    for seed in SEEDS.values():
        assert seed not in data
        assert Identity(seed).x25519_private not in data
    assert b"dmss1." not in data


def test_another_outcome_than_recorded_is_found_where_it_happens(record):
    entries = entries_of(record)
    wrong = next(number for number, (_, entry) in enumerate(entries) if isinstance(entry, Outcome) and number > 40)
    entries[wrong] = (entries[wrong][0], Outcome(b"\0" * 8))
    events = sum(1 for _, entry in entries[:wrong] if isinstance(entry, Outcome)) + 1
    report = replay_entries(iter(entries))
    assert report.diverged_at == events
    assert report.diverged_event


def test_a_node_that_asks_its_keys_for_more_than_was_recorded_has_diverged(record):
    entries = [(now, entry) for now, entry in entries_of(record) if not isinstance(entry, Signed)]
    assert replay_entries(iter(entries)).diverged_at is not None


def test_a_record_without_its_beginning_is_refused(record):
    entries = [(now, entry) for now, entry in entries_of(record) if not isinstance(entry, NodeBegan)]
    with pytest.raises(StoreError, match="middle"):
        replay_entries(iter(entries))
    opened = (Instant(0), RecordOpened("test", before=12))
    with pytest.raises(StoreError, match="limit_mib"):
        replay_entries(iter([opened, *entries[1:]]))


def entries_of(path):
    from dmssd.driver.record import read_records

    return list(read_records(path, EventCodec(RECORDED_TYPES)))
