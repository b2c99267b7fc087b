"""Reads the configuration again while the daemon runs: parse, check, compare, and only then apply.

A file that cannot be used changes nothing. A change that was tried and not confirmed is undone, although the files
still hold it: they belong to the administrator and are never written. What is refused of them is remembered in the
state directory by its digest, with the configuration that is in force instead. The next start goes by that too, until
the files change or ``dmssd config reload`` is asked for once more.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmssd.config.changes import RESTART, Change, changes, in_effect
from dmssd.config.load import load, parse
from dmssd.config.schema import Config, plain
from dmssd.driver.disk import Store
from dmssd.rules.confirming import Undo
from dmssd.rules.undoing import Planned
from sansio.errors import ConfigError, DmssdError, RequestError

UNDONE_KEY = "config-undone"
SUBJECT = "config"
UNDO_VERB = "configure"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to run by. ``refused``: digest of a configuration in the files that was undone, and is not what is run."""

    config: Config
    refused: str = ""


def choose(filed: Config, store: Store, failed: Undo | None) -> Chosen:
    """What a daemon that starts goes by: the files, unless what they hold was tried and not confirmed.

    ``failed``: how to undo a trial that ended while the daemon was away.
    """
    if failed is not None:
        _remember(store, filed, failed.arguments["config"])
    stored = store.read(UNDONE_KEY)
    if stored is None:
        return Chosen(filed)
    try:
        undone = json.loads(stored)
        if undone["refused"] == digest(filed):
            return Chosen(parse(undone["config"]), undone["refused"])
    except (ValueError, KeyError, TypeError, ConfigError):
        pass  # not of this version: the files are all there is
    store.delete(UNDONE_KEY)
    return Chosen(filed)


def digest(config: Config) -> str:
    """What tells one configuration from another."""
    text = json.dumps(plain(config), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Reloader:
    """The configuration in effect, and the way to another."""

    def __init__(
        self,
        file: Path | None,
        chosen: Chosen,
        store: Store,
        apply: Callable[[Config], None],
        again: Callable[[], None],
    ) -> None:
        """``apply`` puts a configuration in force, as far as that goes while running; ``again`` restarts the daemon."""
        self._file = file.absolute() if file is not None else None
        self._store = store
        self._apply = apply
        self._again = again
        self._refused = chosen.refused
        self.config = chosen.config

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator must know."""
        if not self._refused:
            return ()
        return (
            "the configuration files hold a change that was undone, and are not what is in force:"
            " mend them; next: dmssd config diff",
        )

    def filed(self) -> Config:
        """What the files hold now. ``RequestError`` where that cannot be used."""
        try:
            return load(self._file)
        except ConfigError as problem:
            raise RequestError(f"{problem}; nothing was changed: mend the file, then dmssd config reload") from None

    def plan(self, wanted: Config) -> Planned:
        """What taking ``wanted`` would change."""
        undo = Undo(UNDO_VERB, {"config": plain(self.config)})
        return Planned(SUBJECT, tuple(changes(self.config, wanted)), undo)

    def check_trial(self, planned: Planned) -> None:
        """``RequestError`` for what cannot be tried."""
        if any(change.key == "state" for change in planned.changes):
            raise RequestError("another state directory cannot be tried: the trial itself is kept there")

    def take(self, wanted: Config) -> None:
        """Put in force what of ``wanted`` can be without a restart."""
        try:
            merged = in_effect(self.config, wanted)
        except ConfigError as problem:
            raise RequestError(f"{problem}; nothing was changed: restart dmssd to have both") from None
        try:
            self._apply(merged)
        except DmssdError:
            self._apply(self.config)  # whatever part of it was in force already
            raise
        self.config = merged
        if self._refused:
            self._store.delete(UNDONE_KEY)
            self._refused = ""

    def restore(self, before: dict[str, Any]) -> None:
        """Go back to the configuration ``before``, also where that takes a restart."""
        kept = parse(before)
        left: list[Change] = [change for change in changes(self.config, kept) if change.effect == RESTART]
        self.take(kept)
        try:
            filed = load(self._file)
        except ConfigError:
            return  # nobody can start by the files as they are
        if digest(filed) != digest(kept):
            _remember(self._store, filed, before)
            self._refused = digest(filed)
        if left:
            self._again()

    async def make(self, wanted: Config) -> dict[str, Any]:
        """:meth:`take`, for :meth:`dmssd.driver.trials.Trials.make`."""
        self.take(wanted)
        return {}


def _remember(store: Store, filed: Config, kept: dict[str, Any]) -> None:
    store.write(UNDONE_KEY, json.dumps({"refused": digest(filed), "config": kept}).encode())
