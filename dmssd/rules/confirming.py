"""Commit-confirmed: a change that is taken back by itself unless somebody confirms it in time.

Theory of operation. Whoever changes something on a remote board may cut the very way by which they came. So a change
can be made *on trial*: how to undo it is on disk before it is made, and unless a confirmation comes before its
deadline it is undone, whatever happened in between (JUNOS, ``commit confirmed``; NETCONF, RFC 6241 8.4).

What is on trial is told by its *subject* (``config``, ``drain``): at most one trial each, since undoing one change
would undo half of the other. Time is the kernel's monotonic clock, which goes on over a restart of the daemon, so a
daemon that comes back in time lets the rest of the trial run. A trial of before a reboot has failed: its clock is gone,
and nobody confirmed it. No wall clock is asked.

How a change is undone is data, an admin request to be carried out, so that it outlives the process:

    field     | meaning
    subject   | what is on trial
    what      | the change, for people, one line each
    verb      | the request that undoes it
    arguments | and its arguments
    deadline  | nanoseconds of the boot's monotonic clock
    boot      | the boot that clock belongs to
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

import msgspec

from dmssd.events import Notice
from sansio.core import Persist, Wake
from sansio.errors import RemoteProtocolError, StoreError
from sansio.instant import SECOND, Duration, Instant, after
from sansio.wire import Codec

STORED_KEY = "trials"
TRIALS_MAX = 16
"""Changes on trial at one time; a further one is refused."""

WAIT_MIN = Duration(1 * SECOND)
WAIT_MAX = Duration(24 * 3_600 * SECOND)


@dataclass(frozen=True, slots=True)
class Undo:
    """The admin request that takes a change back."""

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Trial(msgspec.Struct, array_like=True, frozen=True):
    """One change on trial."""

    subject: str
    what: list[str]
    verb: str
    arguments: dict[str, Any]
    deadline: int
    boot: bytes

    @property
    def undo(self) -> Undo:
        """How it is taken back."""
        return Undo(self.verb, self.arguments)


@dataclass(frozen=True, slots=True)
class Tried:
    """A change is about to be made on trial, for ``wait``."""

    subject: str
    what: tuple[str, ...]
    undo: Undo
    wait: Duration


@dataclass(frozen=True, slots=True)
class Confirmed:
    """All that is on trial is to stay."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A trial is to end now: that of ``subject``, or all."""

    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The change was not made after all: there is nothing to undo."""

    subject: str


@dataclass(frozen=True, slots=True)
class Perform:
    """Carry out the request that undoes a change."""

    subject: str
    undo: Undo


@dataclass(frozen=True, slots=True)
class Refused:
    """The change must not be made; the sentence says why and what to do. Nothing has changed."""

    reason: str


ConfirmingEvent = Tried | Confirmed | Recalled | Abandoned | Wake
ConfirmingAction = Persist | Perform | Notice | Refused

_CODEC: Codec[list[Trial]] = Codec(list[Trial])


class Confirming:
    """What is on trial. ``boot`` tells one boot of the machine from another; ``stored`` is the last ``Persist``."""

    def __init__(self, stored: bytes | None, boot: bytes) -> None:
        self._boot = boot
        self._trials: dict[str, Trial] = {}
        if stored is None:
            return
        try:
            trials = _CODEC.decode(stored, STORED_KEY)
        except RemoteProtocolError:
            raise StoreError(f"the stored {STORED_KEY} cannot be read: remove them from the state directory") from None
        self._trials = {trial.subject: trial for trial in trials[:TRIALS_MAX]}

    @property
    def trials(self) -> list[Trial]:
        """What is on trial, in the order of the changes."""
        return list(self._trials.values())

    def remaining(self, trial: Trial, now: Instant) -> Duration:
        """How long until it is undone; 0 for one that has failed."""
        return Duration(max(0, trial.deadline - now)) if trial.boot == self._boot else Duration(0)

    def failed(self, subject: str, now: Instant) -> Undo | None:
        """How to undo a change whose trial has failed already: for those that must not even begin by it."""
        trial = self._trials.get(subject)
        return trial.undo if trial is not None and not self.remaining(trial, now) else None

    def handle(self, event: ConfirmingEvent, now: Instant) -> list[ConfirmingAction]:
        """React to one event."""
        match event:
            case Tried():
                return self._on_tried(event, now)
            case Confirmed():
                return self._end(list(self._trials), "change.confirmed")
            case Abandoned(subject):
                return self._end([subject], None)
            case Recalled(subject):
                return self._undo([each for each in self._trials if subject in (None, each)])
            case Wake():
                return self._undo([each for each, trial in self._trials.items() if not self.remaining(trial, now)])
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When the first trial ends."""
        return min((self._ends(trial) for trial in self._trials.values()), default=None)

    def _ends(self, trial: Trial) -> Instant:
        return Instant(trial.deadline if trial.boot == self._boot else 0)

    def _on_tried(self, event: Tried, now: Instant) -> list[ConfirmingAction]:
        if not WAIT_MIN <= event.wait <= WAIT_MAX:
            return [Refused(f"a trial lasts {WAIT_MIN // SECOND} to {WAIT_MAX // SECOND} seconds")]
        if event.subject in self._trials:
            return [Refused(refusal(event.subject))]
        if len(self._trials) >= TRIALS_MAX:
            return [Refused(f"{TRIALS_MAX} changes are on trial already: dmssd config confirm, or dmssd config undo")]
        deadline = after(now, event.wait)
        undo = event.undo
        trial = Trial(event.subject, list(event.what), undo.verb, dict(undo.arguments), deadline, self._boot)
        self._trials[event.subject] = trial
        return [self._persist(), Notice("change.trial", {"subject": event.subject, "seconds": event.wait // SECOND})]

    def _undo(self, subjects: list[str]) -> list[ConfirmingAction]:
        # Forgotten only once it is undone: a crash in between undoes it again.
        undone: list[ConfirmingAction] = [Perform(subject, self._trials[subject].undo) for subject in subjects]
        return undone + self._end(subjects, "change.undone")

    def _end(self, subjects: list[str], notice: str | None) -> list[ConfirmingAction]:
        ended = [subject for subject in subjects if self._trials.pop(subject, None) is not None]
        if not ended:
            return []
        told: list[ConfirmingAction] = [Notice(notice, {"subject": each}) for each in ended] if notice else []
        return [self._persist(), *told]

    def _persist(self) -> Persist:
        return Persist(STORED_KEY, _CODEC.encode(self.trials))


def refusal(subject: str) -> str:
    """Why a change of what is on trial is refused."""
    return f"a change of {subject} is on trial: dmssd config confirm keeps it, dmssd config undo takes it back"
