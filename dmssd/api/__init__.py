"""The admin API: versioned JSON over HTTP on a unix socket.

``daemon`` is what the server needs of a daemon, ``events`` the bounded fan-out behind ``/v1/events``, ``requests`` the
table of what can be asked and with which arguments, ``sockets`` the care that a socket file needs, ``server`` all of
that on aiohttp, by way of ``http`` alone; ``late`` is a server that is loaded when it is asked. The command line
imports nothing from here. ``scrape`` is apart from all that: ``/metrics`` over TCP, and nothing else.
"""
