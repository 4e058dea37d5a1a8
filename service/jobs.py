"""What the scheduler schedules: a text on its way, and its sentences."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.config import SearchConfig

if TYPE_CHECKING:
    from model.engine import Source
    from model.glossary import Glossary
    from model.translator import Document, Translation, Translator
    from model.vocabulary import Phrase

log = logging.getLogger(__name__)


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
class Job:
    """One text on its way. ``results``: for each of the document's sources, None until it is found."""

    document: Document
    how: How
    caller: Caller
    results: list[Any]
    future: Future[Translation] = field(default_factory=Future)
    reviewed: bool = False

    def missing(self) -> list[int]:
        return [i for i, found in enumerate(self.results) if found is None]

    def settle(self, outcome: Translation | Exception) -> None:
        """Answer whoever waits for it, unless that was done before."""
        try:
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except InvalidStateError:  # the caller cancelled meanwhile
            log.debug("a cancelled text has ended")

    def again(self, index: int) -> Sentence:
        """The second search for a sentence."""
        translator = self.how.translator
        required = translator.required(self.document, index)
        search = translator.search_for(required, translator.wider(self.how.search))
        return Sentence(self, index, search, required)


@dataclass(frozen=True, eq=False)
class Sentence:
    """One source of a job, in the queue or in a pool."""

    job: Job
    index: int
    search: SearchConfig
    required: tuple[Phrase, ...] = ()
    begin: float = field(default_factory=time.monotonic)  # of its wait

    @property
    def ids(self) -> tuple[int, ...]:
        return self.job.document.sources[self.index]

    @property
    def what(self) -> Source:
        return self.ids, self.required

    @property
    def rows(self) -> int:
        return self.search.rows
