"""What differs between two configurations, and what each difference takes to come into force.

A setting is *live* if it is named here; all others wait for a restart, so that a setting added later promises nothing
that is not built. Link rules are told by their pattern: ``links["eth*"].metric``.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.config.readers import join
from dmssd.config.schema import Config, plain

LIVE = ("address4", "address6", "announce", "gateway", "routes", "roles", "mesh", "links", "liveness", "swim")
"""Tables and settings of :class:`~dmssd.config.schema.Config` that a running daemon takes."""

NOW = "now"
RESTART = "after a restart"
NEXT_JOIN = "when this node next joins a mesh"
"""A member is called what its certificate says."""

UNSET = "not set"


@dataclass(frozen=True, slots=True)
class Change:
    """One setting's old and new value, as plain values, and when the new one counts."""

    key: str
    old: Any
    new: Any
    effect: str


def changes(old: Config, new: Config) -> list[Change]:
    """Every difference, in the order in which ``dmssd config show`` prints the settings."""
    before, after = _flat(plain(old), ""), _flat(plain(new), "")
    keys = dict.fromkeys((*before, *after))
    return [
        Change(key, before.get(key, UNSET), after.get(key, UNSET), _effect(key))
        for key in keys
        if before.get(key, UNSET) != after.get(key, UNSET)
    ]


def in_effect(running: Config, wanted: Config) -> Config:
    """What a daemon that runs by ``running`` has in effect once it has taken ``wanted``, before any restart."""
    return dataclasses.replace(running, **{name: getattr(wanted, name) for name in LIVE})


def _effect(key: str) -> str:
    top = key.partition(".")[0].partition("[")[0]
    if top == "name":
        return NEXT_JOIN
    return NOW if top in LIVE else RESTART


def _flat(value: Mapping[str, Any], path: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inside = join(path, key)
        if isinstance(item, Mapping):
            flat |= _flat(item, inside)
        elif inside == "links":
            flat |= _flat_links(item)
        else:
            flat[inside] = item
    return flat


def _flat_links(rules: list[dict[str, Any]]) -> dict[str, Any]:
    flat: dict[str, Any] = {"links": [rule["match"] for rule in rules]}  # the order decides, so it is a setting too
    for rule in rules:
        flat |= _flat({key: item for key, item in rule.items() if key != "match"}, f'links["{rule["match"]}"]')
    return flat
