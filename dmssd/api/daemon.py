"""What the admin server asks of a daemon.

Answers are plain values (dict, list, str, int, float, bool, None) in the shapes below; a ``DmssdError`` becomes a
4xx answer whose sentence is the error's message.

    query            | arguments | answer
    status           |           | node, name, mesh, mesh_name, version, uptime_s, verdict, reasons, members, links,
                     |           | neighbours, plan, roles, rejected, lsdb
    members          |           | [{node, name, state, incarnation, since_s, addresses}]
    network_global   |           | {nodes: [{node, name, prefixes}], edges: [{from, to, link, metric}]}
    network_mwt      | policy    | {policy, kept: [{from, to, metric}], dropped: [{from, to, metric, reason}]}
    network_spt      | node?     | {node, destinations: [{name, distance, next_hops, prefixes}]}
    routes           |           | {source, routes: [{prefix, group, next_hops}]}
    roles            |           | [{role, ...}]
    config           |           | the effective configuration, as ``dmssd.config.schema.plain`` gives it
    config_diff      |           | [{key, old, new, effect}]: what the files hold against what is in effect
    trials           |           | [{subject, what: [line], remaining_s}]: changes that wait for a confirmation
    greeters         |           | [{name, node, mesh, interface, address}]: who greets on this node's links
    metrics          |           | text as Prometheus reads it (dmssd.metrics); served at /metrics, not below /v1

    request          | arguments                                     | answer
    init             | name                                          | {mesh, mesh_name}
    join             | peer, token, name?, leave_first?, timeout_s?  | {mesh, mesh_name, name}, once the join has ended
    leave            |                                               | {}, once the leave has spread
    token            | uses, ttl_s                                   | {token, uses, ttl_s}
    reload           | dry_run?, confirm_s?                          | {changes: as config_diff, made, confirm_s}
    confirm          |                                               | {confirmed: [subject]}
    undo             |                                               | {undone: [subject]}
    trace            | destination, family (4, 6), flow?             | {destination (an address), flow, reached,
                     |                                               |  hops: [{ttl, name, address, rtt_ms}]}
"""

from collections.abc import Mapping
from typing import Any, Protocol

from dmssd.api.events import Subscription


class Daemon(Protocol):
    """A running daemon, as its admin server sees it. Called in the event loop only."""

    def query(self, name: str, arguments: Mapping[str, str]) -> Any:
        """Answer from what is known now; at most 5 ms. Raises ``RequestError``."""

    async def request(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Do something and answer when it is done. Raises ``RequestError``."""

    def subscribe(self) -> Subscription:
        """Events {time_s (Unix), kind, facts} from now on, out of the daemon's :class:`dmssd.api.events.EventHub`."""
