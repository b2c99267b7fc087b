"""Takes secrets out of what is to be shown to others: text, and plain data.

What is known to be secret goes wherever it stands, in the spellings that bytes usually have. What looks like a secret
of ours (join tokens, recovery keys), or stands where secrets stand (after ``password =``, ``--token``), goes as well.
It is better to take out too much. A secret of somebody else's in the middle of a sentence is not recognised.
"""

import base64
import re
from collections.abc import Iterable
from typing import Any

REMOVED = "[removed]"
SECRET_BYTES_MIN = 8
"""Shorter ones are no secrets, and stand everywhere."""
DEPTH_MAX = 32

_WORDS = r"pass(?:word|phrase|wd)?|secret|token|psk|private[_-]?key|recovery[_-]?key|api[_-]?key|credential"
_OURS = re.compile(r"dmssr?[0-9]+\.[A-Za-z0-9_+/=-]*")
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL)
_ASSIGNED = re.compile(
    rf"(?P<name>(?:{_WORDS})[\w-]{{0,40}}[\"']?\s{{0,4}}[:=]\s{{0,4}})"
    r"(?P<value>\"[^\"\n]*\"?|'[^'\n]*'?|[^\s,;\"'}\]]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(?P<name>--(?:{_WORDS})[ =])(?P<value>\S+)", re.IGNORECASE)
_NAMED = re.compile(_WORDS, re.IGNORECASE)


class Scrubber:
    """Knows some secrets, and what others look like."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        spellings = {text for secret in secrets if len(secret) >= SECRET_BYTES_MIN for text in _spellings(secret)}
        # The longest first: a shorter one may be a part of it.
        ordered = sorted(spellings, key=lambda text: (-len(text), text))
        self._known = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def text(self, text: str) -> str:
        """``text`` without what is secret."""
        if self._known is not None:
            text = self._known.sub(REMOVED, text)
        text = _PEM.sub(REMOVED, text)
        text = _OURS.sub(REMOVED, text)
        text = _OPTION.sub(lambda found: found["name"] + REMOVED, text)
        return _ASSIGNED.sub(lambda found: found["name"] + REMOVED, text)

    def data(self, value: Any, depth: int = 0) -> Any:
        """Plain data (dicts, lists, texts, numbers) without what is secret; what is nested too deeply goes."""
        if depth > DEPTH_MAX:
            return REMOVED
        match value:
            case dict():
                return {self.text(str(key)): self._member(key, each, depth) for key, each in value.items()}
            case list() | tuple():
                return [self.data(each, depth + 1) for each in value]
            case None | bool() | int() | float():
                return value
        return self.text(str(value))

    def _member(self, key: object, value: Any, depth: int) -> Any:
        # A number is how many, how long or when; secrets are texts.
        if _NAMED.search(str(key)) and isinstance(value, str | list | dict):
            return REMOVED
        return self.data(value, depth + 1)


def _spellings(secret: bytes) -> list[str]:
    plain, safe = base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()
    found = [secret.hex(), secret.hex(":"), plain.rstrip("="), safe.rstrip("="), base64.b32encode(secret).decode()]
    text = secret.decode(errors="replace")
    return [*found, text] if text.isprintable() and "\ufffd" not in text else found
