"""The server that learns to answer when it is asked: in a process of its own, since what is imported stays so."""

import subprocess
import sys
from pathlib import Path

import pytest

ASKED = """
import asyncio, socket, sys
from pathlib import Path
from dmssd.api.late import LateServer

class Daemon:
    def query(self, name, arguments):
        return {"query": name}

async def ask(path):
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /v1/status HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return answer

async def main(path, handed):
    listener = None
    if handed:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    server = LateServer(Daemon(), path, listener)
    await server.start()
    await asyncio.sleep(0.05)
    assert "aiohttp" not in sys.modules, "loaded before anybody asked"
    if CLIENTS:
        # All of them at once: none may be lost while the first has it loaded.
        answers = await asyncio.gather(*(ask(path) for _ in range(CLIENTS)))
        assert all(b"200 OK" in answer and answer.endswith(b'{"query":"status"}') for answer in answers), answers
        assert "aiohttp" in sys.modules
    await server.stop()
    assert path.exists() == handed, "the file is removed by whoever made it"
    try:
        await asyncio.open_unix_connection(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return
    raise AssertionError("still listening")

asyncio.run(asyncio.wait_for(main(Path(sys.argv[1]), HANDED), 60))
"""


@pytest.mark.parametrize("handed", [False, True])
@pytest.mark.parametrize("clients", [0, 1, 8])
def test_it_answers_all_who_ask_and_loads_nothing_before(tmp_path: Path, clients: int, handed: bool) -> None:
    code = f"CLIENTS, HANDED = {clients}, {handed}\n{ASKED}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "dmssd.sock")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_daemon_that_is_asked_late_has_not_imported_the_server() -> None:
    code = "import sys, dmssd.driver.daemon; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
