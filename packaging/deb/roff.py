"""Text as man(7) takes it."""

import re
from collections.abc import Iterable

_MARKED = re.compile(r"``(.+?)``|\*\*(.+?)\*\*|\*(\w[^*\n]*?)\*")


def escaped(text: str) -> str:
    """Plain text: nothing in it is taken for a request, and each hyphen is one that can be copied."""
    return _no_request(_plain(text))


def marked(text: str) -> str:
    """A docstring: ``code`` in bold, *this* in italics."""

    def shown(match: re.Match[str]) -> str:
        return f"\\fB{match[1] or match[2]}\\fP" if match[1] or match[2] else f"\\fI{match[3]}\\fP"

    return _no_request(_MARKED.sub(shown, _plain(text)))


def _plain(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\u00b5", "micro")


def _no_request(text: str) -> str:
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def paragraphs(text: str) -> str:
    """Several paragraphs, as they are divided by empty lines; lines that click keeps as they are stay so."""
    parts = [" ".join(part.split()) for part in text.replace("\b", "").split("\n\n")]
    return "\n.PP\n".join(marked(part) for part in parts if part)


def term(head: str, text: str) -> str:
    """One entry of a list; ``text`` is roff already."""
    return f".TP\n.B {escaped(head)}\n{text}"


def listed(entries: Iterable[tuple[str, str]]) -> str:
    """A list of terms and plain texts."""
    return "\n".join(term(head, escaped(text)) for head, text in entries)
