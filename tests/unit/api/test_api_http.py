"""What comes with aiohttp that nobody uses is not loaded; in a process of its own, since imports stay."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, ssl, sys
before = dict(os.environ)
import {module}
from aiohttp import connector
contexts = [each for each in vars(connector).values() if isinstance(each, ssl.SSLContext)]
print(len(contexts), sum(each.cert_store_stats()["x509"] for each in contexts), dict(os.environ) == before)
"""


def seen(module: str, **variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
        env={**kept, **variables},
    )
    return done.stdout.split()


def test_the_admin_server_reads_no_certificate_authorities_and_leaves_the_environment_as_it_was() -> None:
    if seen("aiohttp")[1] == "0":
        pytest.skip("this machine has no certificate authorities to read")
    count, authorities, same = seen("dmssd.api.server")
    assert int(count) >= 1, "aiohttp makes no contexts when imported any more: dmssd/api/http.py is not needed"
    assert (authorities, same) == ("0", "True")
    assert seen("dmssd.api.server", SSL_CERT_FILE="/etc/hostname")[1:] == ["0", "True"]
