"""What is recorded of a node, and how: enough to run its protocols again, and nothing that is secret.

Recording happens at the inner door (:mod:`dmssd.inner`), where everything is opened and no key is held. Two things
inside reach for keys all the same, signing and verifying (LSAs and statements): their results are recorded too, and
handed out again at the replay. Per event:

    Signed*, Verified*   | what the keys answered while the event was handled
    the event            | with its instant
    Outcome              | a digest of the actions it led to, by which a replay is checked

Whenever a node begins (at start, and on joining a mesh) ``NodeBegan`` holds its settings, its seed and what it had
stored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dmssd import inner
from dmssd.events import (
    EchoReplied,
    FibProgrammed,
    FibRead,
    LinkDown,
    LinkUp,
    NetworksRead,
    Request,
    SettingsChanged,
    Stopping,
)
from dmssd.inner import InnerAction, InnerEvent
from dmssd.rules.succession import PREDECESSOR_KEY
from dmssd.settings import NodeSettings
from gossip.replica import STORED_KEYS, Publish
from routing.lsa import Signer, Verifier
from sansio.core import Wake
from sansio.ids import MeshId, NodeId
from sansio.instant import Instant

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class RecordOpened:
    """The first entry of a file; ``before`` entries were recorded before it. Only a record's first file is replayable
    by itself.
    """

    version: str
    before: int


@dataclass(frozen=True, slots=True)
class NodeBegan:
    """A node with empty cores."""

    me: NodeId
    mesh: MeshId
    settings: NodeSettings
    stored: Mapping[str, bytes]
    seed: int


@dataclass(frozen=True, slots=True)
class Signed:
    """The signer's answer: a proof, which is public."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """The verifier's answer."""

    holds: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Digest of the actions that the event before it led to."""

    digest: bytes


RECORDED_TYPES: tuple[type, ...] = (
    RecordOpened,
    NodeBegan,
    Signed,
    Verified,
    Outcome,
    LinkUp,
    LinkDown,
    inner.GreetingHeard,
    inner.PeerUp,
    inner.PeerSpoke,
    inner.CarrySealed,
    inner.HandOver,
    inner.TakeOver,
    EchoReplied,
    FibProgrammed,
    FibRead,
    Publish,
    SettingsChanged,
    inner.MembersExpelled,
    inner.ProofRenewed,
    NetworksRead,
    Request,
    Wake,
    Stopping,
)

STORED_FOR_REPLAY = ("lsa-sequence", "incarnation", "traffic", PREDECESSOR_KEY, *STORED_KEYS)
"""What of a node's disk its cores read; identity, tokens and membership stay where they are."""

Recorded = RecordOpened | NodeBegan | Signed | Verified | Outcome | InnerEvent


class Tape(Protocol):
    """Where records go."""

    def write(self, event: Recorded, now: Instant) -> None:
        """Append one entry; must not fail."""


class Tap:
    """Listens at one node's inner door and puts what it hears on a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def began(self, began: NodeBegan) -> None:
        """A node was made."""
        self._tape.write(began, Instant(0))

    def handled(self, event: InnerEvent, now: Instant, actions: Sequence[InnerAction]) -> None:
        """A node handled an event."""
        self._tape.write(event, now)
        self._tape.write(Outcome(digest(actions)), now)

    def signer(self, signer: Signer) -> Signer:
        """``signer``, overheard."""
        return _HeardSigner(signer, self._tape)

    def verifier(self, verifier: Verifier) -> Verifier:
        """``verifier``, overheard."""
        return _HeardVerifier(verifier, self._tape)


def digest(actions: Sequence[InnerAction]) -> bytes:
    """What two runs that did the same agree on."""
    return hashlib.blake2b(repr(actions).encode(), digest_size=DIGEST_BYTES).digest()


class _HeardSigner:
    def __init__(self, signer: Signer, tape: Tape) -> None:
        self._signer = signer
        self._tape = tape

    def sign(self, body: bytes) -> bytes:
        proof = self._signer.sign(body)
        self._tape.write(Signed(proof), Instant(0))
        return proof


class _HeardVerifier:
    def __init__(self, verifier: Verifier, tape: Tape) -> None:
        self._verifier = verifier
        self._tape = tape

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        holds = self._verifier.verify(origin, body, proof)
        self._tape.write(Verified(holds), Instant(0))
        return holds
