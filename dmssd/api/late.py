"""The admin socket of a daemon that is seldom asked: it listens from the start, and learns to answer when it is asked.

What answers is aiohttp, which takes a board longer to load than most of the rest and then stays in memory. So the
socket is made at once, with the backlog of the kernel to wait in, and :mod:`dmssd.api.server` is loaded when the first
client connects. That happens in a thread, so that the mesh is not kept waiting meanwhile. Nothing is unloaded
afterwards.
"""

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from dmssd.api import sockets
from dmssd.api.daemon import Daemon

if TYPE_CHECKING:
    from dmssd.api.server import AdminServer


class LateServer:
    """Stands for an :class:`~dmssd.api.server.AdminServer` from its start on, and becomes one when it is asked."""

    def __init__(self, daemon: Daemon, path: Path, handed: socket.socket | None = None) -> None:
        self._daemon = daemon
        self._path = path
        self._listener = handed
        self._inode: int | None = None
        self._server: AdminServer | None = None
        self._loading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises ``ConfigError`` where the socket cannot be had."""
        if self._listener is None:
            self._listener = sockets.listen(self._path)
            self._inode = sockets.inode(self._path)
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._on_asked, self._listener)

    async def stop(self) -> None:
        """As the server that this stands for: end what is under way, remove the socket."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        if self._inode is not None and sockets.inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        if self._loading is not None:
            await asyncio.wait([self._loading])
        if self._server is not None:
            await self._server.stop()
        if self._listener is not None:
            self._listener.close()

    def _on_asked(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._loading = loop.create_task(self._become(listener))
        self._loading.add_done_callback(_tell_failure)

    async def _become(self, listener: socket.socket) -> None:
        # What is imported stays imported: this is the one time that it takes long.
        server = await asyncio.to_thread(_loaded)
        self._server = server(self._daemon, self._path, listener)
        await self._server.start()


def _tell_failure(loading: "asyncio.Task[None]") -> None:
    if not loading.cancelled() and (failure := loading.exception()) is not None:
        context = {"message": "the admin API cannot be loaded: install dmssd again", "exception": failure}
        asyncio.get_running_loop().call_exception_handler(context)


def _loaded() -> "type[AdminServer]":
    from dmssd.api.server import AdminServer

    return AdminServer
