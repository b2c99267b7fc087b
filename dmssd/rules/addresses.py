"""Address claims as statements: one of each family for every member, on a topic of their own."""

from collections.abc import Iterable

from dmssd.rules.statements import TOPIC_ADDRESS
from dmssd.settings import NodeSettings
from gossip.replica import Key, Publish, Replica
from routing.claims import FAMILIES, ClaimConfig, ClaimHeard, PublishClaim

_SUBJECTS = {family: str(family).encode() for family in FAMILIES}
_FAMILIES = {subject: family for family, subject in _SUBJECTS.items()}


def claim_config(settings: NodeSettings) -> ClaimConfig:
    """What a node claims: its configured addresses, and one of each other family that is drawn."""
    return ClaimConfig(fixed=settings.prefixes, pool4=settings.pool4, ula=settings.ula)


def stated(action: PublishClaim) -> Publish:
    """The statement that makes a claim known."""
    return Publish(TOPIC_ADDRESS, _SUBJECTS[action.family], action.payload)


def heard(replica: Replica, keys: Iterable[Key]) -> list[ClaimHeard]:
    """What the statements under these keys now say."""
    events = []
    for key in keys:
        family = _FAMILIES.get(key.subject)
        if family is not None:
            held = replica.get(key.topic, key.author, key.subject)
            events.append(ClaimHeard(key.author, family, held.body if held is not None and held.body else None))
    return events
