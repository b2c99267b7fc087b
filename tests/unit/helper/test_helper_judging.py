"""What the helper reads, allows and refuses; nothing is done here."""

import json
import os
import random
import stat

import pytest

from dmssd.helper.judging import OpenNamespace, Systemctl, judge
from dmssd.helper.policy import ENTRIES_MAX, Ownership, Policy, demand_roots_own, read_policy
from dmssd.helper.protocol import (
    MESSAGE_BYTES_MAX,
    Answer,
    OpenNetns,
    Restart,
    SetCpus,
    Start,
    Stop,
    decode_answer,
    decode_request,
    encode,
)
from sansio.errors import ConfigError, RemoteProtocolError, RequestError

DAEMON = 990
ALL = Policy(namespaces=("blue",), units=("app.service",), cpusets=("db.service",))
REQUESTS = [
    OpenNetns("blue"),
    SetCpus("db.service", "0-3,8"),
    SetCpus("db.service", "0", "0-1"),
    Start("app.service"),
    Stop("app.service"),
    Restart("app.service"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_request_comes_through_as_it_was_sent(request_) -> None:
    assert decode_request(encode(request_)) == request_


@pytest.mark.parametrize(
    ("request_", "deed"),
    [
        (OpenNetns("blue"), OpenNamespace("blue")),
        (Start("app.service"), Systemctl(("start", "--", "app.service"))),
        (Stop("app.service"), Systemctl(("stop", "--", "app.service"))),
        (Restart("app.service"), Systemctl(("restart", "--", "app.service"))),
        (
            SetCpus("db.service", "0-3,8"),
            Systemctl(("set-property", "--runtime", "--", "db.service", "AllowedCPUs=0-3,8")),
        ),
        (
            SetCpus("db.service", "0", "1"),
            Systemctl(("set-property", "--runtime", "--", "db.service", "AllowedCPUs=0", "AllowedMemoryNodes=1")),
        ),
    ],
    ids=str,
)
def test_what_root_allowed_is_done_for_the_daemon_and_for_root(request_, deed) -> None:
    assert judge(request_, DAEMON, DAEMON, ALL) == deed
    assert judge(request_, 0, DAEMON, ALL) == deed


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_nothing_is_allowed_unless_root_wrote_it(request_) -> None:
    for peer in (DAEMON, 0):
        with pytest.raises(RequestError, match=r"root has not allowed it: add .* in /etc/dmssd/helper.toml"):
            judge(request_, peer, DAEMON, Policy())


def test_what_is_allowed_of_one_verb_is_not_of_another() -> None:
    for refused in (Start("db.service"), SetCpus("app.service", "0"), OpenNetns("app.service"), Start("blue.service")):
        with pytest.raises(RequestError):
            judge(refused, DAEMON, DAEMON, ALL)


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_nobody_but_the_daemon_and_root_is_heard(request_) -> None:
    for peer, daemon in ((1000, DAEMON), (1000, None), (65534, DAEMON)):
        with pytest.raises(RequestError, match="neither root nor the daemon's"):
            judge(request_, peer, daemon, ALL)


@pytest.mark.parametrize(
    "message",
    [
        {"verb": "open-netns", "name": "../../proc/1/ns/net"},
        {"verb": "open-netns", "name": ".."},
        {"verb": "open-netns", "name": "."},
        {"verb": "open-netns", "name": ""},
        {"verb": "open-netns", "name": "a/b"},
        {"verb": "open-netns", "name": "blue\n"},
        {"verb": "open-netns", "name": "blue\u0000"},
        {"verb": "open-netns", "name": "x" * 65},
        {"verb": "open-netns", "name": 7},
        {"verb": "open-netns"},
        {"verb": "open-netns", "name": "blue", "as": "root"},
        {"verb": "start", "unit": "--root=/tmp.service"},
        {"verb": "start", "unit": "-H.service"},
        {"verb": "start", "unit": "app"},
        {"verb": "start", "unit": "app.mount"},
        {"verb": "start", "unit": "app.service other.service"},
        {"verb": "start", "unit": "../app.service"},
        {"verb": "start", "unit": "app*.service"},
        {"verb": "start", "unit": "x" * 201 + ".service"},
        {"verb": "start", "unit": ["app.service"]},
        {"verb": "set-cpus", "unit": "db.service", "cpus": ""},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "3-1"},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "0 1"},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "8192"},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "0,"},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "0", "mems": "all"},
        {"verb": "set-cpus", "unit": "db.service", "cpus": ",".join("0" * 65)},
        {"verb": "set-cpus", "unit": "db.service", "cpus": "\u0663"},
        {"verb": "exec", "unit": "app.service"},
        {"verb": "mask", "unit": "app.service"},
        {"unit": "app.service"},
        {"verb": None},
        [],
        "start",
    ],
    ids=str,
)
def test_what_is_not_on_the_list_is_refused(message) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_request(json.dumps(message).encode())


def test_more_than_a_message_may_have_is_refused_unread() -> None:
    padded = encode(Start("app.service")) + b" " * MESSAGE_BYTES_MAX
    with pytest.raises(RemoteProtocolError, match="more than 1024 bytes"):
        decode_request(padded)


def test_arbitrary_bytes_are_refused_and_nothing_else() -> None:
    rng = random.Random(4)
    samples = [encode(each) for each in REQUESTS]
    known = set(REQUESTS)
    for _ in range(20_000):
        payload = bytearray(rng.choice(samples))
        for _ in range(rng.randrange(1, 4)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        try:
            request = decode_request(bytes(payload))
        except RemoteProtocolError:
            continue
        # What is still a request names nothing but itself; that is refused unless it is one of ours.
        if request not in known:
            try:
                deed = judge(request, DAEMON, DAEMON, ALL)
            except RequestError:
                continue
            assert isinstance(deed, Systemctl)
            assert deed.arguments[:4] == ("set-property", "--runtime", "--", "db.service")
    for payload in (b"", b"\xff" * 8, b"[" * 1000, rng.randbytes(500)):
        with pytest.raises(RemoteProtocolError):
            decode_request(payload)


def test_an_answer_fits_whatever_it_quotes() -> None:
    for text in ("\u0000" * 5000, "\u20ac" * 5000, "a" * 5000):
        payload = encode(Answer(ok=False, error=text))
        assert len(payload) <= MESSAGE_BYTES_MAX
        assert text.startswith(decode_answer(payload).error)
    with pytest.raises(RemoteProtocolError):
        decode_answer(b'{"ok": 1}')


def test_the_policy_is_read_whole_or_not_at_all() -> None:
    text = b'namespaces = ["blue"]\nunits = ["app.service"]\ncpusets = ["db.service"]\n'
    assert read_policy(text) == ALL
    assert read_policy(b"") == Policy()
    mistakes = [b"units = [", b'unit = ["app.service"]', b'units = ["app*.service"]', b'units = "app.service"', b"\xff"]
    mistakes += [
        b'namespaces = ["../x"]',
        b'units = ["a.service", "a.service"]',
        b"#" * 70_000,
        b"units = " + b"[" * 9999,
    ]
    mistakes += [("units = " + json.dumps([f"a{n}.service" for n in range(ENTRIES_MAX + 1)])).encode()]
    for mistake in mistakes:
        with pytest.raises(ConfigError):
            read_policy(mistake)


@pytest.mark.parametrize(
    ("mode", "uid", "is_roots"),
    [
        (stat.S_IFREG | 0o644, 0, True),
        (stat.S_IFREG | 0o600, 0, True),
        (stat.S_IFREG | 0o664, 0, False),
        (stat.S_IFREG | 0o646, 0, False),
        (stat.S_IFREG | 0o600, DAEMON, False),
        (stat.S_IFIFO | 0o600, 0, False),
        (stat.S_IFLNK | 0o777, 0, False),
    ],
)
def test_a_policy_that_others_could_have_written_allows_nothing(mode: int, uid: int, is_roots: bool) -> None:
    if is_roots:
        demand_roots_own("f", Ownership(mode, uid), "file")
        return
    with pytest.raises(ConfigError, match="nothing is allowed"):
        demand_roots_own("f", Ownership(mode, uid), "file")


def test_the_installed_policy_allows_nothing() -> None:
    root = os.path.dirname(__file__)
    with open(os.path.join(root, "../../../packaging/deb/helper.toml"), "rb") as file:
        assert read_policy(file.read()) == Policy()
