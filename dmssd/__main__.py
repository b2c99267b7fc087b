"""``python -m dmssd``: the same as the ``dmssd`` command."""

import sys

from dmssd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
