"""Names that people type and read, and the nodes they mean."""

import re
from collections.abc import Mapping

from dmssd.node import Node
from dmssd.security.certificate import Certificate
from sansio.errors import RequestError
from sansio.ids import NodeId

ID_DIGITS_MIN = 8
_WHOLE_ID = re.compile(r"[0-9a-f]{40}")


def name_of(node: Node, who: NodeId) -> str:
    """A node's name where one is known, else its id."""
    return node.names.get(who) or who.hex()


def find_node(node: Node, text: str, certified: Mapping[NodeId, Certificate] | None = None) -> NodeId:
    """The node of that name or id (eight hex digits suffice); ``RequestError`` where none or several fit.

    With ``certified``, names are those of certificates, and a whole id is enough for a node never heard of: for acts
    where being mistaken about who is meant costs.
    """
    if certified is None:
        known, fits = set(node.names) | set(node.linkstate.lsdb), node.names.called(text)
    else:
        known = set(certified)
        fits = sorted(who for who, certificate in certified.items() if certificate.name == text)
    if not fits and len(text) >= ID_DIGITS_MIN:
        fits = sorted(who for who in known if who.hex().startswith(text.lower()))
    if not fits and certified is not None and _WHOLE_ID.fullmatch(text):
        return NodeId(bytes.fromhex(text))
    if len(fits) != 1:
        problem = f"{len(fits)} nodes are called {text!r}: give the id" if fits else f"no node is called {text!r}"
        raise RequestError(f"{problem}; `dmssd member list` shows all")
    return fits[0]
