"""Configuration: TOML files in, one frozen, fully checked :class:`dmssd.config.schema.Config` out.

``schema`` says what can be set and what it costs, ``readers`` checks single values, ``load`` reads and merges files,
``paths`` holds the places that the command line must know without reading any of it. Nothing is imported here: the
command line asks for ``paths`` alone.
"""
