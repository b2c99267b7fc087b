"""Test packets: where the programmed forwarding tables really send things, hop by hop, as of this instant."""

from dataclasses import dataclass
from ipaddress import IPv6Address

from dmssd.sim.world import World
from routing.fib import Gateway
from routing.lsa import Prefix

HOP_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Trace:
    """The machines a packet saw, and why it got no further; ``problem`` is empty when it arrived."""

    path: tuple[int, ...]
    problem: str = ""

    @property
    def is_loop(self) -> bool:
        """Whether it went round until its hop limit was used up, or would."""
        return self.problem == "loop"


def send(world: World, source: int, prefix: Prefix, flow: int, hop_limit: int = HOP_LIMIT) -> Trace:
    """The way of one packet of one flow, from machine ``source`` to the address ``prefix``."""
    path = [source]
    while not world.machines[path[-1]].kernel.is_local(prefix):
        if len(path) > hop_limit:
            return Trace(tuple(path), "loop")
        gateway = world.machines[path[-1]].kernel.choose(prefix, flow)
        if gateway is None:
            return Trace(tuple(path), "no route")
        following = cross(world, path[-1], gateway)
        if isinstance(following, str):
            return Trace(tuple(path), following)
        path.append(following)
    return Trace(tuple(path))


def spread(world: World, prefix: Prefix) -> dict[int, Trace]:
    """For every powered machine one way that a packet to ``prefix`` may take: a bad one wherever one exists.

    All equal-cost branches are followed, so no loop hides behind a flow hash. A trace that fails names the whole way
    to the place of failure.
    """
    known: dict[int, Trace] = {}
    for machine in world.machines:
        if machine.powered:
            _follow(world, prefix, machine.number, (), known)
    return known


def _follow(world: World, prefix: Prefix, number: int, above: tuple[int, ...], known: dict[int, Trace]) -> Trace:
    if number in known:
        return known[number]
    if number in above:
        return Trace((number,), "loop")
    kernel = world.machines[number].kernel
    if kernel.is_local(prefix):
        outcome = Trace((number,))
    else:
        outcome = Trace((number,), "no route")
        for gateway, _ in kernel.gateways(prefix):
            following = cross(world, number, gateway)
            if isinstance(following, str):
                outcome = Trace((number,), following)
                break
            rest = _follow(world, prefix, following, (*above, number), known)
            outcome = Trace((number, *rest.path), rest.problem)
            if rest.problem:
                break
    known[number] = outcome
    return outcome


def cross(world: World, number: int, gateway: Gateway) -> int | str:
    """The machine that a packet sent to ``gateway`` reaches, or what stops it."""
    end = world.network.passes((number, gateway.link), str(IPv6Address(gateway.address)))
    if end is None:
        return f"cable at {gateway.link} does not pass"
    peer = world.machines[end[0]]
    if not peer.powered:
        return f"{peer} is off"
    if peer.kernel.interfaces[end[1]].packed != gateway.address:
        return f"nobody has the gateway's address at {gateway.link}"
    return end[0]
