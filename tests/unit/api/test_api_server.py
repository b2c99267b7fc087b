"""The real server on a real unix socket; the daemon behind it is a small one at the Protocol seam."""

import asyncio
import grp
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dmssd.api import server as server_module
from dmssd.api import sockets
from dmssd.api.daemon import Daemon
from dmssd.api.events import EventHub, Subscription
from dmssd.api.server import BODY_BYTES_MAX, EVENT_STREAMS_MAX, AdminServer
from sansio.errors import AdmissionError, ConfigError, RequestError


class SmallDaemon:
    """Answers with what it was asked, and refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusal: Exception | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.finished: list[str] = []
        self.hub = EventHub()

    def query(self, name: str, arguments: Mapping[str, str]) -> Any:
        self.asked.append((name, dict(arguments)))
        if self.refusal is not None:
            raise self.refusal
        return {"query": name}

    async def request(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        self.asked.append((verb, dict(arguments)))
        await self.release.wait()
        if self.refusal is not None:
            raise self.refusal
        self.finished.append(verb)
        return {"verb": verb}

    def subscribe(self) -> Subscription:
        return self.hub.subscribe()


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[SmallDaemon]:
    daemon = SmallDaemon()
    server = AdminServer(daemon, path)
    await server.start()
    try:
        yield daemon
    finally:
        await server.stop()


def run(path: Path, claim: Callable[[SmallDaemon], Awaitable[None]]) -> None:
    async def main() -> None:
        async with served(path) as daemon, asyncio.timeout(20):
            await claim(daemon)

    asyncio.run(main())


async def raw(path: Path, request: bytes) -> tuple[int, dict[str, str], Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(head[0].split()[1]), headers, json.loads(body)


async def ask(path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, answer = await raw(path, head.encode() + body)
    return status, answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dmssd.sock"


QUERY_PATHS = [
    ("/v1/status", "status", {}),
    ("/v1/members", "members", {}),
    ("/v1/network/global", "network_global", {}),
    ("/v1/network/mwt?policy=spanning", "network_mwt", {"policy": "spanning"}),
    ("/v1/network/spt", "network_spt", {}),
    ("/v1/network/spt?node=Washington%20DC", "network_spt", {"node": "Washington DC"}),
    ("/v1/routes", "routes", {}),
    ("/v1/roles", "roles", {}),
    ("/v1/config", "config", {}),
    ("/v1/greeters", "greeters", {}),
]


def test_every_query_reaches_the_daemon_under_its_name(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        for target, name, _ in QUERY_PATHS:
            assert await ask(path, "GET", target) == (200, {"query": name})
        assert daemon.asked == [(name, arguments) for _, name, arguments in QUERY_PATHS]

    run(path, claim)


@pytest.mark.parametrize(
    ("verb", "body", "arguments"),
    [
        ("init", {"name": "abilene"}, {"name": "abilene"}),
        ("join", {"peer": "a", "token": "t"}, {"peer": "a", "token": "t"}),
        (
            "join",
            {"peer": "a", "token": "t", "name": "n", "leave_first": True, "timeout_s": 2.5},
            {"peer": "a", "token": "t", "name": "n", "leave_first": True, "timeout_s": 2.5},
        ),
        ("leave", {}, {}),
        ("leave", None, {}),
        ("token", {}, {"uses": 1, "ttl_s": 600}),
        ("token", {"uses": None, "ttl_s": 5}, {"uses": 1, "ttl_s": 5}),
        ("trace", {"destination": "b", "family": 6, "flow": 7}, {"destination": "b", "family": 6, "flow": 7}),
    ],
)
def test_every_request_reaches_the_daemon_with_typed_arguments(
    path: Path, verb: str, body: object, arguments: dict[str, Any]
) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        assert await ask(path, "POST", f"/v1/{verb}", data) == (200, {"verb": verb})
        assert daemon.asked == [(verb, arguments)]

    run(path, claim)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "says"),
    [
        ("GET", "/v1/nothing", b"", 404, "there is no /v1/nothing"),
        ("GET", "/v2/status", b"", 404, "there is no /v2/status"),
        ("POST", "/v1/status", b"{}", 405, "/v1/status does not take POST: use GET, HEAD"),
        ("GET", "/v1/join", b"", 405, "/v1/join does not take GET: use POST"),
        ("GET", "/v1/status?verbose=1", b"", 400, "has no argument 'verbose': it takes nothing"),
        ("GET", "/v1/network/mwt?policy=short", b"", 400, "policy must be one of shortest, spanning"),
        ("GET", f"/v1/network/spt?node={'a' * 1025}", b"", 400, "node must be text of 1 to 1024 characters"),
        ("GET", "/v1/events?since=1", b"", 400, "takes no arguments"),
        ("POST", "/v1/join", b"{not json", 400, "the body is not JSON"),
        ("POST", "/v1/join", b"\xff\xfe", 400, "the body is not JSON"),
        ("POST", "/v1/join", b"[" * 10_000, 400, "the body is not JSON"),
        ("POST", "/v1/join", b"[]", 400, "takes a JSON object"),
        ("POST", "/v1/join", b'{"token": "t"}', 400, "needs the argument 'peer'"),
        ("POST", "/v1/join", b'{"peer": 1, "token": "t"}', 400, "peer must be text"),
        ("POST", "/v1/join", b'{"peer": "", "token": "t"}', 400, "peer must be text"),
        (
            "POST",
            "/v1/join",
            b'{"peer": "a", "token": "t", "leave_first": 1}',
            400,
            "leave_first must be true or false",
        ),
        ("POST", "/v1/join", b'{"peer": "a", "token": "t", "timeout_s": 0}', 400, "timeout_s must be a number"),
        ("POST", "/v1/join", b'{"peer": "a", "token": "t", "timeout_s": 1e999}', 400, ""),
        ("POST", "/v1/join", b'{"peer": "a", "token": "t", "tokn": "t"}', 400, "has no argument 'tokn'"),
        ("POST", "/v1/token", b'{"uses": 0}', 400, "uses must be a whole number from 1 to 1000"),
        ("POST", "/v1/token", b'{"uses": true}', 400, "uses must be a whole number"),
        ("POST", "/v1/token", b'{"ttl_s": 1.5}', 400, "ttl_s must be a whole number"),
        ("POST", "/v1/trace", b'{"destination": "b", "family": 5}', 400, "family must be one of 4, 6"),
        ("POST", "/v1/trace", b'{"destination": "b", "family": 4.0}', 400, "family must be one of 4, 6"),
        ("POST", "/v1/trace", b'{"destination": "b", "family": 4, "flow": 65536}', 400, "flow must be a whole number"),
        ("POST", "/v1/init", b'"' + b"a" * BODY_BYTES_MAX + b'"', 413, f"larger than {BODY_BYTES_MAX} bytes"),
    ],
)
def test_a_bad_request_is_one_sentence_and_never_reaches_the_daemon(
    path: Path, method: str, target: str, body: bytes, status: int, says: str
) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        answered, answer = await ask(path, method, target, body)
        assert answered == status
        assert list(answer) == ["error"]
        assert says in answer["error"]
        assert "\n" not in answer["error"]
        assert daemon.asked == []

    run(path, claim)


@pytest.mark.parametrize(
    "error", [RequestError("no such node: see dmssd member list"), AdmissionError("token expired")]
)
def test_what_the_daemon_refuses_is_409_with_its_sentence(path: Path, error: Exception) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        daemon.refusal = error
        assert await ask(path, "GET", "/v1/network/spt?node=x") == (409, {"error": str(error)})
        assert await ask(path, "POST", "/v1/leave") == (409, {"error": str(error)})

    run(path, claim)


def test_metrics_are_text_and_nothing_that_one_can_post_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        monkeypatch.setattr(daemon, "query", lambda name, arguments: f"{name} 1\n")
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
        assert body == b"metrics 1\n"
        writer.close()
        assert (await ask(path, "POST", "/metrics"))[0] == 405
        assert (await ask(path, "GET", "/v1/metrics"))[0] == 404

    run(path, claim)


def test_a_wrong_method_names_the_right_one_in_its_header_too(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        _, headers, _ = await raw(path, b"DELETE /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert headers["allow"] == "POST"

    run(path, claim)


def test_a_request_runs_to_its_end_though_its_client_goes_away(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        daemon.release.clear()
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"POST /v1/leave HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        while not daemon.asked:
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        # The server has seen the end of that connection once it answers on a later one.
        await ask(path, "GET", "/v1/status")
        daemon.release.set()
        while not daemon.finished:
            await asyncio.sleep(0)

    run(path, claim)


async def open_stream(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def next_event(reader: asyncio.StreamReader) -> Any:
    await reader.readuntil(b"\r\n")  # the size of the chunk
    return json.loads(await reader.readuntil(b"\r\n"))


def test_events_published_once_the_stream_is_open_arrive_as_json_lines_in_order(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        reader, writer = await open_stream(path)
        for number in range(3):
            daemon.hub.publish({"time_s": 1.0, "kind": "member.down", "facts": {"n": number}})
        for number in range(3):
            assert (await next_event(reader))["facts"] == {"n": number}
        writer.close()

    run(path, claim)


def test_a_reader_that_leaves_is_unsubscribed_though_nothing_happens(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        _, writer = await open_stream(path)
        assert daemon.hub.readers == 1
        writer.close()
        while daemon.hub.readers:
            await asyncio.sleep(0)

    run(path, claim)


def test_event_streams_are_bounded(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        streams = [await open_stream(path) for _ in range(EVENT_STREAMS_MAX)]
        status, answer = await ask(path, "GET", "/v1/events")
        assert status == 503
        assert "close one" in answer["error"]
        assert daemon.hub.readers == EVENT_STREAMS_MAX
        for _, writer in streams:
            writer.close()

    run(path, claim)


def test_stop_ends_open_streams_at_once_and_removes_the_socket(path: Path) -> None:
    async def main() -> None:
        async with served(path), asyncio.timeout(20):
            reader, _ = await open_stream(path)
            loop = asyncio.get_running_loop()
            began = loop.time()
        assert loop.time() - began < server_module.SHUTDOWN_S
        await asyncio.wait_for(reader.read(), 5)

    asyncio.run(main())
    assert not path.exists()


def test_only_owner_and_group_may_open_the_socket(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660

    run(path, claim)


def test_the_socket_goes_to_the_group_dmssd_where_that_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to another group")
    monkeypatch.setattr(sockets, "SOCKET_GROUP", "daemon")
    sockets.listen(path).close()
    assert path.stat().st_gid == grp.getgrnam("daemon").gr_gid


def test_the_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.listen()
    dead.close()
    assert path.exists()

    async def claim(daemon: SmallDaemon) -> None:
        assert (await ask(path, "GET", "/v1/status"))[0] == 200

    run(path, claim)


def test_the_socket_of_a_live_daemon_is_an_error_and_stays(path: Path) -> None:
    async def claim(daemon: SmallDaemon) -> None:
        with pytest.raises(ConfigError, match="is served by a running daemon: stop that first"):
            await AdminServer(daemon, path).start()
        assert (await ask(path, "GET", "/v1/status"))[0] == 200

    run(path, claim)


def test_a_daemon_too_busy_to_accept_is_not_taken_for_dead(path: Path) -> None:
    busy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    busy.bind(str(path))
    busy.listen(0)
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(4)]
    for client in waiting:
        client.connect_ex(str(path))
    with pytest.raises(ConfigError, match="is served by a running daemon"):
        sockets.listen(path)
    for each in (busy, *waiting):
        each.close()


def test_a_file_that_is_no_socket_is_never_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket: remove it"):
        sockets.listen(path)
    assert path.read_text() == "precious"


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is no socket"):
        sockets.listen(path)


def test_a_path_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        sockets.listen(tmp_path / "file" / "dmssd.sock")


def test_stop_leaves_a_socket_that_somebody_else_has_put_in_the_place(path: Path) -> None:
    async def main() -> None:
        server = AdminServer(SmallDaemon(), path)
        await server.start()
        path.unlink()
        path.write_text("another")
        await server.stop()

    asyncio.run(main())
    assert path.read_text() == "another"


def test_stopping_a_server_that_never_started_does_nothing(path: Path) -> None:
    asyncio.run(AdminServer(SmallDaemon(), path).stop())


def test_a_slow_reader_loses_its_oldest_events_and_is_told_how_many() -> None:
    async def main() -> None:
        hub = EventHub(queue_events_max=3)
        slow, quick = hub.subscribe(), hub.subscribe()
        for number in range(5):
            hub.publish({"time_s": float(number), "kind": "k", "facts": {}})
            assert (await anext(quick))["time_s"] == number
        assert await anext(slow) == {"time_s": 2.0, "kind": "events.lost", "facts": {"count": 2}}
        assert [(await anext(slow))["time_s"] for _ in range(3)] == [2.0, 3.0, 4.0]
        slow.close()
        slow.close()
        assert hub.readers == 1

    asyncio.run(main())


def test_a_reader_that_has_seen_everything_waits_for_the_next_event() -> None:
    async def main() -> None:
        hub = EventHub()
        reader = hub.subscribe()
        hub.publish({"kind": "first"})
        assert await anext(reader) == {"kind": "first"}
        waiting = asyncio.ensure_future(anext(reader))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        hub.publish({"kind": "second"})
        assert await waiting == {"kind": "second"}

    asyncio.run(main())


def test_the_small_daemon_is_a_daemon() -> None:
    daemon: Daemon = SmallDaemon.__new__(SmallDaemon)
    assert daemon is not None


def test_a_socket_handed_over_is_served_and_left_to_whoever_listened_first(path: Path) -> None:
    async def main() -> None:
        handed = sockets.listen(path)
        for _ in range(2):  # one daemon after another
            server = AdminServer(SmallDaemon(), path, handed.dup())
            await server.start()
            assert (await ask(path, "GET", "/v1/status"))[0] == 200
            await server.stop()
            assert path.is_socket()
        # Between two daemons nobody is refused: the connection waits.
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(str(path))
        waiting.close()
        handed.close()

    asyncio.run(main())
