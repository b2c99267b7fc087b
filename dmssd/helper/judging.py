"""What follows from a request, who sent it, and what root has allowed: one deed, or a refusal that says why."""

from dataclasses import dataclass
from typing import assert_never

from dmssd.helper.policy import POLICY_FILE, Policy
from dmssd.helper.protocol import OpenNetns, Request, Restart, SetCpus, Start, Stop
from sansio.errors import RequestError

ROOT = 0


@dataclass(frozen=True, slots=True)
class OpenNamespace:
    """Open the namespace of this name, and a netlink socket in it."""

    name: str


@dataclass(frozen=True, slots=True)
class Systemctl:
    """Run ``systemctl`` with these arguments."""

    arguments: tuple[str, ...]


Deed = OpenNamespace | Systemctl


def judge(request: Request, peer: int, daemon: int | None, policy: Policy) -> Deed:
    """The deed that ``request`` of the user ``peer`` comes to; ``daemon`` is the user that the daemon runs as.

    Raises ``RequestError`` where it is refused. Root is held to the policy as well: it has other ways.
    """
    if peer != ROOT and (daemon is None or peer != daemon):
        raise RequestError(f"user {peer} is neither root nor the daemon's: ask the daemon instead")
    match request:
        case OpenNetns(name):
            _demand(name, policy.namespaces, "namespaces")
            return OpenNamespace(name)
        case SetCpus(unit, cpus, mems):
            _demand(unit, policy.cpusets, "cpusets")
            nodes = () if mems is None else (f"AllowedMemoryNodes={mems}",)
            return Systemctl(("set-property", "--runtime", "--", unit, f"AllowedCPUs={cpus}", *nodes))
        case Start(unit):
            return _on_unit("start", unit, policy)
        case Stop(unit):
            return _on_unit("stop", unit, policy)
        case Restart(unit):
            return _on_unit("restart", unit, policy)
        case _:
            assert_never(request)


def _on_unit(verb: str, unit: str, policy: Policy) -> Systemctl:
    _demand(unit, policy.units, "units")
    return Systemctl((verb, "--", unit))


def _demand(name: str, allowed: tuple[str, ...], key: str) -> None:
    if name not in allowed:
        raise RequestError(f'root has not allowed it: add "{name}" to {key} in {POLICY_FILE}')
