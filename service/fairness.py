"""Who is next: fair queueing between clients, and between the calls of a client.

Each turn goes to whoever has been served least, in work: tokens times the rows that the search for them takes. Who
comes (back) starts level with the one whose turn it was last, so nobody saves up turns while away. A book and a
sentence that wait together are thus served alike until the sentence is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class _Lane(Generic[T]):
    """The items of one call in order, or the calls of one client."""

    served: float = 0.0  # work, on the clock of the level above
    items: deque[tuple[T, int, int]] = field(default_factory=deque)  # with their tokens and work
    calls: dict[Hashable, _Lane[T]] = field(default_factory=dict)
    clock: float = 0.0  # `served` of the lane below whose turn it was last
    waiting: int = 0  # work here and below

    def lane(self, key: Hashable) -> _Lane[T]:
        if key not in self.calls:
            self.calls[key] = _Lane(served=self.clock)
        return self.calls[key]

    def next(self) -> Hashable:
        return min(self.calls, key=lambda key: self.calls[key].served)


class FairQueue(Generic[T]):
    """Items of calls of clients. Not thread-safe."""

    def __init__(self) -> None:
        self._root: _Lane[T] = _Lane()
        self._items = 0
        self.tokens = 0  # that wait in all

    def __len__(self) -> int:
        return self._items

    @property
    def work(self) -> int:
        """Of all that waits."""
        return self._root.waiting

    def push(self, client: Hashable, call: Hashable, item: T, tokens: int, rows: int) -> None:
        work = tokens * rows
        self._root.lane(client).lane(call).items.append((item, tokens, work))
        self._count(client, call, 1, tokens, work)

    def peek(self) -> T | None:
        """Whose turn it is; None where nothing waits."""
        if not self._root.calls:
            return None
        client = self._root.calls[self._root.next()]
        return client.calls[client.next()].items[0][0]

    def pop(self) -> T:
        """Take what ``peek`` shows; its client and call pay for it."""
        client_key = self._root.next()
        client = self._root.calls[client_key]
        call_key = client.next()
        call = client.calls[call_key]
        item, tokens, work = call.items.popleft()
        self._root.clock, client.clock = client.served, call.served
        client.served += work
        call.served += work
        self._count(client_key, call_key, -1, -tokens, -work)
        return item

    def discard(self, client: Hashable, call: Hashable, gone: Callable[[T], bool]) -> None:
        """Take items of a call out, unserved."""
        if client in self._root.calls and call in self._root.calls[client].calls:
            lane = self._root.calls[client].calls[call]
            left = deque(entry for entry in lane.items if not gone(entry[0]))
            items, work = len(left) - len(lane.items), sum(work for _, _, work in left) - lane.waiting
            tokens = sum(tokens for _, tokens, _ in left) - sum(tokens for _, tokens, _ in lane.items)
            lane.items = left
            self._count(client, call, items, tokens, work)

    def ahead(self, client: Hashable, call: Hashable, work: int) -> int:
        """The least work that will be done until so much new one of this call is, this included: every other call, and
        every other client, has as many turns meanwhile, or as many as it needs."""
        calls = self._root.calls[client].calls if client in self._root.calls else {}
        own = work + (calls[call].waiting if call in calls else 0)
        of_client = own + sum(min(own, lane.waiting) for key, lane in calls.items() if key != call)
        others = (min(of_client, lane.waiting) for key, lane in self._root.calls.items() if key != client)
        return of_client + sum(others)

    def _count(self, client: Hashable, call: Hashable, items: int, tokens: int, work: int) -> None:
        """Keep the sums; a lane that is empty goes."""
        self._items += items
        self.tokens += tokens
        calls = self._root.calls[client].calls
        for lane in (self._root, self._root.calls[client], calls[call]):
            lane.waiting += work
        if not calls[call].items:
            del calls[call]
        if not calls:
            del self._root.calls[client]
