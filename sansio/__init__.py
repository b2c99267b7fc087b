"""The ground every protocol core stands on: time, identity, the core pattern, the wire codec, errors.

Read :mod:`sansio.core` first. Nothing here touches a socket, a clock, a task or an unseeded random source, and
nothing here imports another package of this project.
"""
