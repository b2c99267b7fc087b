"""What strangers on a link may throw at a daemon: it is counted, and nobody notices anything else.

A program in the namespace of n1 speaks to the daemon of n2 from the very address that the daemon of n1 has, as anybody
on a real link could: random bytes, the mesh's own datagrams replayed, cut and altered, greetings of other meshes.
"""

import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

from benchmarks.flood import flood
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from routing.discovery import GREETING_CODEC, Greeting
from sansio.ids import MeshId, NodeId
from tests.netns import mesh
from tests.netns.mesh import dmssd, rejected, rss_bytes, states, until

pytestmark = pytest.mark.netns

NAME = f"kg{os.getpid()}"
PORT = 4747
GROWTH_BYTES_MAX = 12 << 20

THROW = """
    import json, socket, sys, time
    task = json.load(sys.stdin)
    index = socket.if_nametoindex(task["interface"])
    out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, task["hops"])
    out.bind((task["source"], 0, 0, index if task["source"].startswith("fe80") else 0))
    for number, payload in enumerate(task["payloads"]):
        out.sendto(bytes.fromhex(payload), (task["to"], task["port"], 0, index))
        if number % 20 == 19:
            time.sleep(0.005)  # a link has a rate
"""

LISTEN = """
    import json, select, socket, struct, sys, time
    task = json.load(sys.stdin)
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    tap.bind((task["interface"], 3))
    heard, end = [], time.monotonic() + task["seconds"]
    while len(heard) < task["count"] and time.monotonic() < end:
        if select.select([tap], [], [], 0.5)[0]:
            packet, (_, protocol, kind, *_) = tap.recvfrom(2048)
            # IPv6 and UDP without extension headers, to the mesh's port, sent from here, sealed
            port, payload = packet[42:44], packet[48:]
            if (protocol, kind, packet[6], port) == (0x86DD, 4, 17, struct.pack("!H", task["port"])):
                if payload[:2] == bytes((1, 4)) and packet[24] == 0xFE:
                    heard.append(payload.hex())
    print(json.dumps(heard))
"""


@pytest.fixture(scope="module")
def line() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:3", NAME, tp=1) as lab:
        yield lab


def program(lab: Lab, node: str, code: str, task: dict[str, object]) -> str:
    """Run a program in a node's namespace; what it printed."""
    argv = lab.exec_argv(node, [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)])
    done = subprocess.run(argv, input=json.dumps(task), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def throw(lab: Lab, payloads: list[bytes], *, hops: int = 255, source: str = "", to: str = "") -> None:
    """Send datagrams from n1 to the daemon of n2."""
    task = {
        "interface": "to-n2",
        "source": source or mesh.link_local(lab, "n1", "to-n2"),
        "to": to or mesh.link_local(lab, "n2", "to-n1"),
        "port": PORT,
        "hops": hops,
        "payloads": [payload.hex() for payload in payloads],
    }
    program(lab, "n1", THROW, task)


@pytest.fixture(scope="module")
def heard(line: Lab) -> list[bytes]:
    """Sealed datagrams that n1 has sent to n2, from the wire."""
    task = {"interface": "to-n2", "port": PORT, "count": 40, "seconds": mesh.SECONDS}
    payloads = [bytes.fromhex(payload) for payload in json.loads(program(line, "n1", LISTEN, task))]
    assert len(payloads) == 40
    return payloads


@pytest.fixture
def lab(line: Lab) -> Iterator[Lab]:
    """The mesh before and after: nobody went down, restarted or lost a route, and pings pass."""
    until(lambda: mesh.all_up(line), "every node sees every other up")
    until(lambda: mesh.pings(line, "n1", "n3"), "n1 reaches n3")
    pids = [line.running()[node] for node in ("n1", "n2")]
    lengths = {node: len(line.log(node).read_text()) for node in line.nodes}
    yield line
    assert [line.running()[node] for node in ("n1", "n2")] == pids
    # A suspicion may come of a busy machine, and is no verdict; a death would stand in the log.
    until(lambda: mesh.all_up(line), "every node sees every other up")
    assert mesh.wrong_routes(line, mesh.arcs(line)) == []
    assert mesh.pings(line, "n1", "n3")
    for node in line.nodes:
        said = line.log(node).read_text()[lengths[node] :]
        assert "neighbour.down" not in said
        assert "member.down" not in said
        assert "Traceback" not in said


def noise(count: int, seed: int, head: bytes = b"") -> list[bytes]:
    chance = random.Random(seed)
    return [head + chance.randbytes(chance.randrange(1200)) for _ in range(count)]


def altered(payloads: list[bytes]) -> list[bytes]:
    chance = random.Random(4)
    copies = []
    for payload in payloads * 10:
        changed = bytearray(payload)
        changed[chance.randrange(6, len(changed))] ^= 1 << chance.randrange(8)  # behind version, kind and index
        copies.append(bytes(changed))
    return copies


def truncated(payloads: list[bytes]) -> list[bytes]:
    return [payload[:length] for payload in payloads[:8] for length in range(2, 30)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda heard: noise(600, 1), "unknown version", id="random bytes"),
        pytest.param(lambda heard: noise(300, 2, b"\x02\x04"), "unknown version", id="another version"),
        pytest.param(lambda heard: [b"", b"\x01", b"\x01\x04", b"\x01\x04abc"] * 20, "truncated datagram", id="short"),
        pytest.param(lambda heard: truncated(heard), "truncated datagram", id="cut"),
        pytest.param(lambda heard: noise(300, 3, b"\x01\x04"), "unknown session", id="of no session"),
        pytest.param(lambda heard: heard * 10, "replayed datagram", id="replayed"),
        pytest.param(lambda heard: altered(heard), "datagram cannot be authenticated", id="altered"),
        pytest.param(lambda heard: noise(300, 5, b"\x01\x00"), "greeting cannot be decoded", id="no greeting"),
        pytest.param(lambda heard: [b"\x01\x07" + bytes(60)] * 20, "unknown kind of datagram", id="unknown kind"),
    ],
)
def test_garbage_is_counted_by_reason_and_changes_nothing(
    lab: Lab, heard: list[bytes], make: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    payloads = make(heard)
    before = rejected(lab, "n2")
    throw(lab, payloads)
    # Some may be lost in a full socket buffer; and what is too fast may be refused for that alone.
    until(lambda: rejected(lab, "n2").get(reason, 0) > before.get(reason, 0), f"n2 has counted {reason!r}")
    whole = sum(rejected(lab, "n2").values()) - sum(before.values())
    assert whole >= len(payloads) // 4, rejected(lab, "n2")


def test_handshakes_of_random_bytes_are_refused_and_do_not_keep_out_who_belongs_here(lab: Lab) -> None:
    until(lambda: mesh.at_rest(lab, mesh.REST_S), "nothing has changed for a while")
    for kind in (1, 2, 3):
        before = sum(rejected(lab, "n2").values())
        throw(lab, noise(300, kind, bytes((1, kind))))
        until(lambda before=before: sum(rejected(lab, "n2").values()) >= before + 30, "n2 has counted them")
    # Just after, a neighbour that has lost its sessions gets in again.
    lab.restart("n3")
    until(lambda: mesh.all_up(lab), "n3 is up everywhere again")
    mesh.until_neighbour(lab, "n2", "n3", "up")
    mesh.routes_become(lab, mesh.arcs(lab))


def test_greetings_of_other_meshes_are_heard_and_lead_to_nothing(lab: Lab) -> None:
    chance = random.Random(6)
    greetings = [
        GREETING_CODEC.encode(
            Greeting(NodeId(chance.randbytes(20)), f"stranger-{number}", MeshId(chance.randbytes(16)), True)
        )
        for number in range(400)
    ]
    throw(lab, [b"\x01\x00" + greeting for greeting in greetings])
    greeters = lab.client("n2").get("greeters")
    assert len(greeters) < 10  # one for each address at most, whatever it calls itself
    assert {member["name"] for member in lab.client("n2").get("members")} == set(lab.nodes)
    assert lab.client("n2").get("status")["verdict"] == "ok"


def test_greetings_in_the_name_of_members_lead_to_nothing(lab: Lab) -> None:
    """Somebody claims to be n3, and many that do not exist, in this very mesh: a greeting proves nothing."""
    status = lab.client("n3").get("status")
    node, this = NodeId(bytes.fromhex(status["node"])), MeshId(bytes.fromhex(status["mesh"]))
    chance = random.Random(7)
    claims = [Greeting(node, "n3", this, True)] * 50
    claims += [Greeting(NodeId(chance.randbytes(20)), "n3", this, True) for _ in range(200)]
    throw(lab, [b"\x01\x00" + GREETING_CODEC.encode(claim) for claim in claims])
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    assert {member["name"] for member in lab.client("n2").get("members")} == set(lab.nodes)
    assert [row["name"] for row in lab.client("n2").get("status")["neighbours"]] == ["n1", "n3"]


def test_what_no_neighbour_on_the_link_can_have_sent_is_counted_too(lab: Lab) -> None:
    before = sum(rejected(lab, "n2").values())
    throw(lab, noise(50, 8), hops=64)  # a router has lowered the hop limit, or might have
    until(lambda: sum(rejected(lab, "n2").values()) >= before + 40, "n2 has counted them", seconds=10)


def test_a_flood_of_garbage_does_not_make_the_daemon_grow(lab: Lab, heard: list[bytes]) -> None:
    mixed = noise(700, 9) + noise(300, 10, b"\x01\x00") + noise(500, 11, b"\x01\x01") + altered(heard) + heard * 3
    random.Random(12).shuffle(mixed)
    throw(lab, mixed)
    pid = lab.running()["n2"]
    before = rss_bytes(pid)
    for _ in range(4):
        throw(lab, mixed)
    assert dmssd(lab, "n2", "status").returncode == 0
    assert rss_bytes(pid) - before < GROWTH_BYTES_MAX


def test_a_flood_of_fifty_thousand_datagrams_a_second_takes_nobody_down_and_no_memory(lab: Lab) -> None:
    pid = lab.running()["n2"]
    before, counted = rss_bytes(pid), sum(rejected(lab, "n2").values())
    sent = sum(flood(lab, "n1", "n2", head, seconds=1.5) for head in ("", "0104"))
    assert sent > 1000
    until(lambda: sum(rejected(lab, "n2").values()) > counted + sent // 10, "n2 has counted its share of them")
    assert rss_bytes(pid) - before < GROWTH_BYTES_MAX
    # Under a flood on a busy machine a member may be suspected for a moment; nobody goes down.
    until(lambda: dmssd(lab, "n2", "status").returncode == 0, "all is well with n2 again")
    assert "down" not in states(lab, "n1").values()


def test_status_as_typed_shows_what_was_refused_and_stays_ok(lab: Lab) -> None:
    throw(lab, noise(20, 13, b"\x02\x04"))
    until(lambda: "unknown version" in rejected(lab, "n2"), "n2 has counted them")
    done = dmssd(lab, "n2", "status")
    assert done.returncode == 0
    assert "rejected from outside: " in done.stdout
    assert "x unknown version" in done.stdout
