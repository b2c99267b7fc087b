"""Hostile input: 20,000 of it here, with what is found shortened by hypothesis; a million in ``make soak``.

The attackers and what is demanded of the attacked stand in ``tests/hostile``.
"""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmssd.channels import Channel
from dmssd.events import Datagram, LinkUp
from dmssd.fragments import PARTIALS_MAX, Fragments
from dmssd.inner import PeerSpoke, PeerUp
from dmssd.secure import KIND_GREETING, WIRE_VERSION, SecureNode
from dmssd.security.identity import Identity
from dmssd.security.session_events import LinkPath
from dmssd.settings import NodeSettings
from routing.discovery import GREETING_CODEC, Greeting
from routing.lsa import LinkNumber
from sansio.bounded import RecentTable
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Instant
from tests.hostile import bouts, credentials, grammar, growth
from tests.hostile.siege import ATTACKERS, Siege, besiege

INPUTS = 20_000
"""What this module throws altogether: ``test_the_budget_is_what_is_promised`` adds it up."""

BOUTS = {**bouts.BOUTS, **credentials.BOUTS}
ROUNDS, ROUND_INPUTS = 20, 60  # of each bout: hypothesis draws at most ROUND_INPUTS choices for a round
SIEGE_INPUTS = {"outsider": 4000, "stranger": 2500, "traitor": 3500}

choices = st.lists(st.integers(0, 2**32 - 1), min_size=ROUND_INPUTS, max_size=ROUND_INPUTS)


def test_the_budget_is_what_is_promised() -> None:
    assert len(BOUTS) * ROUNDS * ROUND_INPUTS + sum(SIEGE_INPUTS.values()) >= INPUTS


@pytest.mark.parametrize("name", sorted(BOUTS))
def test_no_input_breaks_a_core_or_is_believed_wrongly(name: str) -> None:
    @settings(deadline=None, max_examples=ROUNDS, suppress_health_check=list(HealthCheck))
    @given(choices)
    def fight(drawn: list[int]) -> None:
        BOUTS[name]().fight(drawn)

    fight()


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_a_mesh_under_attack_believes_nothing_false_keeps_its_size_and_comes_to_rest(attacker: str) -> None:
    siege = besiege(attacker, 1, SIEGE_INPUTS[attacker])
    assert siege.inputs == SIEGE_INPUTS[attacker]
    assert siege.world.rejected


def test_the_attackers_speak_on_every_channel_and_send_every_kind_of_datagram() -> None:
    siege = Siege("traitor", 2)
    assert {kind[0] for kind in siege.spoken.kinds} >= {Channel.HELLO, Channel.FLOOD, Channel.SWIM, Channel.PLAN}
    assert {kind[1] for kind in siege.wire.kinds} >= {KIND_GREETING, 1, 2, 3, 4}


def test_every_codec_of_the_project_is_among_those_tried() -> None:
    names = {name.rpartition(".")[2] for name in grammar.codecs()}
    assert names >= {
        "CERTIFICATE_CODEC",
        "CHAIN_CODEC",
        "FLOOD_CODEC",
        "FRAME_CODEC",
        "GREETING_CODEC",
        "HELLO_CODEC",
        "INTRODUCTION_CODEC",
        "JOIN_CODEC",
        "LSA_CODEC",
        "MESSAGE_CODEC",
        "PLAN_CODEC",
        "PROOF_CODEC",
        "ROW_CODEC",
        "SIGNED_CODEC",
    }
    rng, words = random.Random(1), grammar.Words()
    for codec in grammar.codecs().values():
        codec.decode(grammar.legal(codec, rng, words), "what the grammar makes is legal")


def test_the_measure_of_growth_finds_a_table_without_a_bound() -> None:
    class Hidden:
        __module__ = "dmssd.hidden"

        def __init__(self) -> None:
            self.named: RecentTable[int, Any] = RecentTable(5)
            self.table = {number: {"deep": list(range(number))} for number in range(3)}

    core = Hidden()
    assert growth.overgrown(core) == []
    core.table[2]["deep"] = list(range(growth.SMALL + 1))
    assert growth.overgrown(core) == [f"Hidden.Hidden.table holds {growth.SMALL + 1}, {growth.SMALL} are promised"]


# -- floods of identities: each input is another one

LINK = LinkNumber(2)
MANY = 3000


def lonely() -> SecureNode:
    secure = SecureNode(NodeSettings("me"), Identity(b"M" * 32), {}, random.Random(1), random.Random(2).randbytes)
    secure.handle(LinkUp(LINK, "eth0", 1), Instant(0))
    return secure


def identity(number: int) -> NodeId:
    return NodeId(number.to_bytes(20, "big"))


@pytest.mark.parametrize("ours", [True, False], ids=["of this mesh", "of others"])
def test_greetings_of_thousands_of_identities_fill_no_table_beyond_its_bound(ours: bool) -> None:
    secure = lonely()
    mesh = secure.credentials.mesh if ours else secure.credentials.identity.node[:16]
    for number in range(1, MANY):
        greeting = GREETING_CODEC.encode(Greeting(identity(number), f"n{number}", mesh))
        payload = bytes((WIRE_VERSION, KIND_GREETING)) + greeting
        secure.handle(Datagram(LINK, f"fe80::{number:x}", payload), Instant(number * 10 * MILLISECOND))
    assert growth.overgrown(secure) == []


def test_sessions_of_thousands_of_strangers_fill_no_table_beyond_its_bound() -> None:
    node = lonely().node
    for number in range(1, MANY):
        path = LinkPath(LINK, f"fe80::{number:x}")
        now = Instant(number * 10 * MILLISECOND)
        node.handle(PeerUp(identity(number), "", path, member=False, restarted=False), now)
        node.handle(PeerSpoke(identity(number), path, member=False, payload=b"\x03frame"), now)
    assert growth.overgrown(node) == []
    assert list(node.certified) == []


def test_half_messages_of_a_member_fill_no_table_beyond_its_bound() -> None:
    core = Fragments()
    for number in range(PARTIALS_MAX + 50):
        core.collect(identity(1), number.to_bytes(4, "big") + b"\0\0\0\2piece")
    assert growth.overgrown(core) == []
