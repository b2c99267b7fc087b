"""Everything that can be configured, with its default and what raising and lowering it costs.

A :class:`Config` that exists is consistent: what spans two settings is checked when it is made. The order of the
fields is the order in which ``dmssd config show`` prints them.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmssd.config import paths
from dmssd.config.readers import (
    absolute_path,
    address4,
    address6,
    array,
    boolean,
    integer,
    integer_or,
    interface_glob,
    listen_address,
    name,
    one_of,
    optional_table,
    own_name,
    pool4,
    prefix,
    required,
    route_entry,
    setting,
    socket_path,
    table,
)
from routing.lsa import METRIC_MAX, PREFERENCE_MAX
from sansio.errors import ConfigError

ROLES = ("fd", "tp")
MWT_POLICIES = ("shortest", "spanning")
GUARD_POLICIES = ("strict", "links", "off")
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "small": {"api": "when-asked", "liveness": {"echo_interval_ms": 500}},
}
"""What each profile has for settings that nobody set. Only what a measurement shows to save something
(benchmarks/small.py; docs/operating/sizing.md says what was tried and saves nothing)."""
METRIC_DEFAULT = 10
FILTER_MAX = 256
ANNOUNCED_MAX = 60
"""Prefixes of one node: an LSA holds 64, four are left for its own addresses and default routes."""


@dataclass(frozen=True, slots=True)
class LinkRule:
    """``[[links]]``: which interfaces carry the mesh. The first rule whose pattern matches an interface decides."""

    match: str = required(interface_glob)
    """Shell pattern on interface names, ``eth*``. A wider one greets, and forwards, on more networks than you meant."""

    metric: int | str = field(default=METRIC_DEFAULT, metadata={"read": integer_or("measured", 1, METRIC_MAX)})
    """Cost of sending over these links. Raised, traffic avoids them while another way is cheaper; lowered, it is drawn
    to them. Only ratios matter; equal sums over two ways share the traffic. ``measured``: by round trip and loss, 10
    for a clean link of at most a millisecond, and at most one step of one half in ten seconds."""

    kind: str = setting("auto", one_of("auto", "segment", "point-to-point"))
    """Whether many nodes share the link: ``auto`` counts them. ``segment`` says so before the third is there;
    ``point-to-point`` makes every pair on it adjacent, for media on which not everybody hears everybody."""

    medium: str = setting("auto", one_of("auto", "wire", "radio"))
    """How fast its neighbours are missed: as ``liveness.echo_*`` says on a ``wire``, as ``liveness.radio_echo_*`` on
    ``radio``. ``auto``: radio where the kernel says wireless."""


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """``[mesh]``: must be the same on every node; nodes that differ still work, but their plans compete."""

    tp: tuple[str, ...] = setting((), array(name, distinct=True))
    """Names or node ids of the nodes whose TopologyProcessors compute for all. More survive more failures and send
    more plans; none: every forwarder computes for itself, which costs each an SPF per change and no waiting."""

    mwt: str = setting("shortest", one_of(*MWT_POLICIES))
    """Which links the Min-Weight Topology keeps: ``shortest`` loses no shortest path; ``spanning`` keeps only minimum
    spanning trees, which saves links and lengthens ways."""

    admins: int = setting(3, integer(1, 64))
    """So many members, the first ones, may admit and expel others. Raised, more can help when one is lost, and more
    have to be trusted; lowered to 1, the founder alone can, until it grants others."""

    certificate_days: int = setting(400, integer(0, 3_650))
    """Lifetime of the certificates that this node makes as an admin; admins renew them by themselves after half of it.
    Raised, a mesh does longer without any admin before it complains; 0: certificates without expiry."""

    pool4: str | None = setting(None, pool4)
    """Where a node without ``address4`` draws its IPv4 address from: ``"10.77.0.0/16"``. Larger, new nodes meet fewer
    taken addresses; none: such a node has no IPv4 address. No network that a member is on by itself."""

    ula: bool = setting(True, boolean)
    """Whether a node without ``address6`` draws an IPv6 block from the mesh's own unique local prefix (fd..., /48)."""


@dataclass(frozen=True, slots=True)
class LivenessSettings:
    """``[liveness]``: how fast a dead link or a dead daemon is noticed."""

    echo_interval_ms: int = setting(100, integer(10, 10_000))
    """Between two kernel echoes to a neighbour. Lowered, failures are found sooner, at one packet each way per link
    and interval, and a jittery radio flaps; raised, healing waits."""

    echo_misses: int = setting(3, integer(1, 20))
    """Echoes lost in a row before a link is down. At 1 a single lost packet moves routes; each more adds an interval
    to healing."""

    hello_interval_ms: int = setting(1_000, integer(50, 60_000))
    """Between two hellos of the daemon. Lowered, a stopped daemon is seen sooner, for more CPU on every link."""

    hello_lease_s: int = setting(60, integer(1, 3_600))
    """How long a neighbour whose kernel answers while its daemon is silent stays in use. Raised, longer restarts and
    upgrades pass unnoticed; lowered, a daemon that hangs with stale routes is dropped sooner."""

    radio_echo_interval_ms: int = setting(1_000, integer(10, 60_000))
    """``echo_interval_ms`` over a radio, where air time is dear and a burst of loss is no failure."""

    radio_echo_misses: int = setting(3, integer(1, 20))
    """``echo_misses`` over a radio."""

    def __post_init__(self) -> None:
        if self.hello_lease_s * 1_000 < 3 * self.hello_interval_ms:
            raise ConfigError(
                "liveness.hello_lease_s",
                f"must be at least three hello intervals ({3 * self.hello_interval_ms} ms), got {self.hello_lease_s} s:"
                " raise it, or lower liveness.hello_interval_ms",
            )


@dataclass(frozen=True, slots=True)
class SwimSettings:
    """``[swim]``: membership. Must be alike on every node."""

    period_ms: int = setting(700, integer(50, 60_000))
    """Protocol period: one probe each. Lowered, deaths are noticed sooner for about 220 bytes sent per period;
    raised, slow networks are suspected less."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """``[gateway]``: this node leads out of the mesh, and announces a default route. Not unless the table is there."""

    preference: int = setting(100, integer(1, PREFERENCE_MAX))
    """The mesh uses the most preferred gateways, of these the nearest; the others stand by. Raised, this one is used by
    more nodes. While a node of version 0.1.0 is in the mesh, all use the nearest whatever its preference."""

    ipv4: bool = setting(True, boolean)
    """Announce 0.0.0.0/0."""

    ipv6: bool = setting(True, boolean)
    """Announce ::/0. Off where the uplink has no IPv6, else other nodes' IPv6 to the outside ends here."""

    def __post_init__(self) -> None:
        if not (self.ipv4 or self.ipv6):
            raise ConfigError("gateway", "announces neither IPv4 nor IPv6: remove the table, or set one of them")


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """``[routes]``: what this node takes into its own table of that which others announce.

    Of the entries that hold a prefix the longest decides. Denying what a member lies behind makes it unreachable from
    here, and traffic of others that comes through here is lost too: filter on all nodes alike, or at the edge.
    """

    accept: tuple[str, ...] = setting((), array(route_entry, distinct=True, items_max=FILTER_MAX))
    """Prefixes to take, ``["10.0.0.0/8", "fd00::/8"]``; ``default`` stands for default routes alone. None named:
    everything; else nothing but these."""

    deny: tuple[str, ...] = setting((), array(route_entry, distinct=True, items_max=FILTER_MAX))
    """Prefixes to refuse, ``["default"]``. An entry in both lists denies."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """``[record]``: keep every event that enters the node, for ``dmssd sim replay``. Off unless the table is there."""

    path: Path = required(absolute_path)
    """File of the ring. Holds who spoke to whom and when, never keys."""

    limit_mib: int = setting(16, integer(1, 1_024))
    """Size of the ring in MiB. Raised, it reaches further back; lowered, it spares the disk."""


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """``[metrics]``: serve ``/metrics`` over TCP too. Off unless the table is there; the admin socket has it always."""

    listen: str = required(listen_address)
    """Address and port, ``"127.0.0.1:9747"``. Whoever reaches it may read the metrics, unencrypted: who the members
    are is not among them, how many and how they are is. ``0.0.0.0`` or ``[::]``: whoever reaches this machine."""

    @property
    def address(self) -> tuple[str, int]:
        """The address without brackets, and the port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def hostname() -> str:
    """The host name of this machine, cut down to what a node's name may hold."""
    usable = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename.partition(".")[0])[:64]
    return usable or "node"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration of one daemon."""

    profile: str = setting("default", one_of(*PROFILES))
    """For which machine the defaults of the other settings are; what is set by itself counts whichever it is. ``small``
    is for one slow processor and little memory: ``api`` is ``when-asked`` and ``liveness.echo_interval_ms`` 500 then,
    so that the node itself notices a silent link after 1.5 s; a neighbour without it still does so after 0.3 s, and
    says so."""

    state: Path = setting(Path(paths.STATE_DIR), absolute_path)
    """Directory of identity, certificate and reserved numbers; one daemon each. Losing it loses the identity."""

    socket: Path = setting(Path(paths.SOCKET), socket_path)
    """Unix socket of the admin API; who may open it may do everything."""

    api: str = setting("at-start", one_of("at-start", "when-asked"))
    """When what answers on ``socket`` is loaded. ``when-asked``: with the first question, which then takes longer;
    until then the daemon is up sooner and holds less memory."""

    name: str = field(default_factory=hostname, metadata={"read": own_name})
    """What people call this node; the host name by default. Need not be unique, but people will wish it were."""

    port: int = setting(4747, integer(1, 65_535))
    """UDP port of the mesh: the same on every node of a link."""

    address4: str | None = setting(None, address4)
    """This node's own IPv4 address in the mesh, announced as a /32; none: one is drawn from ``mesh.pool4``."""

    address6: str | None = setting(None, address6)
    """This node's own IPv6 address in the mesh, announced as a /128; none: one is drawn, unless ``mesh.ula`` is off."""

    announce: tuple[str, ...] = setting((), array(prefix, distinct=True, items_max=ANNOUNCED_MAX))
    """Prefixes that lie behind this node, for all others to send here: ``["10.1.0.0/16"]``. They are withdrawn when the
    node leaves the mesh, and stay when its daemon stops. Of several nodes that announce one the nearest is used."""

    guard: str = setting("strict", one_of(*GUARD_POLICIES))
    """Which forwarding an nftables table of dmssd's own keeps out. ``links``: what comes from or goes to a link of the
    mesh and has its other end neither there nor in an announced prefix. ``strict``: beside that IPv6 between other
    interfaces, where it was dmssd that switched IPv6 forwarding on; choose ``links`` if another program routes IPv6
    here. ``off``: nothing; then a firewall of yours must do it, or this machine is a router for everybody."""

    roles: tuple[str, ...] = setting(ROLES, array(one_of(*ROLES), distinct=True))
    """What this node may do: ``fd`` forward traffic, ``tp`` compute for others when ``mesh.tp`` names it. Without
    ``fd`` it programs no routes and enables no forwarding."""

    gateway: GatewaySettings | None = setting(None, optional_table(GatewaySettings))
    routes: RouteSettings = field(default_factory=RouteSettings, metadata={"read": table(RouteSettings)})
    record: RecordSettings | None = setting(None, optional_table(RecordSettings))
    metrics: MetricsSettings | None = setting(None, optional_table(MetricsSettings))
    mesh: MeshSettings = field(default_factory=MeshSettings, metadata={"read": table(MeshSettings)})
    links: tuple[LinkRule, ...] = setting((), array(table(LinkRule)))
    """None by default: a machine must not start to forward on networks that nobody named."""

    liveness: LivenessSettings = field(default_factory=LivenessSettings, metadata={"read": table(LivenessSettings)})
    swim: SwimSettings = field(default_factory=SwimSettings, metadata={"read": table(SwimSettings)})

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        for position, rule in enumerate(self.links):
            if rule.match in seen:
                path = f"links[{position}].match"
                raise ConfigError(path, f'"{rule.match}" is already decided by links[{seen[rule.match]}]: remove one')
            seen[rule.match] = position


def plain(config: Config) -> dict[str, Any]:
    """The configuration as dicts, lists, strings and numbers, ready for JSON; what is not set is left out."""
    return _plain_table(config)


def _plain_table(instance: Any) -> dict[str, Any]:  # any of the dataclasses above: dataclasses has no type for them
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {key: _plain_value(value) for key, value in values.items() if value is not None}


def _plain_value(value: object) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain_table(value)
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def toml(settings: Mapping[str, Any]) -> str:
    """What :func:`plain` gives, as TOML that ``--config`` takes: one line per setting, dotted keys."""
    return "".join(f"{line}\n" for line in _toml_lines(settings, ""))


def _toml_lines(settings: Mapping[str, Any], prefix: str) -> list[str]:
    lines: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += _toml_lines(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key} = {_toml_value(value)}")
    return lines


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # A TOML basic string has JSON's escapes; DEL alone must be escaped in TOML and is not in JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
