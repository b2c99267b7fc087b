"""A real admin server on a real socket in a thread, with canned answers behind it."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dmssd.api.events import EventHub, Subscription
from dmssd.api.server import AdminServer
from dmssd.config import paths
from sansio.errors import RequestError


class CannedDaemon:
    """Answers every query and request with what was put into ``answers``; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.hub = EventHub()
        self.release = threading.Event()
        self.release.set()
        self.on_subscribe: list[Mapping[str, Any]] = []

    def query(self, name: str, arguments: Mapping[str, str]) -> Any:
        return self._answer(name, arguments)

    async def request(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        await asyncio.to_thread(self.release.wait)
        return self._answer(verb, arguments)

    def subscribe(self) -> Subscription:
        reader = self.hub.subscribe()
        for event in self.on_subscribe:
            self.hub.publish(event)
        return reader

    def _answer(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self.asked.append((name, dict(arguments)))
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Served:
    """The daemon, its server, and the thread with the event loop that both live in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon = CannedDaemon()
        self._loop = asyncio.new_event_loop()
        self._server = AdminServer(self.daemon, path)
        self._loop.run_until_complete(self._server.start())
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stopped = False

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self.daemon.release.set()
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    made = Served(tmp_path / "dmssd.sock")
    monkeypatch.setenv("DMSSD_SOCKET", str(made.path))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMSSD_SOCKET", raising=False)
    monkeypatch.setattr(paths, "LAB_DIR", str(tmp_path / "labs"))
    monkeypatch.setattr(paths, "SOCKET", str(tmp_path / "default.sock"))
    monkeypatch.setattr(paths, "CONFIG_FILE", str(tmp_path / "etc" / "dmssd.toml"))


@pytest.fixture
def refusal() -> type[RequestError]:
    return RequestError


@pytest.fixture
def healthy() -> dict[str, Any]:
    return {
        "node": "aa" * 20,
        "name": "Denver",
        "mesh": "bb" * 16,
        "mesh_name": "abilene",
        "version": "0.2",
        "uptime_s": 75,
        "verdict": "ok",
        "reasons": [],
        "members": {"up": 11, "suspect": 0, "down": 0, "left": 0},
        "links": [{"name": "eth0", "link": 2, "metric": 10, "neighbours": ["Chicago"]}],
        "neighbours": [{"node": "cc" * 20, "name": "Chicago", "interface": "eth0", "state": "up", "metric": 10}],
        "plan": {"source": "tp Chicago", "routes": 20, "refused": 0},
        "roles": ["fd", "tp"],
        "rejected": {},
        "lsdb": {"origins": 11},
        "sessions": {"epoch": 2, "lifetime_s": 21_600, "with_members": 10, "behind": 0},
    }
