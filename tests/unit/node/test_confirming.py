"""Changes on trial: kept when confirmed, undone when not, whatever happens to the daemon in between."""

import pytest

from dmssd.events import Notice
from dmssd.rules.confirming import (
    TRIALS_MAX,
    WAIT_MAX,
    Abandoned,
    Confirmed,
    Confirming,
    Perform,
    Recalled,
    Refused,
    Tried,
    Undo,
)
from sansio.core import Persist, Wake
from sansio.errors import StoreError
from sansio.instant import SECOND, Duration, Instant

UNDO = Undo("configure", {"config": {"port": 4747}})
WAIT = Duration(60 * SECOND)
NOW = Instant(5 * SECOND)
END = Instant(65 * SECOND)


def tried(core: Confirming, subject: str = "config", wait: Duration = WAIT) -> list[object]:
    return list(core.handle(Tried(subject, ("a: 1 -> 2",), UNDO, wait), NOW))


def stored(actions: list[object]) -> bytes:
    return [action.value for action in actions if isinstance(action, Persist)][-1]


def undone(actions: list[object]) -> list[object]:
    return [action.undo for action in actions if isinstance(action, Perform)]


def test_what_undoes_a_change_is_on_disk_before_anything_else_happens() -> None:
    core = Confirming(None, b"boot")
    actions = tried(core)
    assert isinstance(actions[0], Persist)
    assert core.deadline() == END
    assert Notice("change.trial", {"subject": "config", "seconds": 60}) in actions


def test_a_change_that_nobody_confirms_is_undone_at_its_deadline_and_not_before() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    assert core.handle(Wake(), Instant(END - 1)) == []
    actions = core.handle(Wake(), END)
    assert undone(actions) == [UNDO]
    assert core.deadline() is None
    assert core.handle(Wake(), Instant(END + 1)) == []


def test_it_is_forgotten_only_after_it_has_been_undone() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    kinds = [type(action) for action in core.handle(Wake(), END)]
    assert kinds.index(Perform) < kinds.index(Persist)


def test_a_confirmed_change_is_never_undone() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    kept = core.handle(Confirmed(), NOW)
    assert undone(kept) == []
    assert core.handle(Wake(), Instant(2 * END)) == []
    assert Confirming(stored(kept), b"boot").trials == []


def test_a_daemon_that_comes_back_in_time_lets_the_rest_of_the_trial_run() -> None:
    after_crash = Confirming(stored(tried(Confirming(None, b"boot"))), b"boot")
    assert after_crash.deadline() == END
    assert after_crash.failed("config", Instant(END - 1)) is None
    assert undone(after_crash.handle(Wake(), END)) == [UNDO]


def test_a_trial_that_ended_while_the_daemon_was_away_has_failed_from_the_start() -> None:
    after_crash = Confirming(stored(tried(Confirming(None, b"boot"))), b"boot")
    assert after_crash.failed("config", END) == UNDO
    assert after_crash.failed("drain", END) is None
    assert undone(after_crash.handle(Wake(), END)) == [UNDO]


def test_a_trial_of_before_a_reboot_has_failed_whatever_the_new_clock_says() -> None:
    rebooted = Confirming(stored(tried(Confirming(None, b"boot"))), b"another")
    assert rebooted.failed("config", Instant(1)) == UNDO
    assert rebooted.deadline() == 0
    assert undone(rebooted.handle(Wake(), Instant(1))) == [UNDO]


def test_a_second_change_of_the_same_is_refused_and_another_subject_is_not() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    (refused,) = tried(core)
    assert isinstance(refused, Refused)
    assert "dmssd config confirm" in refused.reason
    tried(core, "drain", Duration(10 * SECOND))
    assert core.deadline() == NOW + 10 * SECOND
    assert [trial.subject for trial in core.trials] == ["config", "drain"]


def test_only_what_is_due_is_undone() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    tried(core, "drain", Duration(10 * SECOND))
    core.handle(Wake(), Instant(NOW + 10 * SECOND))
    assert [trial.subject for trial in core.trials] == ["config"]


def test_a_recall_undoes_at_once_and_a_change_that_was_not_made_is_not_undone() -> None:
    core = Confirming(None, b"boot")
    tried(core)
    assert undone(core.handle(Recalled(), NOW)) == [UNDO]
    tried(core)
    assert undone(core.handle(Abandoned("config"), NOW)) == []
    assert core.deadline() is None


@pytest.mark.parametrize("wait", [Duration(0), Duration(SECOND - 1), Duration(WAIT_MAX + 1)])
def test_a_trial_of_no_time_or_of_days_is_refused(wait: Duration) -> None:
    core = Confirming(None, b"boot")
    assert [type(action) for action in tried(core, wait=wait)] == [Refused]
    assert core.trials == []


def test_the_number_of_trials_is_bounded() -> None:
    core = Confirming(None, b"boot")
    for number in range(TRIALS_MAX):
        tried(core, f"link {number}")
    assert [type(action) for action in tried(core)] == [Refused]


def test_damaged_trials_are_named_and_not_guessed_at() -> None:
    with pytest.raises(StoreError, match="trials"):
        Confirming(b"\xff", b"boot")
