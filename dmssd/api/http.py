"""aiohttp's server, without what its client takes when it is imported.

aiohttp is imported as a whole, and its client then reads the certificate authorities of the machine, twice, for
connections that nobody here makes: 35 ms of start and 2 MiB of every daemon. OpenSSL is told for that moment that there
are none (SSL_CERT_FILE and SSL_CERT_DIR, SSL_CTX_load_verify_locations(3)). Import ``web`` from here.
"""

import contextlib
import os
from collections.abc import Iterator

_WHERE = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


@contextlib.contextmanager
def _no_authorities() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _WHERE}
    os.environ.update(_WHERE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


with _no_authorities():
    from aiohttp import web

__all__ = ["web"]
