"""Ctrl-C, SIGTERM and a closed terminal as one exception, and a clean-up that they do not cut short."""

import contextlib
import signal
import types
from collections.abc import Iterator

import click

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked for an end. A BaseException, as KeyboardInterrupt is: nothing but clean-up should catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _interrupt(number: int, _frame: types.FrameType | None) -> None:
    ignore()  # the first is enough: from here on everything is clean-up
    raise Interrupted(number)


def _nothing(_number: int, _frame: types.FrameType | None) -> None:
    return


def ignore() -> None:
    """Let no signal disturb what follows. By a handler: with SIG_IGN one that is already under way is reported."""
    for number in SIGNALS:
        signal.signal(number, _nothing)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first signal raises :class:`Interrupted` and the later ones are ignored until the block is left.

    Then the process exits with 128 plus the signal's number, as a shell expects.
    """
    wanted = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in wanted}  # nohup stays nohup
    try:
        yield
    except Interrupted as interrupted:
        click.echo(f"stopped by {interrupted}", err=True)
        raise SystemExit(128 + interrupted.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
