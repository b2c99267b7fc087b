"""Messages larger than a datagram, cut into pieces and put together again.

    field    | bytes | meaning
    message  | 4     | the sender's number for this message
    index    | 2     | which piece, from 0
    count    | 2     | how many there are, 2..FRAGMENTS_MAX
    piece    | rest  |

A control message travels hop by hop by NodeId, where no stream reaches; so size is handled here, once, for flooding
and plans alike. There is no retransmission: whoever needs an answer repeats the whole message. Half-received messages
are bounded in number per node and forgotten in order of age.
"""

import struct
from collections.abc import Iterator

from sansio.bounded import RecentTable
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId

FRAGMENTS_MAX = 64
PARTIALS_MAX = 256
_HEADER = struct.Struct(">IHH")


class Fragments:
    """Cuts outgoing messages and collects incoming pieces."""

    def __init__(self) -> None:
        self._number = 0
        self._partials: RecentTable[tuple[NodeId, int], list[bytes | None]] = RecentTable(PARTIALS_MAX)

    def cut(self, message: bytes, room: int) -> Iterator[bytes]:
        """Pieces of ``message`` of at most ``room`` bytes, header included; ``ValueError`` if they are too many."""
        size = room - _HEADER.size
        count = -(-len(message) // size)
        if count > FRAGMENTS_MAX:
            raise ValueError(f"a message of {len(message)} bytes needs {count} fragments, {FRAGMENTS_MAX} are allowed")
        self._number = (self._number + 1) % 2**32
        for index in range(count):
            yield _HEADER.pack(self._number, index, count) + message[index * size : (index + 1) * size]

    def collect(self, source: NodeId, fragment: bytes) -> bytes | None:
        """The whole message once its last piece is here; raises ``RemoteProtocolError`` for nonsense."""
        if len(fragment) < _HEADER.size:
            raise RemoteProtocolError(source.hex(), "fragment is too short")
        number, index, count = _HEADER.unpack_from(fragment)
        if not 2 <= count <= FRAGMENTS_MAX or index >= count:
            raise RemoteProtocolError(source.hex(), "fragment has an impossible position")
        key = (source, number)
        pieces = self._partials.get(key)
        if pieces is None or len(pieces) != count:
            pieces = [None] * count
        pieces[index] = fragment[_HEADER.size :]
        whole = [piece for piece in pieces if piece is not None]
        if len(whole) < count:
            self._partials[key] = pieces
            return None
        self._partials.pop(key, None)
        return b"".join(whole)
