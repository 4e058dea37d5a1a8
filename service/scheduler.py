"""Continuous batching: the model's own thread, and the fair queue in front of it.

The sentences of all requests wait in one queue (``service.fairness``). Between two steps they join the search pool of
their model and search settings, as far as the rows allow, and each leaves as soon as it is finished: batches grow with
the load, and an idle server answers at once. Several pools step in turn. What is cancelled or too late frees its rows
before the next step.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.config import SearchConfig
from service.config import ServiceConfig
from service.fairness import FairQueue
from service.metrics import Metrics

if TYPE_CHECKING:
    from model.glossary import Glossary
    from model.translator import Document, Source, Translation, Translator
    from model.vocabulary import Phrase

log = logging.getLogger(__name__)
# Encoding sentences one by one costs more than a group: they join a running pool when they are this share of what is
# live, or after so many steps, whichever comes first.
JOIN_SHARE, JOIN_STEPS = 0.25, 4
IDLE_POOLS = 4  # empty pools that are kept for the next request of their kind
SPEED_WEIGHT = 0.05  # of the newest step in the measured speed


class QueueFullError(Exception):
    """Too much is waiting already. ``retry_seconds``: when there should be room."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        self.retry_seconds = retry_seconds
        super().__init__(message)


class DeadlineError(Exception):
    """The caller's deadline passed while its request waited, or cannot be met."""


@dataclass(frozen=True)
class How:
    """How a text is to be translated."""

    translator: Translator
    source: str  # "" where it is to be detected
    target: str
    search: SearchConfig
    formality: str = "default"
    glossary: Glossary | None = None
    html: bool = False
    alignment: bool = False  # of the words, once the translation is there


@dataclass(frozen=True)
class Caller:
    """For whom: turns are shared between clients, then between the calls of each."""

    client: Hashable
    call: Hashable
    deadline: float  # of time.monotonic, in seconds; math.inf without one


@dataclass(eq=False)
class _Job:
    """One text on its way. ``results``: for each of the document's sources, None until it is found."""

    document: Document
    how: How
    caller: Caller
    results: list[Any]
    future: Future[Translation] = field(default_factory=Future)
    reviewed: bool = False
    begin: float = field(default_factory=time.monotonic)

    def missing(self) -> list[int]:
        return [i for i, found in enumerate(self.results) if found is None]

    def again(self, index: int) -> _Sentence:
        """The second search for a sentence."""
        translator = self.how.translator
        required = translator.required(self.document, index)
        search = translator.search_for(required, translator.wider(self.how.search))
        return _Sentence(self, index, search, required)


@dataclass(frozen=True, eq=False)
class _Sentence:
    """One source of a job, in the queue or in a pool."""

    job: _Job
    index: int
    search: SearchConfig
    required: tuple[Phrase, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return self.job.document.sources[self.index]

    @property
    def what(self) -> Source:
        return self.ids, self.required

    @property
    def rows(self) -> int:
        return self.search.rows


class _Pool:
    """A search pool and who waits for which of its sentences; the same sentence is in it once."""

    def __init__(self, how: How, search: SearchConfig) -> None:
        self.how, self.search = how, search
        self.pool = how.translator.pool(search)
        self.waiting: dict[int, list[_Sentence]] = {}  # by ticket
        self.tickets: dict[Source, int] = {}

    @property
    def rows(self) -> int:
        return len(self.waiting) * int(self.pool.beam)

    def add(self, sentences: Sequence[_Sentence]) -> None:
        """Let sentences join; those whose source is in the pool already share its place."""
        fresh = list(dict.fromkeys(s.what for s in sentences if s.what not in self.tickets))
        tickets = self.pool.add([ids for ids, _ in fresh], [required for _, required in fresh])
        for what, ticket in zip(fresh, tickets, strict=True):
            self.tickets[what], self.waiting[ticket] = ticket, []
        for sentence in sentences:
            self.waiting[self.tickets[sentence.what]].append(sentence)

    def step(self) -> list[tuple[list[_Sentence], Any]]:
        return [(self._forget(ticket), results) for ticket, results in self.pool.step()]

    def drop_dead(self) -> None:
        dead = {ticket for ticket, who in self.waiting.items() if all(s.job.future.done() for s in who)}
        if dead:
            self.pool.drop(dead)
            for ticket in dead:
                self._forget(ticket)

    def _forget(self, ticket: int) -> list[_Sentence]:
        sentences = self.waiting.pop(ticket)
        del self.tickets[sentences[0].what]
        return sentences


class Scheduler:
    """Translates on a thread of its own what the other threads submit."""

    def __init__(self, config: ServiceConfig, metrics: Metrics | None = None) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        self._queue: FairQueue[_Sentence] = FairQueue()
        self._jobs: set[_Job] = set()  # unfinished
        self._changed = threading.Condition()  # guards the two above and _closed
        self._closed = False
        self._pools: list[_Pool] = []  # of the model's thread alone, as are the next two
        self._steps = 0  # since sentences joined
        self._speed = 0.0  # rows times steps a second of a well-filled pool; 0 until it was measured
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        return self._queue.tokens

    def submit(
        self, documents: Sequence[Document], how: How, caller: Caller, limited: bool = True
    ) -> list[Future[Translation]]:
        """Queue documents; all or none. A future may be cancelled: what it asked for is then dropped.

        Past the caller's deadline a future fails with DeadlineError. Raises QueueFullError where more than
        ``queue_tokens`` would wait or the others' work leaves too little time for the deadline, DeadlineError where
        even an idle server could not meet it. ``limited=False``: neither (the server's own warm-up).
        """
        jobs = [_Job(document, how, caller, [None] * len(document.sources)) for document in documents]
        sentences = [_Sentence(job, i, how.search) for job in jobs for i in range(len(job.results))]
        with self._changed:
            if limited:
                self._admit(sentences, caller)
            for sentence in sentences:
                self._push(sentence)
            self._jobs.update(job for job in jobs if job.results)
            self._changed.notify()
        for job in jobs:
            if not job.results:  # blank text
                self._complete(job)
        return [job.future for job in jobs]

    def check_room(self) -> None:
        """Raise QueueFullError where ``submit`` would, whatever the size of the request."""
        with self._changed:
            self._admit((), Caller(None, None, math.inf))

    def close(self, timeout: float) -> bool:
        """Finish what is queued, then end the thread. False if it is still at work after ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _admit(self, sentences: Sequence[_Sentence], caller: Caller) -> None:
        tokens = sum(len(sentence.ids) for sentence in sentences)
        if self._queue.tokens and self._queue.tokens + max(tokens, 1) > self._config.queue_tokens:
            self._discard_dead()  # those that were cancelled while they waited make room
        waiting, limit = self._queue.tokens, self._config.queue_tokens
        rows = max((sentence.rows for sentence in sentences), default=1)
        speed = self._speed / rows  # tokens a second
        if (
            waiting and waiting + max(tokens, 1) > limit
        ):  # an empty queue takes any request that the other limits let through
            raise QueueFullError(
                f"{waiting} tokens are waiting for the model and {tokens} more would pass the limit of {limit}; "
                "try again later",
                (waiting + tokens - limit) / speed if speed else 1.0,
            )
        remaining = caller.deadline - time.monotonic()
        if remaining <= 0 or (speed and tokens / speed > remaining):
            raise DeadlineError(
                f"{tokens} tokens within {max(remaining, 0):.3g} s is more than this server can do; "
                "send less at once or allow more time"
            )
        if speed and (needed := self._queue.ahead(caller.client, caller.call, tokens) / speed) > remaining:
            raise QueueFullError(
                f"the deadline cannot be met: with what waits before it, the request needs {needed:.3g} s and has "
                f"{remaining:.3g} s; try again later or allow more time",
                needed - remaining,
            )

    def _push(self, sentence: _Sentence) -> None:
        caller = sentence.job.caller
        self._queue.push(caller.client, caller.call, sentence, len(sentence.ids))

    def _discard_dead(self) -> None:
        """Settle what is too late, and take out of the queue what nobody waits for any more. Call with the lock."""
        now = time.monotonic()
        for job in list(self._jobs):
            if job.caller.deadline <= now:
                _settle(job, DeadlineError("the deadline passed before the translation was finished"))
            if job.future.done():
                self._jobs.discard(job)
                self._queue.discard(job.caller.client, job.caller.call, lambda s: s.job.future.done())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not any(pool.waiting for pool in self._pools):
                    if self._closed:
                        return
                    self._changed.wait()
                begin = time.monotonic()
                self._discard_dead()
                rows = sum(pool.rows for pool in self._pools)
                joining = self._next_group(rows)
            for pool in self._pools:
                pool.drop_dead()
            self._join(joining)
            self._step(begin)

    def _next_group(self, live: int) -> list[_Sentence]:
        """The sentences that may join now, in the order of their turns. Call with the lock."""
        self._steps += 1
        free = self._config.pool_rows - live
        head = self._queue.peek()
        if head is None or head.rows > free:
            return []
        if min(free, len(self._queue) * head.rows) < JOIN_SHARE * live and self._steps < JOIN_STEPS:
            return []
        group: list[_Sentence] = []
        while (head := self._queue.peek()) is not None and head.rows <= free:
            group.append(self._queue.pop())
            free -= head.rows
        self._steps = 0
        return group

    def _join(self, sentences: Iterable[_Sentence]) -> None:
        groups: dict[tuple[int, SearchConfig], list[_Sentence]] = {}
        for sentence in sentences:
            groups.setdefault((id(sentence.job.how.translator), sentence.search), []).append(sentence)
            self._metrics.queue_seconds.observe(time.monotonic() - sentence.job.begin)
        for group in groups.values():
            try:
                self._pool_for(group[0]).add(group)
            except Exception:
                for sentence in group:  # alone: one caller's text must not fail the others'
                    self._start_alone([sentence])

    def _pool_for(self, sentence: _Sentence) -> _Pool:
        how = sentence.job.how
        for pool in self._pools:
            if pool.how.translator is how.translator and pool.search == sentence.search:
                return pool
        self._pools.append(_Pool(how, sentence.search))
        return self._pools[-1]

    def _start_alone(self, sentences: list[_Sentence]) -> None:
        """Give the same sentence of some jobs a pool of its own, of which only these jobs depend."""
        try:
            pool = _Pool(sentences[0].job.how, sentences[0].search)
            pool.add(sentences)
        except Exception as error:
            self._fail(sentences, error)
        else:
            self._pools.append(pool)

    def _step(self, begin: float) -> None:
        rows = sum(pool.rows for pool in self._pools)
        finished: list[tuple[list[_Sentence], Any]] = []
        for pool in list(self._pools):
            if not pool.waiting:
                continue
            try:
                finished += pool.step()
            except Exception as error:
                self._pools.remove(pool)
                for sentences in pool.waiting.values():
                    if len(pool.waiting) == 1:
                        self._fail(sentences, error)
                    else:
                        self._start_alone(sentences)
        seconds = time.monotonic() - begin
        self._metrics.step_rows.observe(rows)
        if rows >= self._config.pool_rows // 2:
            speed = rows / seconds
            self._speed += (speed - self._speed) * (SPEED_WEIGHT if self._speed else 1.0)
        for sentences, results in finished:
            for sentence in sentences:
                sentence.job.results[sentence.index] = results
                if not sentence.job.future.done() and not sentence.job.missing():
                    self._complete(sentence.job)
        idle = [pool for pool in self._pools if not pool.waiting]
        for pool in idle[: max(0, len(idle) - IDLE_POOLS)]:
            self._pools.remove(pool)

    def _complete(self, job: _Job) -> None:
        """All results are there: queue what deserves a second look, or put the translation together."""
        how = job.how
        try:
            if not job.reviewed:
                job.reviewed = True
                job.document, job.results = how.translator.review(job.document, job.results, how.search)
                if missing := job.missing():
                    sentences = [job.again(i) for i in missing]
                    with self._changed:
                        for sentence in sentences:
                            self._push(sentence)
                    return
            translation = how.translator.assemble(job.document, job.results, how.search)
        except Exception as error:
            self._end(job, error)
            return
        self._metrics.translated(translation, sum(map(len, job.document.sources)))
        self._end(job, translation)

    def _fail(self, sentences: Iterable[_Sentence], error: Exception) -> None:
        for sentence in sentences:
            self._end(sentence.job, error)

    def _end(self, job: _Job, outcome: Translation | Exception) -> None:
        _settle(job, outcome)
        with self._changed:
            self._jobs.discard(job)
            if isinstance(outcome, Exception):
                self._queue.discard(job.caller.client, job.caller.call, lambda sentence: sentence.job is job)


def _settle(job: _Job, outcome: Translation | Exception) -> None:
    try:
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
    except InvalidStateError:  # the caller cancelled meanwhile
        log.debug("a cancelled text has ended")
