"""``/metrics`` over TCP on loopback: what it answers, what it does not, and its bounds."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from dmssd.api import scrape
from dmssd.api.scrape import CONNECTIONS_MAX, REQUEST_BYTES_MAX, ScrapeError, ScrapeServer

DEADLINE_S = 30
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Pages:
    """A page that says how often it was made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return f"dmssd_made {self.made}\n"


def run(claim: Callable[[ScrapeServer, int, Pages], Awaitable[None]], address: str = "127.0.0.1") -> None:
    async def main() -> None:
        pages = Pages()
        server = ScrapeServer(pages, address, 0)
        port = await server.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await claim(server, port, pages)
        finally:
            await server.stop()

    asyncio.run(main())


async def ask(port: int, request: bytes, address: str = "127.0.0.1", ends: bool = False) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(request)
    if ends:
        writer.write_eof()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_page_is_served_and_the_connection_closed(address: str) -> None:
    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        head, body = await ask(port, GET, address)
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert body == b"dmssd_made 1\n"
        assert (await ask(port, b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", address))[1].startswith(b"dmssd_made")

    run(claim, address)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/status HTTP/1.1\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../v1/status HTTP/1.1\r\n\r\n", b"404"),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /v1/leave HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\xff\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * REQUEST_BYTES_MAX + b"\r\n\r\n", b"400"),
    ],
)
def test_nothing_else_is_answered_and_no_page_is_made_for_it(request_: bytes, status: bytes) -> None:
    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        head, body = await ask(port, request_)
        assert head.split(b" ")[1] == status
        assert body.count(b"\n") == 1
        assert pages.made == 0
        assert (await ask(port, GET))[1] == b"dmssd_made 1\n"

    run(claim)


def test_a_request_that_ends_early_is_refused() -> None:
    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        head, _ = await ask(port, b"GET /metrics HTTP/1.1\r\n", ends=True)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert pages.made == 0

    run(claim)


def test_connections_are_bounded_and_places_come_free() -> None:
    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert server.refused == 1
        assert pages.made == 0
        for _, each in silent:
            each.close()
            await each.wait_closed()
        while not (await ask(port, GET))[1].startswith(b"dmssd_made"):
            await asyncio.sleep(0)

    run(claim)


def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "REQUEST_S", 0.05)

    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        assert pages.made == 0

    run(claim)


def test_many_who_ask_at_once_are_given_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "PAGE_S", 3_600.0)

    async def claim(server: ScrapeServer, port: int, pages: Pages) -> None:
        bodies = {(await ask(port, GET))[1] for _ in range(5)}
        assert bodies == {b"dmssd_made 1\n"}
        monkeypatch.setattr(scrape, "PAGE_S", 0.0)
        assert (await ask(port, GET))[1] == b"dmssd_made 2\n"

    run(claim)


def test_stop_ends_open_connections_and_frees_the_port() -> None:
    async def main() -> None:
        server = ScrapeServer(Pages(), "127.0.0.1", 0)
        port = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await server.stop()
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()
        again = ScrapeServer(Pages(), "127.0.0.1", port)
        assert await again.start() == port
        await again.stop()

    asyncio.run(main())


def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ScrapeError, match=rf"127\.0\.0\.1 port {port} is in use: choose another port"):
            asyncio.run(ScrapeServer(Pages(), "127.0.0.1", port).start())


def test_an_address_that_this_machine_does_not_have_yet_can_be_listened_on() -> None:
    async def main() -> None:
        for address in ("192.0.2.7", "2001:db8::7"):
            server = ScrapeServer(Pages(), address, 0)
            assert await server.start() > 0
            await server.stop()

    asyncio.run(main())


def test_stopping_a_server_that_never_started_does_nothing() -> None:
    asyncio.run(ScrapeServer(Pages(), "127.0.0.1", 1).stop())
