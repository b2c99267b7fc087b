"""Sealed datagrams: the two directions of one session.

    offset | bytes | field
    0      | 1     | version, 1
    1      | 1     | kind, 4
    2      | 4     | receiver index: the receiver's own random name for the session
    6      | 8     | counter, little-endian: 0, 1, 2, ... in each direction
    14     | n     | ChaCha20-Poly1305 ciphertext
    14 + n | 16    | tag

Thirty bytes of overhead. The nonce is Noise's: four zero bytes and the counter. The header needs no authentication of
its own: the index picks the key, the counter the nonce, and version and kind are checked against the one value each.

*Rekeying* costs no message: the key of epoch ``counter >> 20`` is Noise's REKEY of that of the epoch before, so each
key serves a million datagrams and a key stolen later opens nothing earlier. By counter only, never by time: both ends
can tell from the datagram itself. The receiver derives forward at most ``EPOCHS_AHEAD_MAX`` epochs and keeps what it
derived only once the datagram proved authentic; the key of the epoch before stays for datagrams that were overtaken.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dmssd.security.noise import SplitKeys, rekey
from dmssd.security.replay import ReplayWindow
from sansio.errors import LocalProtocolError, RemoteProtocolError

VERSION = 1
KIND_SEALED = 4
INDEX_BYTES = 4
HEADER_BYTES = 14
OVERHEAD_BYTES = 30

EPOCH_SHIFT = 20
EPOCHS_AHEAD_MAX = 4
COUNTER_MAX = 2**62

_ZEROS = b"\x00\x00\x00\x00"


class Transport:
    """Seals for, and opens from, one peer under one session's keys; raises nothing but what its methods say."""

    __slots__ = (
        "_before",
        "_open_cipher",
        "_open_epoch",
        "_open_key",
        "_prefix",
        "_seal_cipher",
        "_seal_epoch",
        "_seal_key",
        "counter",
        "window",
    )

    def __init__(self, keys: SplitKeys, remote_index: bytes, counter: int = 0) -> None:
        """``remote_index``: the far end's name for the session. ``counter``: where sealing starts; 0 but in tests."""
        self._prefix = bytes((VERSION, KIND_SEALED)) + remote_index
        self._seal_key = keys.send
        self._seal_epoch = 0
        self._seal_cipher = ChaCha20Poly1305(keys.send)
        self._open_key = keys.receive
        self._open_epoch = 0
        self._open_cipher = ChaCha20Poly1305(keys.receive)
        self._before: ChaCha20Poly1305 | None = None  # opens the epoch before
        self.window = ReplayWindow()
        self.counter = counter

    def seal(self, plaintext: bytes) -> bytes:
        """The whole datagram that carries ``plaintext``."""
        counter = self.counter
        self.counter = counter + 1
        if counter >> EPOCH_SHIFT != self._seal_epoch:
            self._advance(counter >> EPOCH_SHIFT)
        text = counter.to_bytes(8, "little")
        return self._prefix + text + self._seal_cipher.encrypt(_ZEROS + text, plaintext, None)

    def open(self, datagram: bytes) -> bytes:
        """The plaintext of a whole sealed datagram (at least 30 bytes) that carries this session's index.

        ``RemoteProtocolError`` where it is replayed, too far ahead or not authentic; nothing has changed then.
        """
        text = datagram[6:14]
        counter = int.from_bytes(text, "little")
        if not self.window.fresh(counter):
            raise RemoteProtocolError("session", "replayed datagram")
        epoch = counter >> EPOCH_SHIFT
        if epoch != self._open_epoch:
            return self._open_elsewhere(datagram, counter, epoch)
        try:
            plaintext = self._open_cipher.decrypt(_ZEROS + text, datagram[14:], None)
        except InvalidTag:
            raise RemoteProtocolError("session", "datagram cannot be authenticated") from None
        self.window.mark(counter)
        return plaintext

    def _open_elsewhere(self, datagram: bytes, counter: int, epoch: int) -> bytes:
        # Off the hot path: the epoch before, or one ahead, whose keys are kept only if they open the datagram.
        ahead = epoch - self._open_epoch
        if ahead < -1 or ahead > EPOCHS_AHEAD_MAX or (ahead == -1 and self._before is None):
            raise RemoteProtocolError("session", "datagram of an epoch out of reach")
        key, before, cipher = self._open_key, self._before, self._before
        for _ in range(ahead):
            before, key = ChaCha20Poly1305(key), rekey(key)
            cipher = ChaCha20Poly1305(key)
        assert cipher is not None
        try:
            plaintext = cipher.decrypt(_ZEROS + datagram[6:14], datagram[14:], None)
        except InvalidTag:
            raise RemoteProtocolError("session", "datagram cannot be authenticated") from None
        if ahead > 0:
            self._open_key, self._open_epoch, self._open_cipher, self._before = key, epoch, cipher, before
        self.window.mark(counter)
        return plaintext

    def _advance(self, epoch: int) -> None:
        if self.counter > COUNTER_MAX:
            raise LocalProtocolError("session counter is spent")
        while self._seal_epoch < epoch:
            self._seal_key = rekey(self._seal_key)
            self._seal_epoch += 1
        self._seal_cipher = ChaCha20Poly1305(self._seal_key)
