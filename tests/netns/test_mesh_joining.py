"""Getting into a mesh, and not getting in: real daemons on a line, each at first alone in a mesh of its own.

    n1 (founder) - n2 - n3 - n4 - n5

n2 and n3 are members; n4 is the one that tries, and n5 has a mesh of its own all the time.
"""

import base64
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from dmssd.security.token import Token
from tests.netns import mesh
from tests.netns.mesh import dmssd, only_line, states, until

pytestmark = pytest.mark.netns

NAME = f"kj{os.getpid()}"
FAMILIAR = {"n1": "up", "n2": "up", "n3": "up"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:5", NAME, tp=0, join=False) as lab:
        lab.client("n1").post("init", {"name": "home"})
        lab.client("n5").post("init", {"name": "away"})
        yield lab


def token(lab: Lab, node: str, *arguments: str) -> str:
    """As typed: the token alone on stdout."""
    done = dmssd(lab, node, "token", "create", *arguments)
    assert done.returncode == 0, done.stderr
    return only_line(done.stdout)


def mesh_of(lab: Lab, node: str) -> tuple[str, str]:
    status = lab.client(node).get("status")
    return status["mesh"], status["mesh_name"]


def refusal(lab: Lab, node: str, peer: str, token: str, *arguments: str) -> str:
    """The one line with which a join ends that must fail."""
    done = dmssd(lab, node, "join", peer, "--token", token, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    # Whoever waits long is told so now and then; what counts is the last line.
    errors = [line for line in done.stderr.splitlines() if not re.match(r"joining through .* s of at most", line)]
    return only_line("\n".join(errors))


@pytest.fixture(scope="module")
def spent(lab: Lab) -> str:
    """A token for one join, which is that of n2 (``members``)."""
    return token(lab, "n1")


@pytest.fixture(scope="module")
def members(lab: Lab, spent: str) -> Lab:
    """n2 and n3 have joined: asked for by whichever test comes first."""
    done = dmssd(lab, "n2", "join", "%to-n1", "--token", spent)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "joined mesh home"), done.stderr
    assert mesh_of(lab, "n2") == mesh_of(lab, "n1")
    # n3 and the issuer n1 are not adjacent: n2 relays.
    done = dmssd(lab, "n3", "join", "n2", "--token", token(lab, "n1"))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "joined mesh home"), done.stderr
    assert mesh_of(lab, "n3") == mesh_of(lab, "n1")
    return lab


@pytest.fixture
def undisturbed(members: Lab) -> Iterator[Lab]:
    """The mesh of three before and after: nobody came, nobody went, nobody restarted, and it forwards."""
    for node in FAMILIAR:
        until(lambda node=node: states(members, node) == FAMILIAR, f"{node} sees the three members up")
    until(lambda: mesh.pings(members, "n1", "n3"), "n1 reaches n3")
    pids, outside = members.running(), mesh_of(members, "n4")
    yield members
    assert [states(members, node) for node in FAMILIAR] == [FAMILIAR] * 3
    assert mesh.pings(members, "n1", "n3")
    assert members.running() == pids
    assert mesh_of(members, "n4") == outside
    assert states(members, "n4") == {"n4": "up"}


def counted(lab: Lab, node: str, reason: str) -> int:
    return sum(count for said, count in mesh.rejected(lab, node).items() if reason in said)


def test_a_node_joins_through_the_founder_by_interface_and_the_next_through_a_member_by_name(members: Lab) -> None:
    for node in FAMILIAR:
        until(lambda node=node: states(members, node) == FAMILIAR, f"{node} sees the three members up")
    until(lambda: mesh.pings(members, "n1", "n3"), "n1 reaches n3")


@pytest.mark.parametrize("part", ["secret", "id"])
def test_a_wrong_token_is_refused_and_counted_by_its_issuer(undisturbed: Lab, part: str) -> None:
    good = token(undisturbed, "n1")
    data = bytearray(base64.urlsafe_b64decode(good.removeprefix("dmss1.") + "=="))
    data[-1 if part == "secret" else -17] ^= 1
    bad = "dmss1." + base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()
    parsed, forged = Token.parse(good), Token.parse(bad)
    assert (parsed.mesh, parsed.issuer) == (forged.mesh, forged.issuer)
    assert (parsed.secret != forged.secret, parsed.id != forged.id) == (part == "secret", part == "id")
    says, reason = {
        "secret": ("secret is wrong", "join refused: this token's secret is wrong"),
        "id": ("not known to its issuer", "join refused: this token is not known to its issuer"),
    }[part]
    before = counted(undisturbed, "n1", reason)
    line = refusal(undisturbed, "n4", "n3", bad)
    assert line.startswith("Error: ")
    assert says in line
    assert ": " in line.removeprefix("Error: ")  # what is wrong, then what to do
    assert counted(undisturbed, "n1", reason) > before


def test_a_used_token_is_refused_and_counted_by_its_issuer(undisturbed: Lab, spent: str) -> None:
    reason = "join refused: this token has been used up"
    before = counted(undisturbed, "n1", reason)
    line = refusal(undisturbed, "n4", "n3", spent)
    assert "used up" in line
    assert "dmssd token create" in line
    assert counted(undisturbed, "n1", reason) > before


def test_an_expired_token_is_refused_and_counted_by_its_issuer(undisturbed: Lab) -> None:
    reason = "join refused: this token has expired"
    before = counted(undisturbed, "n1", reason)
    short = token(undisturbed, "n1", "--ttl", "1s")
    made = time.monotonic()
    until(lambda: time.monotonic() > made + 1.1, "a second goes by")
    line = refusal(undisturbed, "n4", "n3", short)
    assert "has expired" in line
    assert "dmssd token create" in line
    assert counted(undisturbed, "n1", reason) > before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-9], "damaged or incomplete: copy the whole line"),
        (lambda text: text[:20] + "!" + text[21:], "damaged or incomplete: copy the whole line"),
        (lambda text: text.removeprefix("dmss1."), "is not a join token"),
        (lambda text: "", "needs the argument 'token'|text of 1 to|not a join token"),
    ],
)
def test_a_damaged_token_is_refused_before_anybody_is_asked(undisturbed: Lab, damage: Any, says: str) -> None:
    before = mesh.rejected(undisturbed, "n1")
    line = refusal(undisturbed, "n4", "n3", damage(token(undisturbed, "n1")))
    assert re.search(says, line), line
    assert mesh.rejected(undisturbed, "n1") == before


def test_a_token_of_another_mesh_does_not_open_this_one_and_says_who_greets_here(undisturbed: Lab) -> None:
    line = refusal(undisturbed, "n4", "n3", token(undisturbed, "n5"), "--timeout", "2s")
    assert "no member of the token's mesh called 'n3'" in line
    assert "heard here: n3, n5" in line


def test_an_issuer_that_is_down_is_named_as_what_is_missing(undisturbed: Lab) -> None:
    good = token(undisturbed, "n1")
    nobody = Token.parse(good)
    absent = Token(nobody.mesh, type(nobody.issuer)(bytes(20)), nobody.id, nobody.secret)
    line = refusal(undisturbed, "n4", "n3", str(absent), "--timeout", "3s")
    assert "issuer cannot be reached" in line


def test_a_peer_that_is_not_there_is_said_to_be_silent(undisturbed: Lab) -> None:
    line = refusal(undisturbed, "n4", "nobody", token(undisturbed, "n1"), "--timeout", "2s")
    assert "'nobody'" in line


def test_a_member_of_a_populated_mesh_joins_another_only_if_it_says_leave_first(members: Lab) -> None:
    lab = members
    done = dmssd(lab, "n4", "join", "%to-n3", "--token", token(lab, "n1"))
    assert done.returncode == 0, done.stderr
    everybody = FAMILIAR | {"n4": "up"}
    until(lambda: states(lab, "n4") == everybody, "n4 sees four members up")
    elsewhere = token(lab, "n5")
    line = refusal(lab, "n4", "n5", elsewhere)
    assert "--leave-first" in line
    assert "'home'" in line
    assert mesh_of(lab, "n4") == mesh_of(lab, "n1")
    assert states(lab, "n5") == {"n5": "up"}
    done = dmssd(lab, "n4", "join", "n5", "--token", elsewhere, "--leave-first")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "joined mesh away"), done.stderr
    assert mesh_of(lab, "n4") == mesh_of(lab, "n5")
    until(lambda: states(lab, "n5") == {"n4": "up", "n5": "up"}, "n5 sees n4 up")
    until(lambda: mesh.pings(lab, "n4", "n5"), "n4 reaches n5")
    for node in FAMILIAR:
        until(
            lambda node=node: states(lab, node)["n4"] in ("left", "down"), f"{node} sees that n4 is gone", seconds=120
        )
        assert {name: state for name, state in states(lab, node).items() if name != "n4"} == FAMILIAR
    assert not mesh.pings(lab, "n3", "n4", seconds=0.3)  # no route leads from one mesh into the other
