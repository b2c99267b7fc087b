"""The admin API from the command line's side: HTTP/1.1 over a unix socket, by ``http.client``.

Failures become two errors that a user can act on: ``DaemonNotRunning`` (nobody serves the socket) and
``RequestError`` (the daemon, or the operating system, said no).
"""

import http.client
import json
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from sansio.errors import DmssdError, RequestError

QUERY_TIMEOUT_S = 10.0
ERROR_CHARACTERS_MAX = 500

Waiting = Callable[[float], None]
"""Told about once a second, with the seconds gone by, while an answer is waited for."""


class DaemonNotRunning(DmssdError):  # noqa: N818  (says what is the matter, as the user sees it)
    """Nobody serves the socket."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"dmssd is not running (nobody serves {path}): start it with systemctl start dmssd, "
            "or dmssd run --config FILE"
        )
        self.path = path


class AdminClient:
    """Asks the daemon behind one socket; one connection per call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, path: str, **parameters: str | None) -> Any:
        """The answer to ``GET /v1/path``; parameters that are None are left out."""
        given = {key: value for key, value in parameters.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None, QUERY_TIMEOUT_S, None)

    def metrics(self) -> str:
        """The answer to ``GET /metrics``: text as Prometheus reads it."""
        connection, response = self._open("GET", "/metrics", None, QUERY_TIMEOUT_S, None)
        try:
            _raise_refusal(response)
            return response.read().decode(errors="replace")
        except TimeoutError:
            raise self._late(QUERY_TIMEOUT_S) from None
        except (OSError, http.client.HTTPException):
            raise self._broken() from None
        finally:
            connection.close()

    def post(
        self,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
        waiting: Waiting | None = None,
    ) -> Any:
        """The answer to ``POST /v1/path``; arguments that are None are left out."""
        given = {key: value for key, value in (arguments or {}).items() if value is not None}
        return self._ask("POST", path, json.dumps(given), timeout_s, waiting)

    def events(self) -> Iterator[dict[str, Any]]:
        """Events as they happen, until the daemon stops."""
        connection, response = self._open("GET", "/v1/events", None, None, None)
        try:
            _raise_refusal(response)
            while line := response.readline():
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError):
            raise self._broken() from None
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: str | None, timeout_s: float, waiting: Waiting | None) -> Any:
        connection, response = self._open(method, f"/v1/{path}", body, timeout_s, waiting)
        try:
            _raise_refusal(response)
            return json.loads(response.read())
        except TimeoutError:
            raise self._late(timeout_s) from None
        except (OSError, http.client.HTTPException, ValueError):
            raise self._broken() from None
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: str | None, timeout_s: float | None, waiting: Waiting | None
    ) -> tuple["_UnixConnection", http.client.HTTPResponse]:
        connection = _UnixConnection(self.path, timeout_s)
        try:
            connection.connect()
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            if waiting is not None:
                _wait(connection.sock, timeout_s, waiting)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._explained(error, timeout_s) from None

    def _explained(self, error: Exception, timeout_s: float | None) -> DmssdError:
        match error:
            case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
                return DaemonNotRunning(self.path)
            case PermissionError():
                return RequestError(
                    f"{self.path} may not be used by this user: run as root, or join the group dmssd "
                    "(usermod -aG dmssd USER, then log in again)"
                )
            case TimeoutError():
                return self._late(timeout_s)
            case _:
                return self._broken()

    def _late(self, timeout_s: float | None) -> RequestError:
        return RequestError(
            f"the daemon behind {self.path} did not answer within {timeout_s:g} s: try again, "
            "or look at journalctl -u dmssd"
        )

    def _broken(self) -> RequestError:
        return RequestError(
            f"the daemon behind {self.path} broke off its answer: it may have stopped; try dmssd status, "
            "or look at journalctl -u dmssd"
        )


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose far end is a path."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError as error:
            # "AF_UNIX path too long" comes without an errno: no daemon can be there.
            raise error if error.errno else FileNotFoundError from None


def _wait(sock: socket.socket, timeout_s: float | None, waiting: Waiting) -> None:
    began = time.monotonic()
    while not select.select([sock], [], [], 1.0)[0]:
        gone_s = time.monotonic() - began
        if timeout_s is not None and gone_s >= timeout_s:
            raise TimeoutError
        waiting(gone_s)


def _raise_refusal(response: http.client.HTTPResponse) -> None:
    if response.status < 400:
        return
    body = response.read()
    try:
        sentence = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the daemon answered {response.status} {response.reason}: look at journalctl -u dmssd"
    raise RequestError(sentence[:ERROR_CHARACTERS_MAX])
