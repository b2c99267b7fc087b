"""``dmssd network compute``: what the mesh would do with a graph from a file, as one JSON object. Needs no daemon.

Everything wrong with the file or the names given is one line on standard error and exit status 2. The computation is
imported when it runs, so that the other commands do not pay for it.
"""

import json

import click


class _Unusable(click.ClickException):
    """Bad input: said in one line, exit status 2."""

    exit_code = 2


@click.command("compute")
@click.option("--input", "path", required=True, metavar="FILE", help="GML, GraphML or networkx node-link JSON.")
@click.option("--from", "source", metavar="NODE", help="Only this node's shortest-path tree; otherwise every node's.")
@click.option(
    "--mwt",
    "policy",
    type=click.Choice(["shortest", "spanning"]),
    default="shortest",
    show_default=True,
    help="Min-Weight Topology: lose no shortest path, or the union of all minimum spanning trees.",
)
@click.option(
    "--weight", metavar="ATTR", help="Edge attribute to use as weight, a number above 0; otherwise all are 1."
)
@click.option("--fail", multiple=True, metavar="A-B", help="Remove every link between two nodes; may be repeated.")
@click.option("--fail-node", "fail_nodes", multiple=True, metavar="NODE", help="Remove a node; may be repeated.")
def compute(
    path: str, source: str | None, policy: str, weight: str | None, fail: tuple[str, ...], fail_nodes: tuple[str, ...]
) -> None:
    """Compute the Min-Weight Topology and shortest-path trees of a graph file."""
    from dmssd import offline
    from dmssd.graphfile import GraphFileError, read_graph

    try:
        answer = offline.compute(read_graph(path), policy, weight, source, fail, fail_nodes)
    except GraphFileError as problem:
        raise _Unusable(str(problem)) from None
    click.echo(json.dumps(answer))
