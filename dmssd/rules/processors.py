"""Who computes: the members that the configuration names, by name or hex id.

Where it names nobody, every Forwarder computes for itself.

Election comes with the ServiceMapper. Until then a node takes plans from these members alone, so that no other member
can steer its traffic.
"""

from dmssd.roles.fd import ForwarderConfig
from dmssd.settings import NodeSettings
from sansio.ids import NodeId
from sansio.instant import Duration


def may_compute(node: NodeId, name: str, settings: NodeSettings) -> bool:
    """Whether this node takes plans from ``node``, whose certificate says ``name``."""
    return name in settings.tps or node.hex() in settings.tps


def computes(me: NodeId, settings: NodeSettings) -> bool:
    """Whether this node itself runs a TopologyProcessor."""
    return "tp" in settings.roles and may_compute(me, settings.name, settings)


def forwarder_config(settings: NodeSettings) -> ForwarderConfig:
    """How this node's Forwarder waits: not at all for plans that nobody computes."""
    if settings.tps:
        return ForwarderConfig(policy=settings.mwt, filter=settings.filter)
    return ForwarderConfig(policy=settings.mwt, plan_patience=Duration(0), filter=settings.filter)
