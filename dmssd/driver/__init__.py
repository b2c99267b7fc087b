"""All input and output of the daemon's cores: sockets, netlink, disk, clock, systemd, and the loop that runs a node.

Read :mod:`dmssd.driver.loop` first: it runs a node by way of :class:`dmssd.driver.devices.Devices`. Each other file
is one device, short and dull; what to do is decided in the cores.
"""
