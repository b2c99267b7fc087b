"""Run a recorded node again, and say where it does something else than it did.

The record holds every event at the inner door and what the keys answered; the cores do the rest anew. Equal outcomes
to the end mean that whatever happened can be looked at in a debugger; a different outcome means that the code has
changed since, or reaches for something that it was not given.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmssd.driver.record import EventCodec, read_records
from dmssd.node import Node
from dmssd.recording import RECORDED_TYPES, NodeBegan, Outcome, RecordOpened, Signed, Verified, digest
from sansio.errors import StoreError
from sansio.ids import NodeId
from sansio.instant import Instant


@dataclass(slots=True)
class Replayed:
    """``diverged_at``: number of the first event with another outcome; ``None``: all were equal."""

    nodes: int = 0
    events: int = 0
    diverged_at: int | None = None
    diverged_event: str = ""
    span: int = 0


class _Answers:
    """The keys' answers, in the order in which they were given; serves as signer and verifier."""

    def __init__(self) -> None:
        self.queue: deque[Signed | Verified] = deque()

    def sign(self, body: bytes) -> bytes:
        proof: bytes = self._next(Signed).proof
        return proof

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        holds: bool = self._next(Verified).holds
        return holds

    def _next(self, kind: type[Any]) -> Any:
        if not self.queue or not isinstance(self.queue[0], kind):
            raise _Diverged
        return self.queue.popleft()


class _Diverged(Exception):  # noqa: N818 - not an error: the finding that a replay is for
    """The node asked its keys for something else than was recorded."""


def replay(path: Path) -> Replayed:
    """Replay a record to its end, or to the first event whose outcome differs. ``StoreError`` where it is none."""
    return replay_entries(read_records(path, EventCodec(RECORDED_TYPES)))


def replay_entries(entries: Iterator[tuple[Instant, Any]]) -> Replayed:
    """As :func:`replay`, from entries already read."""
    report = Replayed()
    answers = _Answers()
    node: Node | None = None
    done: bytes | None = None
    began: Instant | None = None
    for now, entry in entries:
        match entry:
            case RecordOpened(_, before):
                if before and node is None:
                    raise StoreError(
                        f"the record has lost its first {before} entries: a replay needs the beginning; "
                        "raise record.limit_mib and record again"
                    )
            case NodeBegan():
                report.nodes += 1
                rng = random.Random(entry.seed)  # noqa: S311 - protocol jitter, not keys
                node = Node(
                    entry.me, entry.mesh, entry.settings, answers, answers, (answers, answers), entry.stored, rng
                )
            case Signed() | Verified():
                answers.queue.append(entry)
            case Outcome(expected):
                if done != expected:
                    report.diverged_at = report.events
                    return report
                answers.queue.clear()
            case _:
                if node is None:
                    raise StoreError("the record begins in the middle of a node's life: it cannot be replayed")
                report.events += 1
                report.diverged_event = f"{entry!r} at {now}"
                began = now if began is None else began
                report.span = now - began
                done = _run(node, entry, now)
    return report


def _run(node: Node, event: Any, now: Instant) -> bytes | None:
    try:
        return digest(node.handle(event, now))
    except _Diverged:
        return None
