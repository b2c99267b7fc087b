"""What the admin API can be asked, and with which arguments.

The tables are the whole surface: :func:`query_arguments` and :func:`request_arguments` check what came against them,
so that a daemon only ever sees known, typed arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.rules.terms import LIFETIME_S_MAX, LIFETIME_S_MIN
from routing.lsa import METRIC_MAX
from sansio.errors import RequestError

PREFIX = "/v1"
TEXT_CHARACTERS_MAX = 1_024
TEXTS_MAX = 1_024
TOKEN_USES_MAX = 1_000
TOKEN_TTL_S_MAX = 7 * 24 * 3_600
ROTATE_TIMEOUT_S_MAX = 3_600.0
JOIN_TIMEOUT_S_MAX = 3_600
TRIAL_S_MAX = 24 * 3_600

Check = Callable[[object], str | None]
"""What a value must be, where it is not; None where it is."""


def _text(value: object) -> str | None:
    fits = isinstance(value, str) and 0 < len(value) <= TEXT_CHARACTERS_MAX
    return None if fits else f"text of 1 to {TEXT_CHARACTERS_MAX} characters"


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _texts(value: object) -> str | None:
    fits = isinstance(value, list) and 0 < len(value) <= TEXTS_MAX and not any(map(_text, value))
    return None if fits else f"a list of 1 to {TEXTS_MAX} texts of 1 to {TEXT_CHARACTERS_MAX} characters"


def _whole(low: int, high: int) -> Check:
    def check(value: object) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"a whole number from {low} to {high}"

    return check


def _number(low: float, high: float) -> Check:
    def check(value: object) -> str | None:
        # NaN compares false with everything, so it never fits.
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"a number from {low:g} to {high:g}"

    return check


def _choice(*choices: object) -> Check:
    def check(value: object) -> str | None:
        # 4 is not 4.0 and 1 is not True, though they are equal.
        fits = any(value == choice and type(value) is type(choice) for choice in choices)
        return None if fits else "one of " + ", ".join(map(str, choices))

    return check


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a query or request."""

    check: Check
    required: bool = False
    default: object = None


QUERIES: Mapping[str, tuple[str, Mapping[str, Argument]]] = {
    "/status": ("status", {}),
    "/members": ("members", {}),
    "/addresses": ("addresses", {}),
    "/network/global": ("network_global", {}),
    "/network/mwt": ("network_mwt", {"policy": Argument(_choice("shortest", "spanning"))}),
    "/network/spt": ("network_spt", {"node": Argument(_text)}),
    "/routes": ("routes", {}),
    "/roles": ("roles", {}),
    "/config": ("config", {}),
    "/config/diff": ("config_diff", {}),
    "/trials": ("trials", {}),
    "/greeters": ("greeters", {}),
    "/pending": ("pending", {}),
    "/guard": ("guard", {}),
}
"""Path below the prefix -> name of the query, its parameters."""

TRIAL: Mapping[str, Argument] = {
    "dry_run": Argument(_flag),
    "confirm_s": Argument(_number(1, TRIAL_S_MAX)),
}
"""Of every request that changes something and can be previewed and tried."""

REQUESTS: Mapping[str, Mapping[str, Argument]] = {
    "init": {"name": Argument(_text, required=True), "recovery": Argument(_flag)},
    "join": {
        "peer": Argument(_text, required=True),
        "token": Argument(_text),
        "name": Argument(_text),
        "leave_first": Argument(_flag),
        "timeout_s": Argument(_number(0.1, JOIN_TIMEOUT_S_MAX)),
    },
    "leave": {},
    "admit": {
        "nodes": Argument(_texts, required=True),
        "name": Argument(_text),
        "admin": Argument(_flag),
        "replaces": Argument(_text),
        "ttl_s": Argument(_whole(1, TOKEN_TTL_S_MAX)),
    },
    "renew": {"node": Argument(_text)},
    "rotate-key": {"timeout_s": Argument(_number(1, ROTATE_TIMEOUT_S_MAX))},
    "rotate-sessions": {"lifetime_s": Argument(_whole(LIFETIME_S_MIN, LIFETIME_S_MAX))},
    "grant": {"node": Argument(_text, required=True)},
    "recover": {"key": Argument(_text, required=True)},
    "expel": {
        "node": Argument(_text, required=True),
        "reason": Argument(_text),
        "withdraw": Argument(_flag),
    },
    "drain": {"on": Argument(_flag, default=True), **TRIAL},
    "metric": {"link": Argument(_text, required=True), "metric": Argument(_whole(1, METRIC_MAX)), **TRIAL},
    "token": {
        "uses": Argument(_whole(1, TOKEN_USES_MAX), default=1),
        "ttl_s": Argument(_whole(1, TOKEN_TTL_S_MAX), default=600),
    },
    "reload": {**TRIAL},
    "confirm": {},
    "undo": {},
    "trace": {
        "destination": Argument(_text, required=True),
        "family": Argument(_choice(4, 6), required=True),
        "flow": Argument(_whole(1, 65_535)),
    },
}
"""Verb, also the path below the prefix -> its arguments."""


def query_arguments(path: str, given: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the query at ``path``; raises ``RequestError``."""
    checked = _checked(QUERIES[path][1], given, f"GET {PREFIX}{path}")
    return {name: str(value) for name, value in checked.items()}


def request_arguments(verb: str, given: object) -> dict[str, Any]:
    """The arguments of ``verb`` from a decoded JSON body, defaults filled in; raises ``RequestError``."""
    if not isinstance(given, dict):
        raise RequestError(f"POST {PREFIX}/{verb} takes a JSON object")
    return _checked(REQUESTS[verb], given, f"POST {PREFIX}/{verb}")


def _checked(known: Mapping[str, Argument], given: Mapping[str, Any], door: str) -> dict[str, Any]:
    for name in given:
        if name not in known:
            takes = ", ".join(known) if known else "nothing"
            raise RequestError(f"{door} has no argument {name[:64]!r}: it takes {takes}")
    checked: dict[str, Any] = {}
    for name, argument in known.items():
        # An explicit null is the same as leaving the argument out.
        value = given.get(name)
        if value is None:
            if argument.required:
                raise RequestError(f"{door} needs the argument {name!r}")
            if argument.default is not None:
                checked[name] = argument.default
        elif wanted := argument.check(value):
            raise RequestError(f"{door}: {name} must be {wanted}")
        else:
            checked[name] = value
    return checked
