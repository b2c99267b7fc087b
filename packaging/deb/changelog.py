#!/usr/bin/env python3
"""Print debian/changelog from CHANGELOG.md: changelog.py CHANGELOG.md VERSION. The date is that of the last commit."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

MAINTAINER = "dmssd maintainers <maintainers@dmssd.invalid>"


def main() -> None:
    """One entry: what is new since the version before."""
    changes, version = Path(sys.argv[1]).read_text(), sys.argv[2]
    section = re.split(r"^## ", changes, flags=re.MULTILINE)[1]
    items = re.findall(r"^- (.*(?:\n  .*)*)", section, re.MULTILINE)
    last = subprocess.run(["git", "log", "-1", "--format=%cD"], capture_output=True, text=True, check=True)
    print(f"dmssd ({version}) unstable; urgency=medium\n")
    for item in items or ["A state between two versions."]:
        words = " ".join(line.strip() for line in item.splitlines())
        print(textwrap.fill(words, 76, initial_indent="  * ", subsequent_indent="    "))
    print(f"\n -- {MAINTAINER}  {last.stdout.strip()}")


if __name__ == "__main__":
    main()
