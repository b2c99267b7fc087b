"""``dmssd metrics``: what a monitoring system is told."""

import click

from dmssd.cli.target import Target, pass_target, shared_options


@click.command()
@shared_options
@pass_target
def metrics(target: Target) -> None:
    """Print the daemon's metrics once, as a Prometheus server would be given them; with -o json inside one string.

    To have them scraped over the network: [metrics] listen in the configuration.
    """
    text = target.client().metrics()
    target.show({"metrics": text}, text.rstrip)
