"""Durations on the command line: ``90``, ``90s``, ``10m``, ``2h``, ``1d``."""

import re
from typing import Any

import click

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h|d|)")


class Duration(click.ParamType[float]):
    """A length of time in seconds, from ``low_s`` to ``high_s``."""

    name = "duration"

    def __init__(self, low_s: float, high_s: float) -> None:
        self._low_s = low_s
        self._high_s = high_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; fails as wrong usage."""
        match = _PATTERN.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no length of time: write 90s, 10m, 2h or 1d", param, ctx)
        seconds = float(match[1]) * _UNITS_S[match[2]]
        if not self._low_s <= seconds <= self._high_s:
            self.fail(f"{value!r} is not between {self._low_s:g} and {self._high_s:g} seconds", param, ctx)
        return seconds
