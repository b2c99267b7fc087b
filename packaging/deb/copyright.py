#!/usr/bin/env python3
"""Print debian/copyright for what is bundled: copyright.py DIRECTORY, where the wheels lie unpacked.

Each library's licence is read from its own metadata and licence file, never from a list that could go out of date; one
that says nothing stops the build.
"""

import sys
from email.parser import HeaderParser
from pathlib import Path

COMMON = {"apache": "Apache-2.0", "gpl-2": "GPL-2", "gplv2": "GPL-2"}

HEAD = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: dmssd

Files: *
Copyright: The dmssd authors
License: Apache-2.0
 On Debian systems the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
"""


def licence(metadata: Path) -> tuple[str, str]:
    """Name and text of one library's licence."""
    headers = HeaderParser().parsestr(metadata.read_text(errors="replace"))
    classified = [
        each.rpartition(":: ")[2] for each in headers.get_all("Classifier", []) if each.startswith("License ::")
    ]
    said = headers.get("License-Expression") or next(iter(classified), "") or headers.get("License", "")
    files = sorted(
        path
        for path in metadata.parent.rglob("*")
        if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE"))
    )
    if not said or not files:
        sys.exit(f"{metadata.parent.name} says nothing of its licence: look, and teach packaging/deb/copyright.py")
    return said.splitlines()[0].strip(), "\n\n".join(path.read_text(errors="replace").strip() for path in files)


def shown(said: str, text: str) -> str:
    """What is printed of a licence: those that Debian has on every machine are referred to."""
    common = [path for name, path in COMMON.items() if name in said.lower()]
    if not common:
        return text
    where = " and ".join(f"/usr/share/common-licenses/{path}" for path in common)
    return f"{said}. On Debian systems the full text is in\n{where}."


def paragraph(text: str) -> str:
    """As the body of a field: indented, empty lines as dots."""
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in text.splitlines())


def main() -> None:
    """Our own licence, then each library's."""
    print(HEAD)
    for metadata in sorted(Path(sys.argv[1]).glob("*.dist-info/METADATA")):
        name = metadata.parent.name.split("-")[0]
        said, text = licence(metadata)
        short = "".join(letter if letter.isalnum() or letter in ".+-" else "-" for letter in said)
        files, body = f"usr/lib/dmssd/{name}*", paragraph(shown(said, text))
        print(f"Files: {files}\nCopyright: see the licence\nLicense: {name}-{short}\n{body}\n")


if __name__ == "__main__":
    main()
