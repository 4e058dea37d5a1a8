"""Continuous batching: the threads of the model, and the fair queue in front of them.

The sentences of all requests wait in one queue (``service.fairness``). Each thread of the model has search pools of
its own (``service.pools``). Between two steps sentences join the pool of their model and search settings, as far as the
rows allow, and each leaves as soon as it is finished: batches grow with the load, and an idle server answers at once.
What is cancelled or too late frees its rows before the next step.

Threads with a pool each make better use of the cores than one that shares out the work of every step: they do not wait
for each other, and one computes while another is in Python.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from model.config import MAX_BEAM
from service.config import ServiceConfig
from service.fairness import FairQueue
from service.jobs import Caller, How, Job, Sentence
from service.metrics import Metrics
from service.pools import Pools

if TYPE_CHECKING:
    from model.translator import Document, Translation

# Encoding sentences one by one costs more than a group: they join a running pool when they are this share of what is
# live, or after so many steps, whichever comes first.
JOIN_SHARE, JOIN_STEPS = 0.25, 4
SPEED_WEIGHT = 0.05  # of the newest step in the measured speed


class QueueFullError(Exception):
    """Too much is waiting already. ``retry_seconds``: when there should be room."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        self.retry_seconds = retry_seconds
        super().__init__(message)


class DeadlineError(Exception):
    """The caller's deadline passed while its request waited, or cannot be met."""


class Scheduler:
    """Translates on ``threads`` threads of its own what the other threads submit. Each has its share of ``pool_rows``;
    fewer threads work where that is less than the widest beam needs."""

    def __init__(self, config: ServiceConfig, metrics: Metrics | None = None, threads: int = 1) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        threads = min(threads, config.pool_rows // MAX_BEAM)
        self._rows = config.pool_rows // threads  # at most, of one thread
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name=f"model-{i}", daemon=True) for i in range(threads)
        ]
        self._changed = threading.Condition()  # guards all that follows
        self._queue: FairQueue[Sentence] = FairQueue()
        self._jobs: set[Job] = set()  # unfinished
        self._closed = False
        self._live = [0] * threads  # rows of each thread
        self._steps = [0] * threads  # since sentences joined
        self._speed = 0.0  # rows times steps a second of well-filled pools; 0 until it was measured
        for thread in self._threads:
            thread.start()

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
        jobs = [Job(document, how, caller, [None] * len(document.sources)) for document in documents]
        sentences = [
            Sentence(job, i, how.translator.first_search(job.document, i, how.search))
            for job in jobs
            for i in range(len(job.results))
        ]
        with self._changed:
            if limited and sentences:
                self._admit(sentences, caller)
            for sentence in sentences:
                self._push(sentence)
            self._jobs.update(job for job in jobs if job.results)
        for job in jobs:
            if not job.results:  # blank text
                self._complete(job)
        return [job.future for job in jobs]

    def check_room(self) -> None:
        """Raise QueueFullError where ``submit`` would, whatever the size of the request."""
        with self._changed:
            self._admit((), Caller(None, None, math.inf))

    def close(self, timeout: float) -> bool:
        """Finish what is queued, then end the threads. False if one is still at work after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _admit(self, sentences: Sequence[Sentence], caller: Caller) -> None:
        tokens = sum(len(sentence.ids) for sentence in sentences)
        work = sum(len(sentence.ids) * sentence.rows for sentence in sentences)
        if self._queue.tokens and self._queue.tokens + max(tokens, 1) > self._config.queue_tokens:
            self._discard_dead()  # those that were cancelled while they waited make room
        waiting, limit = self._queue.tokens, self._config.queue_tokens
        # An empty queue takes any request that the other limits let through
        if waiting and waiting + max(tokens, 1) > limit:
            seconds = self._queue.work / self._speed if self._speed else 1.0
            raise QueueFullError(
                f"{waiting} tokens are waiting for the model and {tokens} more would pass the limit of {limit}; "
                "try again later",
                seconds * (waiting + tokens - limit) / waiting,
            )
        remaining = caller.deadline - time.monotonic()
        if remaining <= 0 or work > self._speed * remaining > 0:
            raise DeadlineError(
                f"{tokens} tokens within {max(remaining, 0):.3g} s is more than this server can do; "
                "send less at once or allow more time"
            )
        if not self._speed:
            return
        if (needed := self._queue.ahead(caller.client, caller.call, work) / self._speed) > remaining:
            raise QueueFullError(
                f"the deadline cannot be met: with what waits before it, the request needs {needed:.3g} s and has "
                f"{remaining:.3g} s; try again later or allow more time",
                needed - remaining,
            )

    def _push(self, sentence: Sentence) -> None:
        caller = sentence.job.caller
        self._queue.push(caller.client, caller.call, sentence, len(sentence.ids), sentence.rows)
        self._changed.notify()

    def _discard_dead(self) -> None:
        """Settle what is too late, and take out of the queue what nobody waits for any more. Call with the lock."""
        now = time.monotonic()
        for job in self._jobs:
            if job.caller.deadline <= now:
                job.settle(DeadlineError("the deadline passed before the translation was finished"))
        dead = {job for job in self._jobs if job.future.done()}
        self._jobs -= dead
        for client, call in {(job.caller.client, job.caller.call) for job in dead}:  # each lane is read once
            self._queue.discard(client, call, lambda s: s.job.future.done())

    def _run(self, number: int) -> None:
        """One thread of the model. What it holds of one turn it lets go before the next, for which it may wait long."""
        pools = Pools(self._fail)
        while self._turn(number, pools):
            pass

    def _turn(self, number: int, pools: Pools) -> bool:
        """Wait for sentences; they join the pools, these make a step, and what is finished is answered. False at the
        end."""
        with self._changed:
            self._live[number] = pools.rows
            while not self._queue and not self._live[number]:
                if self._closed:
                    return False
                self._changed.wait()
            begin = time.monotonic()
            self._discard_dead()
            joining = self._next_group(number)
        pools.drop_dead()
        for sentence in joining:
            self._metrics.queue_seconds.observe(begin - sentence.begin)
        pools.join(joining)
        rows = pools.rows
        finished = pools.step()
        self._metrics.step_rows.observe(rows)
        with self._changed:
            speed = rows * len(self._threads) / (time.monotonic() - begin)
            # nearly empty pools say too little, but a server that they prove faster was measured at a bad moment
            if rows >= self._rows // 2 or 0 < self._speed < speed:
                self._speed += (speed - self._speed) * (SPEED_WEIGHT if self._speed else 1.0)
            complete = [
                sentence.job
                for sentences, results in finished
                for sentence in sentences
                if self._is_last(sentence, results)
            ]
        for job in complete:
            self._complete(job)
        return True

    def _next_group(self, number: int) -> list[Sentence]:
        """The sentences that may join the pools of a thread now, in the order of their turns: as many as give it its
        share of what is live and waiting. Call with the lock."""
        self._steps[number] += 1
        head = self._queue.peek()
        if head is None:
            return []
        live = self._live[number]
        share = min(self._rows, (sum(self._live) + len(self._queue) * head.rows) / len(self._threads))
        if share - live < JOIN_SHARE * live and self._steps[number] < JOIN_STEPS:
            return []
        group: list[Sentence] = []
        while (head := self._queue.peek()) is not None and live < share and live + head.rows <= self._rows:
            group.append(self._queue.pop())
            live += head.rows
        if group:
            self._live[number], self._steps[number] = live, 0
        return group

    @staticmethod
    def _is_last(sentence: Sentence, results: Any) -> bool:
        """Note what was found; whether its text waits for nothing else now. Call with the lock."""
        job = sentence.job
        job.results[sentence.index] = results
        return not job.future.done() and not job.missing()

    def _complete(self, job: Job) -> None:
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

    def _fail(self, sentences: Iterable[Sentence], error: Exception) -> None:
        for sentence in sentences:
            self._end(sentence.job, error)

    def _end(self, job: Job, outcome: Translation | Exception) -> None:
        job.settle(outcome)
        with self._changed:
            self._jobs.discard(job)
            if isinstance(outcome, Exception):
                self._queue.discard(job.caller.client, job.caller.call, lambda sentence: sentence.job is job)
