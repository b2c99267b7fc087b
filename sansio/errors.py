"""The error tree. Facts are fields; the message is made from them and says what to do next."""


class DmssdError(Exception):
    """Anything this project raises on purpose."""


class ConfigError(DmssdError):
    """A configuration value that cannot be used; nothing was changed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ProtocolError(DmssdError):
    """A rule of a protocol was broken."""


class LocalProtocolError(ProtocolError):
    """By us: a bug in the caller."""


class RemoteProtocolError(ProtocolError):
    """By them: what came from ``source`` cannot be accepted; state is unchanged."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class KernelError(DmssdError):
    """The kernel refused a request."""

    def __init__(self, errno: int, request: str) -> None:
        super().__init__(f"kernel refused {request}: errno {errno}")
        self.errno = errno
        self.request = request


class StoreError(DmssdError):
    """State on disk cannot be read or written."""


class AdmissionError(DmssdError):
    """A join, token or certificate was refused; the mesh is unchanged."""


class RequestError(DmssdError):
    """An admin request that cannot be carried out; the message says what to do."""
