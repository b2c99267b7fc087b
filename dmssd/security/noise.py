"""Noise handshakes as values: bytes in, bytes out, and two keys at the end.

The patterns are ``Noise_XX`` (first contact: nobody knows anybody) and ``Noise_IK`` (the responder's static key is
known, from its certificate: one round trip) over 25519, ChaChaPoly, BLAKE2s, by ``noiseprotocol``. The ephemeral key
is an argument, so a handshake is a pure function of its inputs. The library's transport phase is not used: sessions
run over datagrams and need an explicit counter (:mod:`dmssd.security.transport`).

The prologue is the protocol's name and version: two versions that differ in meaning fail the handshake instead of
misunderstanding each other.

A message that fails leaves the state as it was, which the library's own state machine does not: anybody on the link
can send rubbish in answer, and that must not cost the handshake. The state is rebuilt by running the earlier messages
again; being a pure function, it is the same state.

Source: The Noise Protocol Framework, revision 34, 5 (processing), 7.5 (XX, IK), 11.3 (REKEY).
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.backends.default.keypairs import KeyPair25519
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseHandshakeError, NoiseInvalidMessage, NoiseValueError

from sansio.errors import LocalProtocolError, RemoteProtocolError

XX = b"Noise_XX_25519_ChaChaPoly_BLAKE2s"
IK = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"dmssd\x01"

_REKEY_NONCE = b"\x00\x00\x00\x00" + b"\xff" * 8


@dataclass(frozen=True, slots=True)
class HandshakeKeys:
    """The far end's static key is proved only where the pattern says so: after message 2 (XX: 2 and 3; IK: 1 and 2)."""

    protocol: bytes
    initiator: bool
    static: bytes
    ephemeral: bytes
    remote_static: bytes | None = None
    prologue: bytes = PROLOGUE
    psks: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"HandshakeKeys({self.protocol!r}, initiator={self.initiator})"  # private keys stay out of tracebacks


@dataclass(frozen=True, slots=True, repr=False)
class SplitKeys:
    """What a finished handshake leaves: one key for each direction (32 bytes), and the hash of all that was said."""

    send: bytes
    receive: bytes
    handshake_hash: bytes


class Handshake:
    """One handshake, from the first message to the split; writing and reading alternate, the initiator writes first."""

    def __init__(self, keys: HandshakeKeys) -> None:
        self._keys = keys
        self._said: list[tuple[bool, bytes]] = []  # (written?, payload written or message read)
        self._connection = self._start()

    @property
    def finished(self) -> bool:
        """Whether the keys may be taken."""
        return bool(self._connection.handshake_finished)

    @property
    def remote_static(self) -> bytes:
        """The far end's static public key; only once a message that carries it has been read."""
        return self._remote_static

    def write(self, payload: bytes) -> bytes:
        """The next message, carrying ``payload``."""
        try:
            message = bytes(self._connection.write_message(payload))
        except NoiseHandshakeError as problem:
            raise LocalProtocolError(str(problem)) from None
        except ValueError as problem:
            # A public key of low order shows only when it is used, which may be as late as in our answer.
            self._rebuild()
            raise RemoteProtocolError("noise", "handshake key of low order") from problem
        self._said.append((True, payload))
        return message

    def read(self, message: bytes) -> bytes:
        """The payload of the far end's next message; ``RemoteProtocolError`` where it fails, the state unchanged."""
        state = self._connection.noise_protocol.handshake_state
        try:
            payload = bytes(self._connection.read_message(message))
        except NoiseHandshakeError as problem:
            raise LocalProtocolError(str(problem)) from None
        except (InvalidTag, NoiseInvalidMessage, NoiseValueError, ValueError):
            self._rebuild()
            raise RemoteProtocolError("noise", "handshake message cannot be authenticated") from None
        self._said.append((False, message))
        self._remote_static = bytes(state.rs.public_bytes) if hasattr(state.rs, "public_bytes") else b""
        return payload

    def unread(self) -> None:
        """Take the last ``read`` back: its message proved authentic, but its payload cannot be accepted."""
        self._said.pop()
        self._rebuild()

    def split(self) -> SplitKeys:
        """The session keys; only once ``finished``."""
        protocol = self._connection.noise_protocol
        return SplitKeys(
            bytes(protocol.cipher_state_encrypt.k), bytes(protocol.cipher_state_decrypt.k), protocol.handshake_hash
        )

    def _start(self) -> NoiseConnection:
        keys = self._keys
        self._remote_static = keys.remote_static or b""
        connection = NoiseConnection.from_name(keys.protocol)
        if keys.initiator:
            connection.set_as_initiator()
        else:
            connection.set_as_responder()
        connection.set_prologue(keys.prologue)
        connection.set_keypair_from_private_bytes(Keypair.STATIC, keys.static)
        if keys.remote_static is not None:
            connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, keys.remote_static)
        if keys.psks:
            connection.set_psks(psks=list(keys.psks))
        connection.start_handshake()
        # Set after the start: the library warns of an injected ephemeral, which is a test's business elsewhere and
        # the rule here (keys and nonces come from the driver).
        connection.noise_protocol.handshake_state.e = KeyPair25519.from_private_bytes(keys.ephemeral)
        return connection

    def _rebuild(self) -> None:
        said, self._said = self._said, []
        self._connection = self._start()
        for written, content in said:
            if written:
                self.write(content)
            else:
                self.read(content)


def rekey(key: bytes) -> bytes:
    """Noise's REKEY(k): the key that follows ``key``, from which ``key`` cannot be found."""
    return ChaCha20Poly1305(key).encrypt(_REKEY_NONCE, bytes(32), None)[:32]
