"""How a machine gets another key while it runs: from the first word to the resignation of the old one.

A NodeId is the hash of a key, so the machine becomes another member. Step by step, each on disk before it is told:

1. The next key is made, and the node states it (topic ``succeed``), signed by both keys.
2. An admin's node admits the successor by itself, under the same name and with the same capabilities; a node that is an
   admin does so for its own. A member has one successor: a second one is not admitted.
   Where the statements of before were lost with the disk, the node first learns them again from another member: what
   its old key signed is named in that key's resignation, and what is not named there is void.
3. From now on the machine starts under the next key. The node floods its successor's first LSA and, in its own last
   one, says that it hands over (:mod:`routing.succession`). Neighbours, rows and routes stay what they are.
4. When all neighbours have acknowledged that, the node becomes the successor, as after a restart of its daemon: with
   the whole database, the routes in the kernel, its addresses.
5. ``RESIGN_AFTER`` later it publishes what the old key signed beforehand: its resignation. From then on that key opens
   nothing. Should that not happen, the admin that admitted the successor votes the old one out after ``LINGER`` (all
   admins do where an admin admitted its own), so that nobody keeps two memberships.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from dmssd.events import Request
from dmssd.rules.succession import PREDECESSOR_KEY
from dmssd.security.acts import SUCCESSION_CODEC, TOPIC_SUCCEED, Succession
from dmssd.security.certificate import Certificate, Credentials
from dmssd.security.identity import Identity, signature_holds
from dmssd.security.signer import MeshSigner
from dmssd.security.standing import Standing
from gossip.replica import Publish, Signer
from gossip.statements import REPLICA_CODEC, STATED_CODEC, Held, Push, Stated, Statement
from routing.flood import FLOOD_CODEC, REMAINING_MS_MAX, Flood, FloodItem
from routing.linkstate import SIGNED_CODEC
from routing.lsa import LSA_CODEC, Lsa, SignedLsa
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId, node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, earliest

NEXT_IDENTITY_KEY = "identity-next"
IDENTITY_KEY = "identity"
RESIGNATION_KEY = "resignation"
STORED_KEYS = (NEXT_IDENTITY_KEY, RESIGNATION_KEY, PREDECESSOR_KEY)
"""What is read at the start beside the identity itself, which only the driver reads."""

CONTEXT = b"dmssd succession 1"

HAND_OVER_MAX = Duration(500 * MILLISECOND)
"""How long neighbours are given to acknowledge: one that is stalled finds out later, as after a restart."""

RESIGN_AFTER = Duration(5 * SECOND)
LINGER = Duration(3_600 * SECOND)
PROTOCOL_NEEDED = 2
REASON = "goes on under another key"
UNANSWERED = (
    "no admin of the mesh has answered yet: the new key is made, and is taken into use as soon as one does; "
    "dmssd status tells, dmssd member list shows who is an admin"
)


@dataclass(slots=True)
class Rotation:
    """One change of our key under way. ``becomes`` is set once we have been admitted under the next one.

    ``uninformed``: it waits until we know what was stated before, as after the loss of a disk.
    """

    identity: Identity
    asked: list[tuple[Request, Instant]] = field(default_factory=list)  # who waits for it, and until when
    becomes: Credentials | None = None
    switch_at: Instant | None = None
    uninformed: bool = False

    @property
    def reason(self) -> str:
        """What people are told while it lasts."""
        return (
            f"a new key of this node waits to be admitted, by which its id will be {self.identity.node.hex()};"
            " next: see to it that an admin is up (dmssd member list)"
        )

    def deadline(self) -> Instant | None:
        """When to switch at the latest, or to tell somebody that it takes longer."""
        return earliest(self.switch_at, *(until for _, until in self.asked))

    def impatient(self, now: Instant) -> list[Request]:
        """Those who have waited long enough, once."""
        late = [request for request, until in self.asked if until <= now]
        self.asked = [(request, until) for request, until in self.asked if until > now]
        return late


def stated(next_identity: Identity, me: NodeId, mesh: MeshId) -> Publish:
    """The statement that ``me`` would go on under the next key."""
    signature = next_identity.sign(CONTEXT, mesh + me)
    body = Succession(next_identity.key, next_identity.x25519, signature)
    return Publish(TOPIC_SUCCEED, b"", SUCCESSION_CODEC.encode(body))


def signed_resignation(resignation: Publish, me: NodeId, signer: Signer) -> bytes:
    """The resignation of ``me`` as it is pushed to others: signed now, by a key that will be gone when it is said."""
    signed = STATED_CODEC.encode(Stated(resignation.topic, resignation.subject, 1, resignation.body))
    return REPLICA_CODEC.encode(Push((Statement(me, signed, signer.sign(signed)),)))


def to_admit(statements: Iterable[Held], members: Mapping[NodeId, Certificate]) -> list[tuple[NodeId, Succession]]:
    """Members that want a successor, with what they stated on topic ``succeed``; who has one is no member any more."""
    found = []
    for held in statements:
        author = held.key.author
        if author not in members:
            continue
        try:
            wanted = SUCCESSION_CODEC.decode(held.body, "succession")
        except RemoteProtocolError:
            continue
        fresh = node_id(wanted.key) not in members
        if fresh and signature_holds(wanted.key, CONTEXT, members[author].mesh + author, wanted.signature):
            found.append((author, wanted))
    return found


def lingering(standing: Standing, me: NodeId) -> list[NodeId]:
    """Members to whom we admitted a successor, or who did so themselves, and who are still there."""
    acts = [act for held in standing.admitted.values() for act in held if act.author in (me, act.succeeds)]
    return sorted({act.succeeds for act in acts if act.succeeds is not None} - standing.expelled.keys() - {me})


def first_flood(mine: Lsa, credentials: Credentials) -> bytes:
    """What makes the successor known: the node's present LSA under the next name, signed by the next key."""
    lsa = msgspec.structs.replace(
        mine, origin=credentials.identity.node, sequence=1, successor=None, predecessor=mine.origin
    )
    body = LSA_CODEC.encode(lsa)
    signed = SIGNED_CODEC.encode(SignedLsa(body, MeshSigner(credentials).sign(body)))
    return FLOOD_CODEC.encode(Flood((FloodItem(REMAINING_MS_MAX, signed),)))
