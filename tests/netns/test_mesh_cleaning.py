"""A daemon that is gone for good leaves nothing: the namespace is what it was before it ever ran, setting by setting.

n1 ═════ n2 ═════ n3        n2 is prepared so that the daemon has every kind of thing to change
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.kernel import ip
from tests.netns.mesh import until

pytestmark = pytest.mark.netns

NAME = f"cl{os.getpid()}"
DUMPS = {
    "routes": ["ip", "-d", "-o", "route", "show", "table", "all"],
    "routes6": ["ip", "-6", "-d", "-o", "route", "show", "table", "all"],
    "nexthops": ["ip", "-d", "-o", "nexthop"],
    "rules": ["sh", "-c", "ip rule; ip -6 rule"],
    "addresses": ["ip", "-d", "-o", "addr"],
    "nftables": ["nft", "list", "ruleset"],
    "settings": ["sh", "-c", "grep -rs '' /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/core || true"],
}
BEFORE = {
    "net/ipv4/nexthop_compat_mode": "1",
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv6/conf/to-n1/accept_dad": "1",
    "net/ipv6/conf/to-n1/forwarding": "1",
    "net/ipv6/conf/to-n3/accept_dad": "2",
}


def dump(lab: Lab) -> dict[str, list[str]]:
    """All that n2's namespace has, sorted: the kernel lists routes in the order in which they came."""
    found = {}
    for what, command in DUMPS.items():
        done = lab.exec("n2", command)
        assert done.returncode == 0, done.stderr
        found[what] = sorted(done.stdout.splitlines())
    return found


def setting(lab: Lab, key: str, value: str) -> None:
    done = lab.exec("n2", ["sh", "-c", f"echo {value} > /proc/sys/{key}"])
    assert done.returncode == 0, done.stderr


def read(lab: Lab, key: str) -> str:
    return lab.exec("n2", ["cat", f"/proc/sys/{key}"]).stdout.strip()


def clean(lab: Lab, status: int = 0) -> dict[str, object]:
    config = lab.log("n2").parent / "config.toml"
    done = lab.exec("n2", [sys.executable, "-m", "dmssd", "clean", "--config", str(config), "-o", "json"])
    assert done.returncode == status, done.stderr + done.stdout
    if not done.stdout:
        return {"error": done.stderr}
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.fixture
def prepared() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("line:3", NAME, tp=1) as lab:
        for key, value in BEFORE.items():
            setting(lab, key, value)
        # No link-local address, and the kernel told to make none.
        ip("-n", lab.design.node("n2").namespace, "link", "set", "to-n3", "addrgenmode", "none")
        ip("-n", lab.design.node("n2").namespace, "addr", "flush", "dev", "to-n3", "scope", "link")
        until(lambda: settled(lab), "the kernel has done what it does by itself")
        yield lab


def settled(lab: Lab) -> bool:
    """Whether n2 has the link-local address that it is to have, past duplicate detection, and its routes."""
    before = dump(lab)
    text = "\n".join(before["addresses"])
    return (
        "to-n1    inet6 fe80::" in text and "tentative" not in text and any("fe80::/64" in r for r in before["routes6"])
    )


def forms(lab: Lab) -> None:
    lab.start_daemons()
    lab.wait_ready()
    lab.found()
    lab.admit_all()
    lab.wait_converged()


def stored(lab: Lab) -> Path:
    found = list(lab.log("n2").parent.rglob("originals"))
    assert len(found) == 1
    return found[0]


def test_what_a_killed_daemon_left_is_taken_away_and_every_setting_is_what_it_was(prepared: Lab) -> None:
    lab, before = prepared, dump(prepared)
    forms(lab)
    assert mesh.pings(lab, "n1", "n3")
    changed = dump(lab)
    assert {what for what in DUMPS if changed[what] != before[what]} == DUMPS.keys() - {"rules"}
    refusal = clean(lab, 1)["error"]
    assert "the daemon runs" in str(refusal)
    assert dump(lab)["nftables"] == changed["nftables"], "a refusal changes nothing"

    # Two deaths and starts: what the first daemon set is not what the second finds to be the original.
    for _ in range(2):
        lab.kill("n2")
        lab.start_daemons(["n2"])
        lab.wait_ready(["n2"])
    until(lambda: mesh.pings(lab, "n1", "n3"), "n2 forwards again")
    lab.kill("n2")
    assert mesh.pings(lab, "n1", "n3"), "forwarding outlives the daemon"

    answer = clean(lab)
    after = dump(lab)
    assert after == before, [line for what in DUMPS for line in set(after[what]) ^ set(before[what])]
    assert answer["guard"] is True
    assert answer["problems"] == []
    assert all(answer[what] for what in ("routes", "nexthops", "addresses", "settings")), answer
    assert not mesh.pings(lab, "n1", "n3", seconds=0.3)

    again = clean(lab)
    assert (again["routes"], again["nexthops"], again["settings"], again["addresses"]) == (0, 0, [], [])
    assert again["guard"] is False
    assert dump(lab) == before
    # The same member, with all that it had.
    lab.start_daemons(["n2"])
    lab.wait_ready(["n2"])
    until(lambda: mesh.pings(lab, "n1", "n3"), "n2 forwards again")


def test_a_value_that_somebody_else_set_meanwhile_stays_and_is_told(prepared: Lab) -> None:
    lab = prepared
    forms(lab)
    lab.kill("n2")
    key = "net/ipv4/conf/to-n1/rp_filter"
    assert read(lab, key) == "2"
    setting(lab, key, "1")
    answer = clean(lab)
    assert read(lab, key) == "1"
    assert f"{key}: is 1, which dmssd did not set" in str(answer["left"])
    assert read(lab, "net/ipv4/conf/to-n3/rp_filter") == "0"


def test_a_record_of_another_start_of_the_machine_puts_nothing_back(prepared: Lab) -> None:
    lab = prepared
    forms(lab)
    lab.kill("n2")
    record = json.loads(stored(lab).read_text())
    stored(lab).write_text(json.dumps({**record, "place": "another start"}))
    answer = clean(lab)
    assert answer["settings"] == []
    assert read(lab, "net/ipv4/conf/to-n1/forwarding") == "1"
    assert answer["routes"], "what carries our number goes all the same"


def test_the_guard_stays_where_forwarding_could_not_be_ended(prepared: Lab) -> None:
    lab = prepared
    forms(lab)
    lab.kill("n2")
    record = json.loads(stored(lab).read_text())
    key = "net/ipv4/nexthop_compat_mode"
    record["settings"][key][0] = "7"  # which the kernel refuses
    stored(lab).write_text(json.dumps(record))
    answer = clean(lab, 1)
    assert key in str(answer["problems"])
    assert "the nftables table stays" in str(answer["problems"])
    assert answer["guard"] is False
    assert "table inet dmssd" in "\n".join(dump(lab)["nftables"])
    assert answer["routes"], "the rest is done"
    assert answer["addresses"]
    # What could not be done can be repeated once its cause is gone.
    record["settings"][key][0] = "1"
    stored(lab).write_text(json.dumps(record))
    assert clean(lab)["guard"] is True
    assert read(lab, key) == "1"
