"""Rules that tie two cores together, one to a file; ``node.py`` itself holds none."""
