"""The daemon: one node on this machine's devices, its state directory and its admin socket."""

import asyncio
import hashlib
import logging
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmssd import __version__
from dmssd.api.events import EventHub, Subscription
from dmssd.api.late import LateServer
from dmssd.api.scrape import ScrapeError, ScrapeServer
from dmssd.config.schema import Config, RouteSettings, plain
from dmssd.driver import clock, journal, process
from dmssd.driver.devices import DeviceSettings, KernelDevices
from dmssd.driver.disk import Store
from dmssd.driver.formats import ensure_format
from dmssd.driver.guard import guard_shown
from dmssd.driver.links import LinkRule
from dmssd.driver.loop import FibSuspect, Runner
from dmssd.driver.record import EventCodec, Recorder
from dmssd.driver.reload import UNDO_VERB, Chosen, Reloader, choose
from dmssd.driver.systemd import Notifier
from dmssd.driver.trace import trace
from dmssd.driver.trials import Trials
from dmssd.events import Notice, SettingsChanged
from dmssd.metrics import Machine, page
from dmssd.queries import QUERIES, Surroundings, link_ends
from dmssd.recording import RECORDED_TYPES, RecordOpened, Tap
from dmssd.rules import rotation
from dmssd.rules.confirming import STORED_KEY as TRIALS_KEY
from dmssd.rules.confirming import Confirming, Undo
from dmssd.rules.finding import find_node, name_of
from dmssd.rules.rotation import IDENTITY_KEY
from dmssd.rules.undoing import PLANS
from dmssd.rules.waiting import APPROVALS_KEY
from dmssd.secure import MEMBERSHIP_KEY, SecureNode
from dmssd.security.identity import SEED_BYTES, Identity
from dmssd.settings import NodeSettings
from gossip import replica
from gossip.swim import SwimConfig
from routing.adjacency import AdjacencyConfig
from routing.filter import RouteFilter
from routing.lsa import Prefix
from sansio.core import Rejected
from sansio.errors import DmssdError, RequestError
from sansio.instant import MILLISECOND, SECOND, Duration

if TYPE_CHECKING:
    from dmssd.api.server import AdminServer

STORED_KEYS = (
    MEMBERSHIP_KEY,
    "lsa-sequence",
    "incarnation",
    "tokens",
    APPROVALS_KEY,
    *replica.STORED_KEYS,
    "traffic",
    *rotation.STORED_KEYS,
)

REASONS_MAX = 64
"""Distinct reasons of rejections that are counted apart; further ones are counted together."""

FLOW_MAX = 65_535

_NO_ADDRESS = {
    4: "set address4, or mesh.pool4 on every node, in the configuration",
    6: "set address6, or mesh.ula = true, in the configuration",
}

_log = logging.getLogger("dmssd")


RUN_AGAIN = -1
"""Instead of an exit status: start the daemon afresh in this process, its configuration having been undone."""


def run(config: Config, file: Path | None = None, admin: socket.socket | None = None) -> int:
    """Run the daemon until it is told to stop; the exit status of the process, or ``RUN_AGAIN``.

    ``file`` is where ``config`` was read, and will be read again. ``admin``: a socket that somebody listens on already,
    and which stays open.
    """
    journal.set_up(os.environ)
    return asyncio.run(_run(config, file, admin))


async def _run(filed: Config, file: Path | None, admin: socket.socket | None) -> int:
    store = Store(filed.state)
    try:
        ensure_format(store)
        trials = Confirming(store.read(TRIALS_KEY), clock.boot())
        chosen = choose(filed, store, trials.failed("config", clock.now()))
        if chosen.refused:
            _log.warning("the configuration files hold a change that was undone: running by the one before it")
        devices = KernelDevices(_device_settings(chosen.config, _identity(store)), store)
        try:
            return await Daemon(chosen, store, devices, trials, file, admin).serve()
        finally:
            devices.close()
    finally:
        store.close()


class Daemon:
    """A running daemon, as the admin API sees it; satisfies :class:`dmssd.api.daemon.Daemon`."""

    def __init__(
        self,
        chosen: Chosen,
        store: Store,
        devices: KernelDevices,
        trials: Confirming,
        file: Path | None,
        admin: socket.socket | None = None,
    ) -> None:
        config = chosen.config
        self._again = False
        self._reloader = Reloader(file, chosen, store, self._apply, self._run_again)
        self._trials = Trials(trials, store.write, self._undo, self._on_notice)
        self._reloads: set[asyncio.Task[None]] = set()
        stored = {key: value for key in STORED_KEYS if (value := store.read(key)) is not None}
        seed = int.from_bytes(os.urandom(16), "big")
        rng = random.Random(seed)  # noqa: S311 - protocol jitter, not keys
        self._recorder = _recorder(config)
        tap = Tap(self._recorder) if self._recorder is not None else None
        mine, settings = _identity(store), node_settings(config)
        self.secure = SecureNode(settings, mine, stored, rng, os.urandom, tap=tap, wall=clock.wall)
        self._around = Surroundings(__version__, clock.now(), config=plain(config))
        self._started_s = clock.wall()
        self._events: Counter[str] = Counter()  # by kind, of which the code has a few dozen
        self._store = store
        self._notes: list[str] = []
        self._hub = EventHub()
        self._devices = devices
        self._notifier = Notifier(os.environ, os.getpid())
        self._runner = Runner(
            self.secure,
            devices,
            on_notice=self._on_notice,
            on_rejected=self._on_rejected,
            notifier=self._notifier,
        )
        self._scrape = self._scrape_server(config)
        self._server = _server(self, config, admin.dup() if admin is not None else None)

    async def serve(self) -> int:
        """Serve until stopped; the exit status."""
        await self._server.start()
        _log.info("dmssd %s is node %s (%s)", __version__, self.secure.node.settings.name, self.secure.node.me.hex())
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._trials.start()
        await self._start_scrape()
        try:
            status = await self._runner.run()
            return RUN_AGAIN if self._again and not status else status
        finally:
            self._trials.stop()
            await self._server.stop()
            if self._scrape is not None:
                await self._scrape.stop()
            if self._recorder is not None:
                self._recorder.close()

    def query(self, name: str, arguments: Mapping[str, str]) -> Any:
        """Answer from what is known now."""
        if name == "config_diff":
            return [asdict(change) for change in self._reloader.plan(self._reloader.filed()).changes]
        if name == "trials":
            return self._trials.shown()
        if name == "metrics":
            return self._page()
        query = QUERIES.get(name)
        if query is None:
            raise RequestError(f"this version knows no query {name!r}")
        return query(self.secure, self._surroundings(), arguments, clock.now())

    def _page(self) -> str:
        return page(self.secure, self._surroundings(), self._machine(), clock.now())

    def _scrape_server(self, config: Config) -> ScrapeServer | None:
        return ScrapeServer(self._page, *config.metrics.address) if config.metrics is not None else None

    async def _start_scrape(self) -> None:
        if self._scrape is None:
            return
        try:
            await self._scrape.start()
        except ScrapeError as problem:
            # A network is worth more than its figures.
            self._notes.append(f"metrics are not served: {problem}")
            _log.error("%s", self._notes[-1])

    def _surroundings(self) -> Surroundings:
        guard = guard_shown(self._reloader.config.guard, self._devices.guard)
        rejected = self._around.rejected | self._devices.dropped
        notes = (*self._reloader.notes, *self._trials.notes, *self._notes)
        return replace(self._around, rejected=rejected, guard=guard, notes=notes)

    def _machine(self) -> Machine:
        counted = self._devices.counted()
        return Machine(
            started_s=self._started_s,
            cpu_s=process.cpu_s(),
            resident_bytes=process.resident_bytes(),
            open_fds=process.open_descriptors(),
            lag=self._runner.lag,
            links={link.name: link.state == "up" for link in self._devices.links.values()},
            sent=counted.sent,
            received=counted.received,
            fib_operations=counted.fib_performed,
            fib_refused=counted.fib_refused,
            fib_reads=counted.fib_reads,
            events=self._events,
            disk_writes=self._store.writes,
            disk_bytes=self._store.written_bytes,
        )

    async def request(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Do something and answer when it is done."""
        match verb:
            case "trace":
                return await self._trace(arguments)
            case "reload":
                return await self._reload(arguments)
            case "confirm":
                return self._trials.confirm()
            case "undo":
                return self._trials.undo()
            case "metric":
                arguments = {**arguments, **link_ends(self.secure.node, arguments)}
        if verb in PLANS:
            planned = PLANS[verb](self.secure.node, arguments)
            return await self._trials.make(planned, arguments, lambda: self._runner.request(verb, arguments))
        return await self._runner.request(verb, arguments)

    def subscribe(self) -> Subscription:
        """Events from now on."""
        return self._hub.subscribe()

    # Configuration

    async def _reload(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        # Told of a failure too: the service manager waits for the end of what it asked for by SIGHUP.
        self._notifier.reloading(clock.now())
        try:
            return await self._taken(arguments)
        finally:
            self._notifier.ready()

    async def _taken(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        wanted = self._reloader.filed()
        planned = self._reloader.plan(wanted)
        if arguments.get("confirm_s") is not None:
            self._reloader.check_trial(planned)
        return await self._trials.make(planned, arguments, lambda: self._reloader.make(wanted))

    def _apply(self, config: Config) -> None:
        self._runner.enter(self._devices.configure(_link_rules(config), _announced(config)))
        self._runner.enter([SettingsChanged(node_settings(config)), FibSuspect()])
        self._around.config = plain(config)
        self._on_notice(Notice("config.applied", {}))

    def _run_again(self) -> None:
        self._again = True
        self._runner.stop()

    async def _undo(self, undo: Undo) -> None:
        if undo.verb == UNDO_VERB:
            self._reloader.restore(undo.arguments["config"])
        else:
            await self._runner.request(undo.verb, undo.arguments)

    def _on_hangup(self) -> None:
        task = asyncio.ensure_future(self._reload_logged())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_logged(self) -> None:
        try:
            answer = await self._reload({})
        except DmssdError as problem:
            _log.error("the configuration was not taken: %s", problem)
            return
        _log.info("the configuration was read again: %d settings differ", len(answer["changes"]))

    async def _trace(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        node = self.secure.node
        family = int(arguments.get("family") or 4)
        flow = int(arguments.get("flow") or 0)
        if not 0 <= flow <= FLOW_MAX:
            raise RequestError(f"a flow is a UDP source port, 1 to {FLOW_MAX}, not {flow}")
        source = self._own_address(family)
        destination = self._destination(str(arguments.get("destination", "")), family)
        traced = await trace(source, destination, flow)
        names = {
            str(prefix).rsplit("/", 1)[0]: name_of(node, origin)
            for origin, lsa in node.linkstate.lsdb.items()
            for prefix in lsa.prefixes
        }
        hops = [
            {
                "ttl": number,
                "address": hop.address,
                "name": names.get(hop.address or ""),
                "rtt_ms": None if hop.rtt_ns is None else round(hop.rtt_ns / 1e6, 3),
            }
            for number, hop in enumerate(traced.hops, start=1)
        ]
        return {"destination": destination, "flow": traced.flow, "reached": traced.reached, "hops": hops}

    def _own_address(self, family: int) -> str:
        size = 4 if family == 4 else 16
        for address in self.secure.node.addresses:
            if len(address.network) == size:
                return str(ip_address(address.network))
        raise RequestError(f"this node has no IPv{family} address: {_NO_ADDRESS[family]}")

    def _destination(self, text: str, family: int) -> str:
        try:
            if ip_address(text).version == family:
                return text
            raise RequestError(f"{text} is not an IPv{family} address")
        except ValueError:
            pass
        node = self.secure.node
        who = find_node(node, text)
        lsa = node.linkstate.lsdb.get(who)
        bits = 32 if family == 4 else 128
        for prefix in lsa.prefixes if lsa else ():
            if prefix.length == bits and len(prefix.network) * 8 == bits:
                return str(prefix).rsplit("/", 1)[0]
        raise RequestError(f"{text} has announced no IPv{family} address")

    def _on_notice(self, notice: Notice) -> None:
        self._events[notice.kind] += 1
        facts = dict(notice.facts)
        said = " ".join(f"{key}={value}" for key, value in facts.items())
        _log.info("%s %s", notice.kind, said, extra=journal.facts(notice.kind, facts))
        self._hub.publish({"time_s": round(clock.wall(), 3), "kind": notice.kind, "facts": facts})

    def _on_rejected(self, rejected: Rejected) -> None:
        counts = self._around.rejected
        reason = rejected.reason if rejected.reason in counts or len(counts) < REASONS_MAX else "other reasons"
        counts[reason] = counts.get(reason, 0) + 1
        if counts[reason] == 1:
            # The first of a kind is worth a line; a flood of them is worth a number.
            told = journal.facts("rejected", {"source": rejected.source, "reason": reason})
            line = "rejected from %s: %s (further ones are counted in dmssd status)"
            _log.warning(line, rejected.source, reason, extra=told)


def node_settings(config: Config) -> NodeSettings:
    """What the cores need to know of a configuration."""
    liveness = config.liveness
    return NodeSettings(
        name=config.name,
        prefixes=tuple(Prefix.parse(address) for address in (config.address4, config.address6) if address),
        roles=frozenset(config.roles),
        tps=config.mesh.tp,
        mwt=config.mesh.mwt,
        admins=config.mesh.admins,
        certificate_days=config.mesh.certificate_days,
        liveness=AdjacencyConfig(
            hello_interval=Duration(liveness.hello_interval_ms * MILLISECOND),
            echo_interval=Duration(liveness.echo_interval_ms * MILLISECOND),
            echo_misses=liveness.echo_misses,
            hello_lease=Duration(liveness.hello_lease_s * SECOND),
            radio_echo_interval=Duration(liveness.radio_echo_interval_ms * MILLISECOND),
            radio_echo_misses=liveness.radio_echo_misses,
        ),
        swim=SwimConfig(period=Duration(config.swim.period_ms * MILLISECOND)),
        announce=_announced(config),
        gateway=config.gateway.preference if config.gateway is not None else 0,
        filter=_filter(config.routes),
        pool4=Prefix.parse(config.mesh.pool4) if config.mesh.pool4 else None,
        ula=config.mesh.ula,
    )


def _announced(config: Config) -> tuple[Prefix, ...]:
    gateway = config.gateway
    defaults = [] if gateway is None else ["0.0.0.0/0"] * gateway.ipv4 + ["::/0"] * gateway.ipv6
    return tuple(Prefix.parse(prefix) for prefix in (*config.announce, *defaults))


def _filter(routes: RouteSettings) -> RouteFilter:
    accept, deny = (
        tuple(Prefix.parse(entry) for entry in entries if entry != "default")
        for entries in (routes.accept, routes.deny)
    )
    return RouteFilter(accept, deny, "default" in routes.accept, "default" in routes.deny)


def _device_settings(config: Config, identity: Identity) -> DeviceSettings:
    digest = hashlib.blake2b(identity.node, digest_size=4).digest()
    return DeviceSettings(
        port=config.port,
        links=_link_rules(config),
        hash_seed=int.from_bytes(digest, "big") or 1,
        guard=config.guard,
        announced=_announced(config),
    )


def _link_rules(config: Config) -> tuple[LinkRule, ...]:
    return tuple(
        LinkRule(rule.match, rule.metric if isinstance(rule.metric, int) else 0, rule.kind, rule.medium)
        for rule in config.links
    )


def _server(daemon: Daemon, config: Config, listener: socket.socket | None) -> "AdminServer | LateServer":
    if config.api == "when-asked":
        return LateServer(daemon, config.socket, listener)
    from dmssd.api.server import AdminServer  # here, because whoever is not asked need not load it

    return AdminServer(daemon, config.socket, listener)


def _recorder(config: Config) -> Recorder | None:
    if config.record is None:
        return None
    limit_bytes = config.record.limit_mib << 20
    codec = EventCodec(RECORDED_TYPES)
    return Recorder(config.record.path, limit_bytes, codec, lambda before: RecordOpened(__version__, before))


def _identity(store: Store) -> Identity:
    seed = store.read(IDENTITY_KEY)
    if seed is None:
        seed = os.urandom(SEED_BYTES)
        store.write(IDENTITY_KEY, seed)
    return Identity(seed)
