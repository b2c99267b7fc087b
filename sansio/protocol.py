"""The version of what nodes say to one another, as one number.

    protocol | software | what it added
    1        | 0.1.0    | says no number at all: the field is missing, and reads as 1
    2        | 0.2.0    | numbers in handshakes and LSAs; statements, segments and the rest of 0.2

Both ends of a session use the lower of their two numbers, and a message that came with a later one goes only to peers
that speak it. What all nodes must compute alike from the link-state database is decided by the lowest number in it
(:func:`common`): a pure function of what everybody holds, so that all change over by the same database.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

PROTOCOL_FIRST = 1
PROTOCOL = 2

WireProtocol = Annotated[int, msgspec.Meta(ge=PROTOCOL_FIRST, lt=2**16)]


def common(spoken: Iterable[int]) -> int:
    """The highest protocol that all speak, this software included."""
    return min(PROTOCOL, min(spoken, default=PROTOCOL))
