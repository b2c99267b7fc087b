"""What an admin request would change, and how it is taken back: for previews and trials of whatever kind.

A request is *planned* before it is made; :class:`dmssd.driver.trials.Trials` then shows it, makes it, or tries it. To
let a further request be tried, plan it here and name it in ``PLANS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.config.changes import NOW, Change
from dmssd.node import Node
from dmssd.rules.confirming import Undo
from sansio.errors import RequestError
from sansio.ids import NodeId

CONFIGURED = "as configured"


@dataclass(frozen=True, slots=True)
class Planned:
    """A change that could be made: of what, what would differ, and how it is taken back."""

    subject: str
    changes: tuple[Change, ...]
    undo: Undo


Arguments = Mapping[str, Any]


def _drain(node: Node, arguments: Arguments) -> Planned:
    before, wanted = node.traffic.draining, bool(arguments.get("on", True))
    return _planned("drain", "draining", before, wanted, Undo("drain", {"on": before}))


def _metric(node: Node, arguments: Arguments) -> Planned:
    """Both ends are set alike, so what this one held is what both go back to."""
    a, b = (NodeId(bytes.fromhex(str(arguments[end]))) for end in ("a", "b"))
    name = "-".join(node.names.get(end) or end.hex() for end in (a, b))
    if node.me not in (a, b):
        if arguments.get("confirm_s") is not None:
            raise RequestError(f"only an end of {name} knows what to go back to: try it there, or without --confirm")
        return _planned(f"metric {name}", name, "not known here", arguments.get("metric") or CONFIGURED, Undo("metric"))
    before, wanted = node.traffic.metrics.get(b if node.me == a else a), arguments.get("metric")
    undo = Undo("metric", {"a": a.hex(), "b": b.hex(), "metric": before})
    return _planned(f"metric {name}", f"metric {name}", before or CONFIGURED, wanted or CONFIGURED, undo)


def _planned(subject: str, key: str, old: object, new: object, undo: Undo) -> Planned:
    changes = () if old == new else (Change(key, old, new, NOW),)
    return Planned(subject, changes, undo)


PLANS: Mapping[str, Callable[[Node, Arguments], Planned]] = {"drain": _drain, "metric": _metric}
"""Verb -> what such a request would change."""
