"""The model's own thread, and the queue in front of it.

All requests wait in one queue. Whenever the model is free it takes, oldest first, everything that waits with the same
languages and search settings, up to ``batch_characters``, and translates it in one call. A large request is taken in
slices, between which the others have their turn. So batches grow with the load, and an idle server answers at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.config import SearchConfig
from service.config import ServiceConfig

if TYPE_CHECKING:
    from model.translator import Translation, Translator

log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """Too much is waiting already."""


class DeadlineError(Exception):
    """The caller's deadline passed while its request waited."""


@dataclass(frozen=True)
class How:
    """What two texts must share to be translated in one call."""

    source: str
    target: str
    search: SearchConfig


@dataclass(eq=False)
class Job:
    """The texts of one request."""

    texts: Sequence[str]
    how: How
    deadline: float  # of time.monotonic
    future: Future[list[Translation]] = field(default_factory=Future)
    translations: list[Translation] = field(default_factory=list)  # of the texts before `taken` minus those in work
    taken: int = 0  # texts handed to the model so far

    def take(self, budget: int, at_least_one: bool) -> tuple[list[str], int]:
        """The next texts that fit the budget, and their characters."""
        start, characters = self.taken, 0
        while self.taken < len(self.texts):
            size = characters_of(self.texts[self.taken])
            if characters + size > budget and not (at_least_one and self.taken == start):
                break
            self.taken, characters = self.taken + 1, characters + size
        return list(self.texts[start : self.taken]), characters

    def waiting(self) -> int:
        return sum(characters_of(text) for text in self.texts[self.taken :])


@dataclass(frozen=True)
class Slice:
    """Part of a job that is in work."""

    job: Job
    texts: list[str]


class Scheduler:
    """Loads the model on a thread of its own and translates there what the other threads submit."""

    def __init__(self, load: Callable[[], Translator], config: ServiceConfig) -> None:
        self._load = load
        self._config = config
        self._jobs: deque[Job] = deque()
        self._waiting = 0  # characters of all jobs that the model has not taken yet
        self._changed = threading.Condition()  # guards the two above and _closed
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._loaded: Future[Translator] = Future()

    def start(self) -> Future[Translator]:
        """Begin to load; the future holds the model once it is loaded and warm, or what went wrong."""
        self._thread.start()
        return self._loaded

    @property
    def translator(self) -> Translator | None:
        """The model; None until it is loaded."""
        return self._loaded.result() if self._loaded.done() and not self._loaded.exception() else None

    def submit(self, texts: Sequence[str], how: How, deadline: float) -> Future[list[Translation]]:
        """Queue texts for translation. The future may be cancelled: what the model has not taken yet is dropped.

        ``deadline``: of time.monotonic, in seconds; past it the future fails with DeadlineError.
        Raises QueueFullError where more than ``queue_characters`` would wait.
        """
        job = Job(texts, how, deadline)
        size = job.waiting()
        with self._changed:
            if self._waiting + size > self._config.queue_characters:
                self._drop_finished()  # those that were cancelled while they waited make room
            if self._waiting + size > self._config.queue_characters:
                raise QueueFullError(
                    f"{self._waiting} characters are waiting for the model, the limit is "
                    f"{self._config.queue_characters}; try again later"
                )
            self._jobs.append(job)
            self._waiting += size
            self._changed.notify()
        return job.future

    def close(self, timeout: float) -> bool:
        """Finish what is queued, then end the thread. False if it is still at work after ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._loaded.set_running_or_notify_cancel()  # so that who waits for it cannot cancel it
        try:
            translator = self._load()
            source, target = translator.languages[:2]
            translator.translate(["Good morning."], source, target)  # the first call is the slowest
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(translator)
        while slices := self._take():
            self._translate(translator, slices)

    def _take(self) -> list[Slice]:
        """Wait for work and take the next batch; nothing once the scheduler is closed and the queue is empty."""
        with self._changed:
            self._drop_finished()
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
                self._drop_finished()
            slices: list[Slice] = []
            untouched: deque[Job] = deque()
            unfinished: list[Job] = []  # to the end of the queue: the next batch is another caller's
            budget = self._config.batch_characters
            for job in self._jobs:
                texts: list[str] = []
                if job.how == self._jobs[0].how:
                    texts, characters = job.take(budget, at_least_one=not slices)
                if not texts:
                    untouched.append(job)
                    continue
                slices.append(Slice(job, texts))
                budget -= characters
                self._waiting -= characters
                if job.taken < len(job.texts):
                    unfinished.append(job)
            self._jobs = untouched
            self._jobs.extend(unfinished)
            return slices

    def _drop_finished(self) -> None:
        """Take out of the queue what nobody waits for any more. Call with the lock held."""
        now = time.monotonic()
        for job in self._jobs:
            if job.deadline <= now:
                _settle(job, error=DeadlineError("the deadline passed while the request waited for the model"))
        kept: deque[Job] = deque()
        for job in self._jobs:  # one look at each: another thread may cancel meanwhile
            if job.future.done():
                self._waiting -= job.waiting()
            else:
                kept.append(job)
        self._jobs = kept

    def _translate(self, translator: Translator, slices: list[Slice]) -> None:
        how = slices[0].job.how
        texts = [text for part in slices for text in part.texts]
        try:
            translations = translator.translate(texts, how.source, how.target, how.search)
        except Exception as error:
            if len(slices) == 1:
                _settle(slices[0].job, error=error)
            else:  # one caller's text must not fail the others'
                for part in slices:
                    self._translate(translator, [part])
            return
        for part in slices:
            part.job.translations += translations[: len(part.texts)]
            translations = translations[len(part.texts) :]
            if len(part.job.translations) == len(part.job.texts):
                _settle(part.job)


def characters_of(text: str) -> int:
    """What a text counts for in every limit: its Unicode code points, at least one."""
    return max(1, len(text))


def _settle(job: Job, error: Exception | None = None) -> None:
    try:
        if error is None:
            job.future.set_result(job.translations)
        else:
            job.future.set_exception(error)
    except InvalidStateError:  # the caller cancelled meanwhile
        log.debug("a cancelled request has ended")
