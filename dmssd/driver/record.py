"""A bounded record of events on disk, from which a run can be replayed.

    record | u32 length | msgpack [instant, type name, event]

Two files of half the limit each: when ``PATH`` is full it becomes ``PATH.1``, in place of the one before, so that at
least the last half of the limit is always there. Each file opens with the header (configuration and seeds), which is
what makes either of them readable alone. Events are frozen dataclasses; whoever opens the recorder lists the types
that may be recorded, and leaves out those with secrets. Integers are big-endian.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sansio.errors import StoreError
from sansio.instant import Instant

RECORD_BYTES_MAX = 1 << 24

_LENGTH = struct.Struct(">I")
_PREVIOUS = ".1"
_Entry = tuple[int, str, msgspec.Raw]


class EventCodec:
    """Encodes and decodes instances of the listed dataclasses, by the name of their type."""

    def __init__(self, types: Sequence[type]) -> None:
        self._names = {kind: kind.__name__ for kind in types}
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            kind.__name__: msgspec.msgpack.Decoder(kind) for kind in types
        }
        self._encoder = msgspec.msgpack.Encoder()
        self._entries = msgspec.msgpack.Decoder(_Entry)

    def knows(self, event: object) -> bool:
        """Whether events of this type are recorded."""
        return type(event) in self._names

    def encode(self, event: object, now: Instant) -> bytes:
        """One record; the type must be known."""
        body = self._encoder.encode((now, self._names[type(event)], event))
        return _LENGTH.pack(len(body)) + body

    def decode(self, body: bytes) -> tuple[Instant, Any]:
        """The instant and the event; ``StoreError`` where the bytes are neither."""
        try:
            now, name, raw = self._entries.decode(body)
            return Instant(now), self._decoders[name].decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise StoreError(f"the record cannot be read: {problem}") from None
        except KeyError as name:
            raise StoreError(f"the record holds events of type {name}, which this version does not know") from None


class Recorder:
    """Writes records to ``path`` and never holds more than ``limit_bytes`` on disk."""

    def __init__(self, path: Path, limit_bytes: int, codec: EventCodec, header: Callable[[int], object]) -> None:
        """Begin a new record; what ``path`` held goes.

        ``header(before)`` makes the first entry of a file, of a type that the codec knows; ``before`` entries were
        written before that file was begun.
        """
        self._path = path
        self._half_bytes = limit_bytes // 2
        self._codec = codec
        self._header = header
        self._previous = path.with_name(path.name + _PREVIOUS)
        self._previous.unlink(missing_ok=True)
        self._written = 0
        self._open()

    def write(self, event: object, now: Instant) -> None:
        """Record an event, if its type is to be recorded; one that half the limit cannot hold is left out."""
        if not self._codec.knows(event):
            return
        record = self._codec.encode(event, now)
        if self._opening_bytes + len(record) > self._half_bytes:
            return
        if self._size + len(record) > self._half_bytes:
            self._file.close()
            self._path.replace(self._previous)
            self._open()
        self._file.write(record)
        self._size += len(record)
        self._written += 1

    def flush(self) -> None:
        """Have everything written so far in the files."""
        self._file.flush()

    def close(self) -> None:
        """End the record."""
        self._file.close()

    def _open(self) -> None:
        opening = self._codec.encode(self._header(self._written), Instant(0))
        self._file = self._path.open("wb")
        self._path.chmod(0o600)
        self._file.write(opening)
        self._size = self._opening_bytes = len(opening)


def read_records(path: Path, codec: EventCodec) -> Iterator[tuple[Instant, Any]]:
    """Every event of a record in order, the header first; ``StoreError`` where it is damaged.

    A record cut short by a crash ends there without complaint.
    """
    previous = path.with_name(path.name + _PREVIOUS)
    opened = False
    for part in (previous, path):
        for position, body in enumerate(_bodies(part)):
            if position or not opened:
                yield codec.decode(body)
            opened = True
    if not opened:
        raise StoreError(f"{path} holds no record: switch recording on, or name another file")


def _bodies(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        while len(prefix := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(prefix)
            if length > RECORD_BYTES_MAX:
                raise StoreError(f"{path} is damaged: a record claims {length} bytes")
            body = file.read(length)
            if len(body) < length:
                return
            yield body
