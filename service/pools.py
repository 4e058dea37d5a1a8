"""The search pools of one thread of the model: a pool for each model and search settings, which step in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from model.config import SearchConfig
from service.jobs import How, Sentence

if TYPE_CHECKING:
    from model.engine import Source
    from model.search import SearchPool
    from model.translator import Translator

IDLE_POOLS = 4  # empty pools that are kept of each model for the next request of their kind
Finished: TypeAlias = list[tuple[list[Sentence], Any]]  # who waited for a source, and its n-best results


class Pool:
    """A search pool and who waits for which of its sentences; the same sentence is in it once."""

    def __init__(self, how: How, search: SearchConfig, pool: SearchPool | None = None) -> None:
        """``pool``: an empty one of the same translator and search."""
        self.how, self.search = how, search
        self.pool = how.translator.pool(search) if pool is None else pool
        self.waiting: dict[int, list[Sentence]] = {}  # by ticket
        self.tickets: dict[Source, int] = {}

    @property
    def rows(self) -> int:
        return len(self.waiting) * int(self.pool.beam)

    def add(self, sentences: Sequence[Sentence]) -> None:
        """Let sentences join; those whose source is in the pool already share its place."""
        fresh = list(dict.fromkeys(s.what for s in sentences if s.what not in self.tickets))
        tickets = self.pool.add([ids for ids, _ in fresh], [required for _, required in fresh])
        for what, ticket in zip(fresh, tickets, strict=True):
            self.tickets[what], self.waiting[ticket] = ticket, []
        for sentence in sentences:
            self.waiting[self.tickets[sentence.what]].append(sentence)

    def step(self) -> Finished:
        return [(self._forget(ticket), results) for ticket, results in self.pool.step()]

    def drop_dead(self) -> None:
        dead = {ticket for ticket, who in self.waiting.items() if all(s.job.future.done() for s in who)}
        if dead:
            self.pool.drop(dead)
            for ticket in dead:
                self._forget(ticket)

    def _forget(self, ticket: int) -> list[Sentence]:
        sentences = self.waiting.pop(ticket)
        del self.tickets[sentences[0].what]
        return sentences


class Pools:
    """Of one thread. ``fail`` is told of sentences that cannot be searched, and why."""

    def __init__(self, fail: Callable[[Iterable[Sentence], Exception], None]) -> None:
        self._fail = fail
        self._pools: list[Pool] = []
        # Weak keys: what waits here for the next request must not keep a model that is served no more
        self._idle: WeakKeyDictionary[Translator, dict[SearchConfig, SearchPool]] = WeakKeyDictionary()

    @property
    def rows(self) -> int:
        return sum(pool.rows for pool in self._pools)

    def join(self, sentences: Iterable[Sentence]) -> None:
        groups: dict[tuple[int, SearchConfig], list[Sentence]] = {}
        for sentence in sentences:
            groups.setdefault((id(sentence.job.how.translator), sentence.search), []).append(sentence)
        for group in groups.values():
            try:
                self._pool_for(group[0]).add(group)
            except Exception:
                for sentence in group:  # alone: one caller's text must not fail the others'
                    self._start_alone([sentence])

    def step(self) -> Finished:
        """Every pool makes a step. Where one fails, each of its sentences is tried alone from the beginning."""
        finished: Finished = []
        for pool in [pool for pool in self._pools if pool.waiting]:
            try:
                finished += pool.step()
            except Exception as error:
                self._pools.remove(pool)
                for sentences in pool.waiting.values():
                    if len(pool.waiting) == 1:
                        self._fail(sentences, error)
                    else:
                        self._start_alone(sentences)
        self._lay_by()
        return finished

    def drop_dead(self) -> None:
        """Free the rows of what nobody waits for any more."""
        for pool in self._pools:
            pool.drop_dead()
        self._lay_by()

    def _lay_by(self) -> None:
        """Keep the empty pools for the next request of their kind."""
        for pool in [pool for pool in self._pools if not pool.waiting]:
            self._pools.remove(pool)
            kept = self._idle.setdefault(pool.how.translator, {})
            kept[pool.search] = pool.pool
            if len(kept) > IDLE_POOLS:
                del kept[next(iter(kept))]

    def _pool_for(self, sentence: Sentence) -> Pool:
        how = sentence.job.how
        for pool in self._pools:
            if pool.how.translator is how.translator and pool.search == sentence.search:
                return pool
        kept = self._idle.get(how.translator, {}).pop(sentence.search, None)
        self._pools.append(Pool(how, sentence.search, kept))
        return self._pools[-1]

    def _start_alone(self, sentences: list[Sentence]) -> None:
        """Give the same sentence of some jobs a pool of its own, of which only these jobs depend."""
        try:
            pool = Pool(sentences[0].job.how, sentences[0].search)
            pool.add(sentences)
        except Exception as error:
            self._fail(sentences, error)
        else:
            self._pools.append(pool)
