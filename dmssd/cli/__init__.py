"""The command line. It talks to the daemon over its unix socket and imports none of it.

``dmssd status`` is typed many times a day and asked by scripts each second, so start-up time is a feature: commands
are imported when they run (``main``), HTTP is ``http.client`` (``client``), tables are our own (``render``).
"""
