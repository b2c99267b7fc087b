"""``dmssd trace``: traceroute, by name."""

from typing import Any

import click

from dmssd.cli.render import clean
from dmssd.cli.target import Target, complete_member, pass_target, shared_options

TRACE_TIMEOUT_S = 60.0
PORT_MAX = 65_535


@click.command()
@click.argument("destination", shell_complete=complete_member)
@click.option("-4", "family", flag_value=4, type=int, default=4, help="Over IPv4 (the default).")
@click.option("-6", "family", flag_value=6, type=int, help="Over IPv6.")
@click.option(
    "--flow",
    type=click.IntRange(1, PORT_MAX),
    metavar="PORT",
    help="Source port of the probes: another flow may take another of several equal-cost ways.",
)
@shared_options
@pass_target
@click.pass_context
def trace(context: click.Context, target: Target, destination: str, family: int, flow: int | None) -> None:
    """The way of packets to DESTINATION, a member's name or an address, hop by hop."""
    arguments = {"destination": destination, "family": family, "flow": flow}
    answer = target.client().post("trace", arguments, TRACE_TIMEOUT_S)
    target.show(answer, lambda: _text(answer, destination, family))
    context.exit(0 if answer["reached"] else 1)


def _text(answer: dict[str, Any], destination: str, family: int) -> str:
    flow = f", flow {answer['flow']}" if answer.get("flow") else ""
    head = f"trace to {clean(destination)} ({clean(answer['destination'])}) over IPv{family}{flow}"
    lines = [f"{number:2d}  {_hop(hop)}" for number, hop in enumerate(answer["hops"], 1)]
    end = (
        []
        if answer["reached"]
        else [f"{clean(destination)} was not reached; next: dmssd network spt, dmssd member list"]
    )
    return "\n".join([head, *lines, *end])


def _hop(hop: dict[str, Any]) -> str:
    if not hop.get("address"):
        return "*"
    rtt = f"  {hop['rtt_ms']:.3f} ms" if hop.get("rtt_ms") is not None else ""
    who = f"{clean(hop['name'])} ({clean(hop['address'])})" if hop.get("name") else clean(hop["address"])
    return f"{who}{rtt}"
