"""The simulator: whole meshes of real nodes under a seed, on a simulated clock, network, kernel and disk.

Theory of operation. A :class:`~dmssd.sim.world.World` holds N machines. Each runs the very ``SecureNode`` that the
daemon runs, behind the same door (:mod:`dmssd.events`); what the asyncio driver does with sockets, netlink and files,
the world does with :mod:`~dmssd.sim.network`, :mod:`~dmssd.sim.kernel` and :mod:`~dmssd.sim.disk`. Nodes exchange bytes
and nothing else. All chance comes from one seed, so a run is repeated exactly by its command line.

:mod:`~dmssd.sim.checkers` looks at such a world from outside and compares it with the truth, which only the simulator
knows (:mod:`~dmssd.sim.truth`). :mod:`~dmssd.sim.scenario` puts both together: faults with the checkers watching, then
peace, and convergence within a bound. The daemon never imports this package.
"""
