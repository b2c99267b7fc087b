"""One stream of events to many readers, none of whom can make the daemon wait or grow.

Each reader has a queue of ``QUEUE_EVENTS_MAX``. A reader that falls behind loses its oldest events, and is told how
many by an event of kind ``events.lost`` before it goes on.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

QUEUE_EVENTS_MAX = 1_000

Event = Mapping[str, Any]


class EventHub:
    """Where the daemon publishes and the API subscribes. For one event loop."""

    def __init__(self, queue_events_max: int = QUEUE_EVENTS_MAX) -> None:
        self._limit = queue_events_max
        self._readers: list[Subscription] = []

    @property
    def readers(self) -> int:
        """How many subscriptions are open: with none, an event need not even be made."""
        return len(self._readers)

    def publish(self, event: Event) -> None:
        """Hand ``event`` to every reader; never waits."""
        for reader in self._readers:
            reader.put(event)

    def subscribe(self) -> "Subscription":
        """Every event from this call on, until the subscription is closed."""
        reader = Subscription(self, self._limit)
        self._readers.append(reader)
        return reader

    def forget(self, reader: "Subscription") -> None:
        """Stop handing events to ``reader``; no error if that was done."""
        if reader in self._readers:
            self._readers.remove(reader)


class Subscription:
    """One reader's events, as an async iterator that never ends by itself."""

    def __init__(self, hub: EventHub, limit: int) -> None:
        self._hub = hub
        self._events: deque[Event] = deque(maxlen=limit)
        self._lost = 0
        self._filled = asyncio.Event()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        await self._filled.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"time_s": self._events[0].get("time_s"), "kind": "events.lost", "facts": {"count": lost}}
        event = self._events.popleft()
        if not self._events:
            self._filled.clear()
        return event

    def put(self, event: Event) -> None:
        """Queue one event; the oldest makes room."""
        if len(self._events) == self._events.maxlen:
            self._lost += 1
        self._events.append(event)
        self._filled.set()

    def close(self) -> None:
        """Unsubscribe."""
        self._hub.forget(self)
