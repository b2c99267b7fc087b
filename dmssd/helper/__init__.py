"""The closed list of what root does for the daemon, and nothing else.

The daemon has CAP_NET_ADMIN and CAP_NET_RAW only. Entering a network namespace, and starting, stopping or pinning units
of others takes more (CAP_SYS_ADMIN); a program of its own does it (``dmssd/driver/helping.py``, started by the service
manager for one request and then gone). Here is what it decides by: what a request looks like (``protocol.py``), what
root has allowed (``policy.py``) and what follows from both (``judging.py``). Nothing here touches the machine.
"""
