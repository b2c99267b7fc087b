"""``--dry-run`` and ``--confirm``: of every command that changes something and can be previewed, tried and undone."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean, plural
from dmssd.cli.target import Target

F = TypeVar("F", bound=Callable[..., Any])

TRIAL_S_MAX = 24 * 3_600


def trial_options(command: F) -> F:
    """Pass ``dry_run`` and ``confirm_s`` to the command."""
    dry = click.option("--dry-run", is_flag=True, help="Only show what would change.")
    confirm = click.option(
        "--confirm",
        "confirm_s",
        type=Duration(1, TRIAL_S_MAX),
        metavar="TIME",
        help="Undo it after TIME, such as 60s, unless dmssd config confirm comes first.",
    )
    return dry(confirm(command))


def trial_arguments(dry_run: bool, confirm_s: float | None) -> dict[str, Any]:
    """Those options as the request takes them."""
    return {"dry_run": dry_run or None, "confirm_s": confirm_s}


def show_outcome(target: Target, answer: dict[str, Any], sentence: str) -> None:
    """What a request that need not be tried has done: in its own words, unless it was only previewed or is tried."""
    if answer.get("made", True) and answer.get("confirm_s") is None:
        target.show(answer, lambda: sentence)
    else:
        show_changes(target, answer)


def show_changes(target: Target, answer: dict[str, Any]) -> None:
    """What a request with those options has changed, or would change."""
    target.show(answer, lambda: _text(answer))


def change_lines(changes: list[dict[str, Any]]) -> list[str]:
    """One line per change: old and new value, and when it counts."""
    return [
        f"{clean(one['key'])}: {_value(one['old'])} -> {_value(one['new'])}  [{clean(one['effect'])}]"
        for one in changes
    ]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(clean, value)) + "]"
    return clean(value)


def _text(answer: dict[str, Any]) -> str:
    changes = answer["changes"]
    if not changes:
        return "nothing differs"
    count = plural(len(changes), "setting")
    if not answer["made"]:
        return "\n".join([*change_lines(changes), f"{count} would change; nothing was changed"])
    lines = [*change_lines(changes), f"{count} changed"]
    if answer["confirm_s"] is not None:
        lines.append(f"on trial: undone in {answer['confirm_s']:g} s unless you say dmssd config confirm")
    return "\n".join(lines)
