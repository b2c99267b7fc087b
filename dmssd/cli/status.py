"""``dmssd status``: one verdict, the counts, then only what is not as it should be.

The daemon judges (``verdict`` and ``reasons``); what is added here is what a person would ask next: links on which
nobody answers, a node that is still alone, and how much from outside was refused.
"""

from collections.abc import Iterator
from typing import Any

import click

from dmssd.cli.render import clean, duration, facts, plural
from dmssd.cli.target import Target, pass_target, shared_options

REJECTED_SHOWN_MAX = 8


@click.command()
@shared_options
@pass_target
@click.pass_context
def status(context: click.Context, target: Target) -> None:
    """Whether all is well; if not, what, why and what to do. Exit code 1 when degraded."""
    answer = target.client().get("status")
    target.show(answer, lambda: _text(answer))
    context.exit(0 if answer["verdict"] == "ok" else 1)


def _text(answer: dict[str, Any]) -> str:
    lines = [_verdict(answer), "", facts(_counts(answer))]
    abnormal = [f"- {clean(line)}" for line in _abnormal(answer)]
    return "\n".join([*lines, "", *abnormal] if abnormal else lines)


def _verdict(answer: dict[str, Any]) -> str:
    mesh = clean(answer["mesh_name"] or answer["mesh"])
    where = f"{clean(answer['name'])} in mesh {mesh}, {plural(answer['members']['up'], 'member')} up"
    if answer["verdict"] == "ok":
        return f"ok: {where}"
    return f"{clean(answer['verdict'])}: {where}, {plural(len(answer['reasons']), 'thing')} wrong"


def _counts(answer: dict[str, Any]) -> Iterator[tuple[str, object]]:
    counts = answer["members"]
    yield "members", ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "up")
    up = sum(1 for neighbour in answer["neighbours"] if neighbour["state"] == "up")
    adjacencies = plural(len(answer["neighbours"]), "adjacency", "adjacencies")
    yield "links", f"{len(answer['links'])} up, {up} of {adjacencies} up"
    plan = answer["plan"]
    yield "routes", f"{plan['routes']}, by plan of {plan['source']}"
    yield "lsdb", plural(answer["lsdb"]["origins"], "origin")
    if "sessions" in answer:
        yield "sessions", _sessions(answer["sessions"])
    yield "roles", " ".join(answer["roles"]) or "none"
    yield "daemon", f"{answer['version']}, up for {duration(answer['uptime_s'])}, node {answer['node']}"


def _sessions(terms: dict[str, int]) -> str:
    left = f", {terms['behind']} of them older" if terms["behind"] else ""
    lifetime = duration(terms["lifetime_s"])
    return f"{plural(terms['with_members'], 'member')} at epoch {terms['epoch']}{left}; replaced after {lifetime}"


def _abnormal(answer: dict[str, Any]) -> Iterator[str]:
    yield from answer["reasons"]
    if answer.get("draining"):
        yield "this node is draining: others send around it where they can; next: dmssd node undrain"
    if answer["plan"].get("taken"):
        taken = plural(answer["plan"]["taken"], "route was", "routes were")
        yield f"{taken} gone from the kernel (a program took them, or a link flapped), and put back; next: dmssd doctor"
    if answer["plan"].get("filtered"):
        filtered = plural(answer["plan"]["filtered"], "announced prefix is", "announced prefixes are")
        yield f"{filtered} kept out by [routes] of the configuration; next: dmssd network global"
    if not answer["links"]:
        yield "no link is in use: name interfaces under [[links]] in the configuration; next: dmssd config show"
    for link in answer["links"]:
        if not link["neighbours"]:
            yield (
                f"link {link['name']} has no neighbour: is dmssd running at its other end, in this mesh?"
                " next: dmssd event watch"
            )
    if answer.get("waiting"):
        who = plural(answer["waiting"], "node")
        yield f"{who} asked to be let in; next: dmssd pending, then dmssd admit ID on an admin"
    if sum(answer["members"].values()) <= 1:
        yield "this node is alone in its mesh; next: dmssd join PEER --token T, or dmssd token create to admit others"
    if answer["rejected"]:
        yield f"rejected from outside: {_rejected(answer['rejected'])}; next: dmssd event watch"


def _rejected(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} x {reason}" for reason, count in most[:REJECTED_SHOWN_MAX]]
    rest = sum(count for _, count in most[REJECTED_SHOWN_MAX:])
    return ", ".join([*shown, f"{rest} x other"] if rest else shown)
