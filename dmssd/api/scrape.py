"""``/metrics`` over TCP, where ``[metrics] listen`` names an address: the one thing that is served to a network.

A server of a screen's length, and not the admin server's: no route of the admin API can be reached here, whatever is
sent. It takes ``GET /metrics`` (RFC 9112, one request per connection) and answers everything else with a status and a
sentence. Bounded: connections at a time, size of a request, and how long one may take.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from dmssd.exposition import CONTENT_TYPE
from sansio.errors import DmssdError

CONNECTIONS_MAX = 8
"""Answered at a time; one more is told to come again."""

BACKLOG = 16
REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S = 5.0
"""From connecting until the answer has been taken."""

PAGE_S = 1.0
"""The page is made afresh at most so often, however many ask: making it takes the event loop's time."""

METRICS_PATH = "/metrics"

_HEAD_END = b"\r\n\r\n"
_IP_FREEBIND = 15
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class ScrapeError(DmssdError):
    """The address cannot be had; the message says what to do."""


class ScrapeServer:
    """Serves what ``page`` returns on one address. ``refused`` counts connections beyond ``CONNECTIONS_MAX``."""

    def __init__(self, page: Callable[[], str], address: str, port: int) -> None:
        self._page = page
        self._address = address
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._made: tuple[float, str] | None = None
        self.refused = 0

    async def start(self) -> int:
        """Listen; the port. Raises ``ScrapeError``."""
        try:
            listener = _listener(self._address, self._port)
        except OSError as problem:
            why = "is in use: choose another port" if problem.errno == errno.EADDRINUSE else f"failed ({problem})"
            raise ScrapeError(f"[metrics] listen: {self._address} port {self._port} {why}, and restart dmssd") from None
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=REQUEST_BYTES_MAX, backlog=BACKLOG)
        port: int = listener.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Close the address and every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS_MAX:
            self.refused += 1
            writer.write(_answer(503, f"{CONNECTIONS_MAX} requests are being answered: try again"))
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                writer.write(self._answered(await _head(reader)))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # whoever asked has gone, or is too slow to be waited for
        finally:
            # At once: what was not taken in time is not kept for a client that does not read.
            writer.transport.abort()

    def _answered(self, head: bytes | None) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ") if head is not None else []
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _answer(400, f"this is no HTTP request of at most {REQUEST_BYTES_MAX} bytes")
        if words[1].partition(b"?")[0] != METRICS_PATH.encode():
            return _answer(404, f"there is nothing here but {METRICS_PATH}")
        if words[0] != b"GET":
            return _answer(405, "use GET")
        return _answer(200, self._recent_page())

    def _recent_page(self) -> str:
        now = asyncio.get_running_loop().time()
        if self._made is None or now - self._made[0] >= PAGE_S:
            self._made = (now, self._page())
        return self._made[1]


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return await reader.readuntil(_HEAD_END)
    return None


def _answer(status: int, text: str) -> bytes:
    body = (text if status == 200 else f"{text}\n").encode(errors="replace")
    kind = CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8"
    allow = "Allow: GET\r\n" if status == 405 else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{allow}"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The node's own addresses are there only once it has claimed them.
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener
