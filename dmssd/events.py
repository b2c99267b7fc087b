"""The door of a node: every event that can enter a :class:`dmssd.node.Node` and every action that can leave it.

The driver and the simulator speak these types and no others. A link is named by its kernel interface index
(``LinkNumber``); addresses are the textual link-local IPv6 address without a zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dmssd.settings import NodeSettings
from routing.fib import FibOperation, Installed
from routing.lsa import LinkNumber, Prefix
from sansio.core import Persist, Rejected, Wake


@dataclass(frozen=True, slots=True)
class LinkUp:
    """An interface that the configuration selects is up, has carrier and a usable link-local address.

    ``address`` is that address. ``kind``: ``auto``, ``segment`` or ``point-to-point``; ``medium``: ``wire`` or
    ``radio``; ``mtu`` in bytes, 0 where it is not known. ``metric`` 0: it is to be measured.
    """

    link: LinkNumber
    name: str
    metric: int
    address: str = ""
    kind: str = "auto"
    medium: str = "wire"
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class LinkDown:
    """That interface has gone, or lost its carrier."""

    link: LinkNumber


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP payload received on the mesh port."""

    link: LinkNumber
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class EchoReplied:
    """A neighbour's kernel answered an ICMPv6 echo request."""

    link: LinkNumber
    address: str
    nonce: int


@dataclass(frozen=True, slots=True)
class FibProgrammed:
    """A batch was performed; ``failures`` holds (position in the batch, errno) of the operations refused."""

    batch: int
    failures: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FibRead:
    """What the kernel really holds of ours: at start, after every link event, after a refused write."""

    installed: Installed


@dataclass(frozen=True, slots=True)
class NetworksRead:
    """The networks that this machine is on by itself: no address that the mesh gives out may be one of theirs."""

    networks: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """An admin request: ``verb`` and plain arguments; answered by exactly one ``Reply`` with the same number."""

    number: int
    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The configuration was read again: live by these settings from now on."""

    settings: NodeSettings


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon has been told to stop: have on disk what was to be written later. The last event."""


NodeEvent = (
    LinkUp
    | LinkDown
    | Datagram
    | EchoReplied
    | FibProgrammed
    | FibRead
    | NetworksRead
    | SettingsChanged
    | Request
    | Stopping
    | Wake
)


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send a UDP payload on a link: to one address, or to the mesh's multicast group where ``address`` is None."""

    link: LinkNumber
    address: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendEcho:
    """Send an ICMPv6 echo request carrying ``nonce`` (64 bits) as its data."""

    link: LinkNumber
    address: str
    nonce: int


@dataclass(frozen=True, slots=True)
class PinNeighbour:
    """Refresh the kernel's neighbour entry of an adjacent node, so that it never decays to INCOMPLETE."""

    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class SetAddresses:
    """The node's own addresses, as /32 and /128, are these and no others from now on; routes start from them."""

    addresses: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class ProgramFib:
    """Perform these operations in order and answer ``FibProgrammed`` with the same batch number."""

    batch: int
    operations: tuple[FibOperation, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a ``Request``: a JSON-able value, or an error sentence that says what to do."""

    number: int
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something people or metrics want to know: a kind such as ``member.down`` and its plain facts."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Halt:
    """The node has left on request: stop the daemon."""


NodeAction = (
    SendDatagram | SendEcho | PinNeighbour | SetAddresses | ProgramFib | Persist | Reply | Notice | Rejected | Halt
)
