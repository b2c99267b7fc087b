"""The daemon: one leaderless, self-healing network out of any set of Linux machines.

This package composes the protocol cores (``sansio``, ``gossip``, ``routing``) into a node, drives it, and gives it
its faces: configuration, the admin API and the command line. Importing it imports nothing else, because the command
line must start in a blink.
"""

__version__ = "0.4.0.dev0"
