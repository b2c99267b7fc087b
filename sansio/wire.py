"""The wire codec: typed msgpack arrays, decoded strictly, extended leniently.

Messages are ``msgspec.Struct`` classes declared with ``**WIRE`` (array-like, tagged by small integers where several
share a door). Missing or ill-typed fields are refused; unknown trailing fields are ignored, so that neighbouring
versions mix. Whatever the bytes, :meth:`Codec.decode` raises ``RemoteProtocolError`` and nothing else.
"""

from typing import Any, Generic, TypedDict, TypeVar

import msgspec

from sansio.errors import RemoteProtocolError

T = TypeVar("T")

DATAGRAM_BYTES_MAX = 1200


class _WireOptions(TypedDict):
    frozen: bool
    array_like: bool
    gc: bool


# gc=False: wire structs hold no cycles, and sparing the collector halves decode time.
WIRE: _WireOptions = {"frozen": True, "array_like": True, "gc": False}


class Codec(Generic[T]):
    """Encodes and decodes one message type or a union of tagged ones."""

    def __init__(self, shape: Any) -> None:  # a type or a union of types: no narrower annotation exists
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(shape)

    def encode(self, message: T) -> bytes:
        """The message's bytes."""
        return self._encoder.encode(message)

    def decode(self, data: bytes, source: str) -> T:
        """The message in ``data``; ``source`` names the sender in the error."""
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise RemoteProtocolError(source, f"cannot be decoded: {problem}") from None
