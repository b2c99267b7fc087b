"""Makes changes that were previewed, or on trial, and undoes those that nobody confirmed (``dmssd.rules.confirming``).

One door for every kind of change: whoever can say what a request would change and how to undo it hands in a
:class:`~dmssd.rules.undoing.Planned`, and gets ``--dry-run`` and ``--confirm`` for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from dmssd.config.changes import Change
from dmssd.driver import clock
from dmssd.events import Notice
from dmssd.rules import confirming
from dmssd.rules.confirming import Confirming, ConfirmingAction, ConfirmingEvent, Perform, Refused, Undo
from dmssd.rules.undoing import Planned
from sansio.core import Persist, Wake
from sansio.errors import DmssdError, RequestError
from sansio.instant import SECOND, seconds

UNDO_AGAIN_S = 2.0
UNDO_TRIES = 150
"""An undo that needs others, soon after a start, may have to wait for them; given up after five minutes."""

_log = logging.getLogger("dmssd")


class Trials:
    """The changes of one daemon. ``perform`` carries out what undoes one; it may raise ``DmssdError``."""

    def __init__(
        self,
        core: Confirming,
        persist: Callable[[str, bytes], None],
        perform: Callable[[Undo], Awaitable[object]],
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._core = core
        self._persist = persist
        self._perform = perform
        self._on_notice = on_notice
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to watch deadlines; what has failed already is undone now."""
        self._arm()

    def stop(self) -> None:
        """Watch no longer: what is on trial is on disk, for the next start."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def shown(self) -> list[dict[str, Any]]:
        """What is on trial, as the API tells it."""
        now = clock.now()
        return [
            {"subject": one.subject, "what": one.what, "remaining_s": self._core.remaining(one, now) // SECOND}
            for one in self._core.trials
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator must know, one line each."""
        return tuple(
            f"a change of {one['subject']} is on trial and will be undone in {one['remaining_s']} s;"
            " next: dmssd config confirm"
            for one in self.shown()
        )

    async def make(
        self, planned: Planned, arguments: Mapping[str, Any], apply: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Make a change by ``apply``, as ``arguments`` say: ``dry_run`` only tells it, ``confirm_s`` tries it.

        The answer is that of ``apply``, with ``changes``, ``made`` and ``confirm_s``.

        ``RequestError`` where the same is on trial already, and whatever ``apply`` raises; then nothing has changed.
        """
        tried = bool(planned.changes) and arguments.get("confirm_s") is not None
        answer = {"changes": [asdict(change) for change in planned.changes], "made": True, "confirm_s": None}
        if arguments.get("dry_run"):
            return answer | {"made": False}
        if any(trial.subject == planned.subject for trial in self._core.trials):
            raise RequestError(confirming.refusal(planned.subject))
        if tried:
            answer["confirm_s"] = arguments["confirm_s"]
            self._try(planned, float(arguments["confirm_s"]))
        try:
            return await apply() | answer
        except DmssdError:
            self._handle(confirming.Abandoned(planned.subject))
            raise

    def confirm(self) -> dict[str, Any]:
        """All that is on trial stays. ``RequestError`` where nothing is."""
        return {"confirmed": self._ended(confirming.Confirmed())}

    def undo(self) -> dict[str, Any]:
        """All that is on trial is undone now. ``RequestError`` where nothing is."""
        return {"undone": self._ended(confirming.Recalled())}

    def _ended(self, event: ConfirmingEvent) -> list[str]:
        subjects = [trial.subject for trial in self._core.trials]
        if not subjects:
            raise RequestError("nothing is on trial: it was confirmed, or undone, or tried without --confirm")
        self._handle(event)
        return subjects

    def _try(self, planned: Planned, wait_s: float) -> None:
        # On disk before the change is made: whatever happens while it is made, it is undone.
        what = tuple(sentence(change) for change in planned.changes)
        self._handle(confirming.Tried(planned.subject, what, planned.undo, seconds(wait_s)))

    def _handle(self, event: ConfirmingEvent) -> None:
        actions = self._core.handle(event, clock.now())
        for action in actions:
            if isinstance(action, Refused):
                raise RequestError(action.reason)
        if any(isinstance(action, Perform) for action in actions):
            task = asyncio.ensure_future(self._carry_out(actions))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            for action in actions:
                self._do(action)
        self._arm()

    async def _carry_out(self, actions: list[ConfirmingAction]) -> None:
        for action in actions:
            if isinstance(action, Perform):
                await self._undo(action)
            else:
                self._do(action)

    async def _undo(self, action: Perform) -> None:
        for tries_left in reversed(range(UNDO_TRIES)):
            try:
                await self._perform(action.undo)
                return
            except DmssdError as problem:
                if not tries_left:
                    _log.error("the change of %s could not be undone: %s", action.subject, problem)
                    return
            await asyncio.sleep(UNDO_AGAIN_S)

    def _do(self, action: ConfirmingAction) -> None:
        if isinstance(action, Persist):
            self._persist(action.key, action.value)
        elif isinstance(action, Notice):
            self._on_notice(action)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._core.deadline()
        if due is None:
            self._timer = None
            return
        loop = asyncio.get_running_loop()
        wait_s = max(0, due - clock.now()) / SECOND
        self._timer = loop.call_later(wait_s, self._handle, Wake())


def sentence(change: Change) -> str:
    """A change in one line."""
    return f"{change.key}: {change.old} -> {change.new} ({change.effect})"
