"""Route filters: which announced prefixes a forwarder takes into its table.

Of the entries that hold a prefix, in either list, the longest decides; an entry in both lists denies. Where none holds
it, it is taken, unless ``accept`` names anything at all. The default routes are held by ``0.0.0.0/0`` and ``::/0``, as
everything is, and can be named alone too, since whoever mistrusts them need not mistrust everything.
"""

from dataclasses import dataclass

from routing.lsa import Prefix


@dataclass(frozen=True, slots=True)
class RouteFilter:
    """``accept_default`` and ``deny_default`` are about 0.0.0.0/0 and ::/0 alone, and go before the lists."""

    accept: tuple[Prefix, ...] = ()
    deny: tuple[Prefix, ...] = ()
    accept_default: bool = False
    deny_default: bool = False

    def takes(self, prefix: Prefix) -> bool:
        """Whether a route of ``prefix`` may be programmed here."""
        if prefix.is_default and (self.deny_default or self.accept_default):
            return not self.deny_default
        accepted = _longest(self.accept, prefix)
        denied = _longest(self.deny, prefix)
        if accepted is None and denied is None:
            return not self.accept and not self.accept_default
        return accepted is not None and (denied is None or accepted > denied)


def _longest(entries: tuple[Prefix, ...], prefix: Prefix) -> int | None:
    return max((entry.length for entry in entries if entry.holds(prefix)), default=None)
