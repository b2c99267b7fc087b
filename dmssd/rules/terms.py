"""The terms of the mesh's sessions: how old their keys may grow, and since when all are to be new ones.

Admins state them on the topic ``sessions``: an *epoch*, which rises when all sessions are to be replaced, and a
*lifetime*, after which each is replaced anyway (:mod:`dmssd.security.renewing` does it). In force are those of the
highest epoch that an admin states who is not expelled; of equal ones, those of the higher NodeId. They are a function
of the statements alone, so that all members go by the same.

An admin that states the last epoch there is keeps others from raising it further until it is expelled: then its
statements count no more.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from dmssd.security.certificate import CAPABILITY_RECOVERY, own_certificate, verify_chain
from dmssd.security.signer import PROOF_CODEC
from dmssd.security.standing import Standing
from gossip.replica import Publish, Replica
from gossip.statements import Held
from sansio.errors import RemoteProtocolError, RequestError
from sansio.ids import NodeId
from sansio.wire import WIRE, Codec

TOPIC_SESSIONS = "sessions"

EPOCH_MAX = 2**32 - 1
LIFETIME_S_MIN = 60
LIFETIME_S_MAX = 30 * 86_400
LIFETIME_S = 86_400


class SessionTerms(msgspec.Struct, **WIRE):
    """The body of a statement; without one, these defaults are in force."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)] = 0
    lifetime_s: Annotated[int, msgspec.Meta(ge=LIFETIME_S_MIN, le=LIFETIME_S_MAX)] = LIFETIME_S


TERMS_CODEC: Codec[SessionTerms] = Codec(SessionTerms)


def terms_in_force(stated: Iterable[Held], standing: Standing) -> SessionTerms:
    """What the statements on ``sessions`` come to, among members of that standing."""
    best: tuple[int, NodeId] | None = None
    chosen = SessionTerms()
    for held in stated:
        terms = _believed(held, standing)
        if terms is not None and (best is None or (terms.epoch, held.key.author) > best):
            best, chosen = (terms.epoch, held.key.author), terms
    return chosen


def raised(present: SessionTerms, lifetime_s: int | None) -> SessionTerms:
    """The terms of the next epoch; ``RequestError`` where there is none."""
    if present.epoch >= EPOCH_MAX:
        raise RequestError(
            "the epoch of sessions cannot be raised further: an admin stated the last there is; expel that admin first"
        )
    return SessionTerms(present.epoch + 1, present.lifetime_s if lifetime_s is None else lifetime_s)


def inherited_terms(replica: Replica, former: bytes | None, me: NodeId) -> list[Publish]:
    """What a node that goes on under another key states anew, for its former id's statements count only until it goes.

    An admin that is expelled takes its terms along; whoever puts it out may state them again.
    """
    said = replica.get(TOPIC_SESSIONS, NodeId(former), b"") if former else None
    if said is None or former == me or replica.get(TOPIC_SESSIONS, me, b"") is not None:
        return []
    return [Publish(TOPIC_SESSIONS, b"", said.body)]


def _believed(held: Held, standing: Standing) -> SessionTerms | None:
    if held.key.subject:
        return None
    try:
        chain = PROOF_CODEC.decode(held.statement.proof, "proof").chain
        verify_chain(chain, standing.mesh)
        author = own_certificate(chain)
        terms = TERMS_CODEC.decode(held.body, "terms")
    except RemoteProtocolError:
        return None
    acts = author.is_admin and not author.capabilities & CAPABILITY_RECOVERY
    return terms if acts and standing.refusal(chain) is None else None
