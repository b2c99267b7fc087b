r"""Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").

    # HELP name sentence            \ and line feed escaped
    # TYPE name counter|gauge|histogram
    name{label="value",...} number  \, " and line feed escaped in values

Written by hand: the client library costs 23 MB in a daemon that may take 60, for these few lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dmssd.counts import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_CHARACTERS_MAX = 128
"""A longer value is cut: some of them are what other machines call themselves."""

_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_VALUE = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, type (``counter``, ``gauge``, ``histogram``), meaning, and the names of its labels."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()


class Exposition:
    """Collects samples of known families, and writes them in the families' order."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = {family.name: family for family in families}
        self._lines: dict[str, list[str]] = {family.name: [] for family in families}

    def add(self, name: str, value: float, *labels: str) -> None:
        """One sample, with one value for each label of its family."""
        pairs = zip(self._families[name].labels, labels, strict=True)
        self._lines[name].append(f"{name}{_labels(list(pairs))} {_number(value)}")

    def add_histogram(self, name: str, histogram: Histogram) -> None:
        """A whole histogram, without labels of its own."""
        lines, below = self._lines[name], 0
        for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            below += count
            lines.append(f"{name}_bucket{_labels([('le', _number(bound))])} {below}")
        lines += [f"{name}_sum {_number(histogram.total)}", f"{name}_count {below}"]

    def text(self) -> str:
        """The page; families without a sample at present are named all the same."""
        lines: list[str] = []
        for name, family in self._families.items():
            lines += [f"# HELP {name} {family.help.translate(_HELP)}", f"# TYPE {name} {family.type}"]
            lines += self._lines[name]
        return "\n".join(lines) + "\n"


def _labels(pairs: Sequence[tuple[str, str]]) -> str:
    shown = [f'{name}="{value[:LABEL_CHARACTERS_MAX].translate(_VALUE)}"' for name, value in pairs]
    return "{" + ",".join(shown) + "}" if shown else ""


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if isinstance(value, bool) else str(value)
