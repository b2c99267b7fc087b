"""The admin server: aiohttp on a unix socket.

Every answer is JSON, but for ``/metrics`` (:mod:`dmssd.exposition`); every refusal is ``{"error": sentence}`` with a
4xx status: 400 arguments, 404 path, 405 method, 409 the daemon says no, 413 body too large, 503 too many event streams.
A POST runs to its end even when its client goes away, since what it started cannot be taken back halfway.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from dmssd.api import requests, sockets
from dmssd.api.daemon import Daemon
from dmssd.api.http import web
from dmssd.exposition import CONTENT_TYPE
from sansio.errors import DmssdError, RequestError

BODY_BYTES_MAX = 16 * 1024
EVENT_STREAMS_MAX = 32
SHUTDOWN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves one daemon on one socket: on ``path``, or on one that the service manager listens on already.

    What was handed over stays the manager's: whoever connects while no daemon runs waits for the next one.
    """

    def __init__(self, daemon: Daemon, path: Path, handed: socket.socket | None = None) -> None:
        self._daemon = daemon
        self._path = path
        self._handed = handed
        self._inode: int | None = None
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen and answer. Raises ``ConfigError`` where the socket cannot be had."""
        listener = self._handed
        if listener is None:
            listener = sockets.listen(self._path)
            self._inode = sockets.inode(self._path)
        listener.setblocking(False)
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """End every stream, let answers under way finish (at most ``SHUTDOWN_S``), remove the socket."""
        if self._runner is None:
            return
        # First the file, so that a daemon started now does not take us for alive; unless it is no longer ours.
        if self._inode is not None and sockets.inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        for stream in list(self._streams):
            stream.cancel()
        await self._runner.cleanup()
        self._runner = None
        for task in list(self._running):
            task.cancel()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_as_json], client_max_size=BODY_BYTES_MAX)
        for path in requests.QUERIES:
            application.router.add_get(requests.PREFIX + path, self._query_handler(path))
        for verb in requests.REQUESTS:
            application.router.add_post(f"{requests.PREFIX}/{verb}", self._request_handler(verb))
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get(f"{requests.PREFIX}/events", self._events, allow_head=False)
        return application

    def _query_handler(self, path: str) -> Handler:
        name = requests.QUERIES[path][0]

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                arguments = requests.query_arguments(path, request.query)
            except RequestError as error:
                return _refusal(400, str(error))
            return _answer(self._daemon.query(name, arguments))

        return handle

    def _request_handler(self, verb: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                body = await request.read()
                arguments = requests.request_arguments(verb, msgspec.json.decode(body) if body else {})
            except RequestError as error:
                return _refusal(400, str(error))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                return _refusal(400, f"the body is not JSON: {error}")
            task = asyncio.ensure_future(self._daemon.request(verb, arguments))
            self._running.add(task)
            task.add_done_callback(self._finished)
            return _answer(await asyncio.shield(task))

        return handle

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if the client that would have been told is gone

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body = self._daemon.query("metrics", {}).encode(errors="replace")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if request.query:
            return _refusal(400, f"GET {requests.PREFIX}/events takes no arguments")
        if len(self._streams) >= EVENT_STREAMS_MAX:
            return _refusal(503, f"{EVENT_STREAMS_MAX} event streams are open already: close one")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        # Subscribed before the headers go out: whoever has those misses nothing that happens from then on.
        events = self._daemon.subscribe()
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            async for event in events:
                await response.write(msgspec.json.encode(event) + b"\n")
        except ConnectionError:
            pass  # the reader went away
        finally:
            self._streams.discard(task)
            events.close()
        return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except DmssdError as error:
        return _refusal(409, str(error))
    except web.HTTPNotFound:
        return _refusal(404, f"there is no {request.path[:200]}: see the admin API's reference for what there is")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        refusal = _refusal(405, f"{request.path[:200]} does not take {request.method[:16]}: use {allowed}")
        refusal.headers["Allow"] = allowed
        return refusal
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
    except web.HTTPException as error:
        return _refusal(error.status, error.reason)


def _answer(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refusal(status: int, sentence: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"error": sentence}), content_type="application/json")
