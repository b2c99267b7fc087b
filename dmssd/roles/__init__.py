"""The built-in µ-services, one file per role: ``fd`` forwards, ``tp`` computes. They talk by ``messages`` only.

Even on one node a TopologyProcessor reaches its Forwarder through encoded messages, so that nothing works only
because both happen to share a process.
"""
