"""The recovery key: an admin that is nobody, kept offline, for the day on which all others are lost.

    key = "dmssr1." + base64url, unpadded, of
    mesh id  16 bytes
    seed     32 bytes: of an Ed25519 key that the founder has certified as an admin (and stated, topic ``admit``)

Whoever has the key can make any member that it holds an admin: it is to be kept like the key of a safe. No daemon
stores it. It is expelled like an admin, by its id, if it was stolen.
"""

import base64
import binascii
from dataclasses import dataclass, field

from dmssd.security.identity import SEED_BYTES
from sansio.errors import AdmissionError
from sansio.ids import MESH_ID_BYTES, MeshId

PREFIX = "dmssr1."
RECOVERY_NAME = "recovery-key"


@dataclass(frozen=True, slots=True)
class RecoveryKey:
    """The key as it is printed."""

    mesh: MeshId
    seed: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "RecoveryKey":
        """From its text form; ``AdmissionError`` where it is none."""
        text = text.strip()
        digits = text.removeprefix(PREFIX)
        try:
            data = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if not text.startswith(PREFIX) or len(data) != MESH_ID_BYTES + SEED_BYTES:
            raise AdmissionError(
                f"this is no recovery key: one begins with {PREFIX!r}, as dmssd init printed it; copy the whole line"
            )
        return cls(MeshId(data[:MESH_ID_BYTES]), data[MESH_ID_BYTES:])

    def __str__(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.mesh + self.seed).rstrip(b"=").decode()
