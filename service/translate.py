"""Translation of collections: windows of records through a translator, each written as soon as it is done.

    inputs -> records -> windows -> an engine (here: one translator) -> records in their order -> outputs

Memory holds one window, whatever the size of the input. Every few seconds the outputs reach the disk and the manifest
says how far they are: a job that was killed goes on from there, and writes the same bytes. What is doubtful about a
translation is a line of a file beside the output.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import click
from tqdm import tqdm

from model.config import SearchConfig, check
from model.errors import UserError
from model.glossary import Glossary
from model.guards import QualityWarning
from service.documents import Record
from service.errors import ServiceError
from service.inputs import STDIN, Part, count_texts, name_of
from service.journal import Journal, identity
from service.outputs import Output, is_regular, partial_of

WINDOW_TEXTS = 2_000  # enough to sort by length for full batches
WINDOW_CHARACTERS = 1_000_000  # or fewer texts, if they are long
CACHE_TEXTS = 50_000  # translations that are kept for when their text comes again,
CACHE_CHARACTERS = 300  # if it is no longer than this: what repeats is short
COMMIT_SECONDS = 1.0  # at most this much work is lost by a kill, and the share of a window under work
SHARE_SECONDS = 8.0  # what a share is to take; how much that is depends on the model and the machine
SHARE_CHARACTERS = 5_000  # of the first share
WORD = re.compile(r"\S+")  # what an alignment counts
INDEX = re.compile(r"^texts\[\d+\]: ")  # a client's, of a list that nobody sees
BAR_DELAY = 1.0  # seconds before the progress bar shows; what is done sooner needs none


class TranslatesTexts(Protocol):
    """A model.translator.Translator here or a service.client.Client of a server: both translate alike. What they
    return has ``hypotheses``, best first, each with ``text`` and ``score``, and ``warnings``. A client also has
    ``characters_at_once``, below which its requests would wait for each other."""

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig,
        progress: Callable[[int], object] | None,
        formality: str,
        glossary: Glossary | None,
    ) -> Sequence[Any]: ...


@dataclass(frozen=True)
class How:
    """What decides, together with the model, how a text is translated."""

    source: str
    target: str
    search: SearchConfig
    formality: str = "default"
    glossary: Glossary | None = None
    alignments: bool = False

    def settings(self) -> dict[str, Any]:
        """For the manifest; a glossary by its hash, for it may be long."""
        glossary = {"glossary": self.glossary.digest} if self.glossary else {}
        return asdict(replace(self, glossary=None)) | glossary


@dataclass(frozen=True)
class Hypothesis:
    text: str
    score: float
    alignment: str = ""  # in the format of Pharaoh


@dataclass(frozen=True)
class Found:
    """A translation without its pieces, small enough to be kept and sent. ``warnings`` are about the best."""

    hypotheses: tuple[Hypothesis, ...]
    warnings: tuple[QualityWarning, ...] = ()


@dataclass(frozen=True)
class Item:
    """A record on its way through the job; None for the end of its part."""

    part: int
    path: Path
    record: Record | None
    fatal: bool = False  # the part cannot go on: ``record`` has the reason

    @property
    def texts(self) -> tuple[str, ...]:
        return self.record.texts if self.record and not self.record.reason else ()


Result = list[Found] | str  # the translations of the texts of one item, or why there are none
Windows = Iterator[tuple[list[Item], list[Result]]]
# Translates windows of a job, of which the first parts, and records of the next one, are done; moves the bar.
Engine = Callable[["Job", Iterator[list[Item]], int, int, tqdm], Windows]


class Worker:
    """A translator with a cache of repeated texts."""

    def __init__(self, translator: TranslatesTexts, how: How) -> None:
        self._translator, self._how = translator, how
        self._cache: OrderedDict[str, Found] = OrderedDict()

    def check(self) -> None:
        """UserError for languages or settings that the translator cannot serve."""
        self._translate([""], None)

    def __call__(
        self, groups: Sequence[Sequence[str]], progress: Callable[[int], object] | None = None
    ) -> list[Result]:
        """The translations of each group of texts. A group that is refused is the reason; the others do not suffer."""
        wanted = list(dict.fromkeys(text for texts in groups for text in texts if text not in self._cache))
        known = {text: self._cache[text] for texts in groups for text in texts if text in self._cache}
        try:
            known |= zip(wanted, self._translate(wanted, progress), strict=True)
        except UserError as error:
            if len(groups) == 1:
                self._blame(error)
                return [INDEX.sub("", str(error))]
            half = len(groups) // 2
            return self(groups[:half], progress) + self(groups[half:], progress)
        for text, found in known.items():
            if len(text) <= CACHE_CHARACTERS:
                self._cache[text] = found
                self._cache.move_to_end(text)
        while len(self._cache) > CACHE_TEXTS:
            self._cache.popitem(last=False)
        return [[known[text] for text in texts] for texts in groups]

    def _blame(self, error: UserError) -> None:
        """ServiceError where an empty text is refused, too: by a server that has changed, and not for the text."""
        try:
            self.check()
        except UserError:
            raise ServiceError(str(error)) from None

    def _translate(self, texts: list[str], progress: Callable[[int], object] | None) -> list[Found]:
        if not texts:
            return []
        how = self._how
        settings = how.search, progress, how.formality, how.glossary
        more: dict[str, Any] = {"alignments": True} if how.alignments else {}
        translations = self._translator.translate(texts, how.source, how.target, *settings, **more)
        return [
            Found(tuple(self._hypothesis(text, one) for one in translation.hypotheses), _warnings(translation))
            for text, translation in zip(texts, translations, strict=True)
        ]

    def _hypothesis(self, source: str, found: Any) -> Hypothesis:
        if not self._how.alignments:
            return Hypothesis(found.text, found.score)
        return Hypothesis(found.text, found.score, pharaoh(source, found.text, found.alignment))


def _warnings(translation: Any) -> tuple[QualityWarning, ...]:
    """Of a translation of our own, or of the contract's, whose codes are numbers."""
    if not translation.warnings or isinstance(translation.warnings[0], QualityWarning):
        return tuple(translation.warnings)
    names = type(translation.warnings[0]).Code.Name
    return tuple(QualityWarning(names(one.code), one.detail) for one in translation.warnings)


def pharaoh(source: str, target: str, links: Sequence[Any]) -> str:
    """Links (``model.alignment.Link`` or the contract's AlignmentLink) as "0-0 1-2": numbers of words in source and
    target.
    """
    starts = [[match.start() for match in WORD.finditer(text)] for text in (source, target)]
    numbers = {
        (bisect_right(starts[0], link.source.start) - 1, bisect_right(starts[1], link.target.start) - 1)
        for link in links
    }
    return " ".join(f"{i}-{j}" for i, j in sorted(numbers))


def items(parts: Sequence[Part], first: int = 0, skip: int = 0) -> Iterator[Item]:
    """All records of the parts from the first one, of which ``skip`` records are left out."""
    for index, part in enumerate(parts[first:], start=first):
        place = part.paths[-1]
        try:
            for number, (path, record) in enumerate(part.records()):
                place = path
                if index > first or number >= skip:
                    yield Item(index, path, record)
        except UserError as error:
            yield Item(index, place, Record("", b"", reason=str(error)), fatal=True)
        else:
            yield Item(index, place, None)


def windows(stream: Iterable[Item], size: int, characters: int) -> Iterator[list[Item]]:
    """Lists of items with about ``size`` texts, fewer where they are long. Where reading fails, the items before the
    failure come first."""
    window: list[Item] = []
    texts = waiting = 0
    try:
        for item in stream:
            window.append(item)
            texts += len(item.texts)
            waiting += sum(map(len, item.texts)) + len(item.record.raw if item.record else b"")
            if texts >= size or waiting >= characters or len(window) >= 10 * size:
                yield window
                window, texts, waiting = [], 0, 0
    except ServiceError:
        if window:
            yield window
        raise
    if window:
        yield window


def shares(stream: Iterable[list[Item]], least: int = 1) -> Iterator[list[Item]]:
    """The windows in shares that take about SHARE_SECONDS, going by how long the one before took until the next was
    asked for, but of ``least`` characters. Smaller ones sort less well by length, in larger ones a kill costs more."""
    characters = max(least, SHARE_CHARACTERS)
    for window in stream:
        start = 0
        while start < len(window):
            sizes = accumulate(sum(map(len, item.texts)) for item in window[start:])
            many = next((i for i, size in enumerate(sizes, 1) if size >= characters), len(window) - start)
            began = time.monotonic()
            yield window[start : start + many]
            seconds = time.monotonic() - began
            if seconds > SHARE_SECONDS:
                characters = max(least, characters // 2)
            elif seconds < SHARE_SECONDS / 2 and start + many < len(window):
                characters *= 2
            start += many


@dataclass(frozen=True)
class Job:
    """Parts to translate. ``output`` is what -o named."""

    parts: tuple[Part, ...]
    output: Path | None
    how: How
    resume: bool = False

    def run(self, engine: Engine, model: str) -> None:
        """Translate all; UserError at the end if there were bad records. ``model`` is the identity of the model."""
        check(not self.resume or self._journaled, "--resume needs input files, and an output file or folder (-o)")
        options = self.parts[0].options
        settings = {
            **self.how.settings(),
            "format": options.format,
            "scores": options.scores,
            "columns": options.columns,
        }
        job = identity(model, settings, self.parts) if self._journaled else {}
        journal = Journal(self.beside("manifest.jsonl") if self._journaled else None, job, self.resume)
        bar = self._bar(journal.state.texts)
        with contextlib.closing(journal), contextlib.closing(bar):
            if journal.state.done:
                self._check_outputs(journal)
            else:
                run = _Run(self, journal, bar)
                first, skip = run.start()
                batch = 1 if self._interactive else WINDOW_TEXTS
                stream = windows(items(self.parts, first, skip), batch, WINDOW_CHARACTERS)
                run.write(engine(self, stream, first, skip, bar))
        if doubtful := journal.state.doubtful:
            many = f"{doubtful} translations are" if doubtful > 1 else "1 translation is"
            where = self.beside("warnings.jsonl")
            click.echo(f"{many} doubtful" + (f", see {where}" if where else "; -o FILE lists them"), err=True)
        if bad := journal.state.bad:
            many = f"{bad} records" if bad > 1 else "1 record"
            where = self.beside("errors.jsonl")
            raise UserError(f"{many} could not be translated, see {where}; first: {journal.state.first_error}")

    def _check_outputs(self, journal: Journal) -> None:
        """UserError where a job that is done has lost files since."""
        gone = sum(not part.output.exists() for part in self.parts if part.output) - journal.state.dropped
        check(
            gone <= 0,
            f"{journal.path} says that this job is done, but {gone} of its files {'is' if gone == 1 else 'are'} gone; "
            "delete that file to start again",
        )

    @property
    def _paths(self) -> list[Path]:
        return [path for part in self.parts for path in part.paths]

    @property
    def _interactive(self) -> bool:
        return STDIN in self._paths and sys.stdin.isatty()

    @property
    def _journaled(self) -> bool:
        regular = all(is_regular(path) for path in self._paths if path != STDIN)
        return self.beside("") is not None and STDIN not in self._paths and regular

    def beside(self, name: str) -> Path | None:
        """A file of the job, in the output folder or beside the output file; None where it has no place."""
        if self.output is None or (not self.output.is_dir() and not is_regular(self.output)):
            return None
        single = len(self.parts) == 1 and self.parts[0].output == self.output
        return self.output.with_name(f"{self.output.name}.{name}") if single else self.output / f"nmt-{name}"

    def _bar(self, done: int) -> tqdm:
        """On standard error, if that is a terminal which the translations do not share."""
        shown = sys.stderr.isatty() and (self.output is not None or not sys.stdout.isatty())
        total = count_texts(self.parts) if shown else None
        return tqdm(
            total=total,
            initial=done,
            unit=" lines",
            delay=BAR_DELAY,
            smoothing=0.1,
            dynamic_ncols=True,
            disable=not shown,
        )


def run(job: Job, translator: TranslatesTexts, identity: Callable[[], str]) -> None:
    """Run the job with one translator. ``identity``: what ``identity_of`` its model says now; a job must not mix two,
    and a server may be given another."""
    worker = Worker(translator, job.how)
    worker.check()  # before the first line is read, also if there is none
    model = identity()

    def check_model() -> None:
        if (now := identity()) != model:
            raise ServiceError(f"the model was '{model}' and is '{now}' now; a job must not mix them")

    job.run(local(worker, check_model, getattr(translator, "characters_at_once", 1)), model)


def identity_of(translator: Any) -> str:
    """Name and hash of the model: what a job must not mix."""
    return f"{translator.name} {translator.hash}".strip()


def local(worker: Worker, check_model: Callable[[], None], least: int) -> Engine:
    """The engine that translates here, or through a client of a server, which makes requests for ``least`` characters
    at the same time."""

    def engine(job: Job, stream: Iterator[list[Item]], first: int, skip: int, bar: tqdm) -> Windows:
        sentences, began = 0, time.monotonic()
        for window in shares(stream, least):
            limit = bar.n + sum(len(item.texts) for item in window)

            def progress(count: int, limit: float = limit) -> None:
                nonlocal sentences
                sentences += count
                rate = sentences / max(1e-9, time.monotonic() - began)
                bar.set_postfix_str(f"{rate:.0f} sentences/s", refresh=False)
                bar.update(min(count, limit - bar.n))  # a line may hold several sentences

            found = worker([item.texts for item in window], progress)
            check_model()
            yield window, found

    return engine


class _Run:
    """The outputs of a job, one open at a time, and its state."""

    def __init__(self, job: Job, journal: Journal, bar: tqdm) -> None:
        self.job, self.journal, self.bar = job, journal, bar
        self._lists: dict[str, Output] = {}  # of errors and of warnings, where there are any
        self._out: Output | None = None
        state = journal.state
        self.part, self.records, self.texts, self.bad = state.part, state.records, state.texts, state.bad
        self.dropped, self.doubtful = state.dropped, state.doubtful
        self.first_error = state.first_error
        self._committed = time.monotonic()

    def start(self) -> tuple[int, int]:
        """Put right what the last run left; returns the part to go on with and how many of its records are done."""
        state = self.journal.state
        if state.complete:
            path = self.job.parts[self.part].output
            if path and (partial := partial_of(path.resolve())).exists():
                partial.replace(path.resolve())
            self._next_part()
        for name, size in self._listed().items():
            if (path := self.job.beside(f"{name}.jsonl")) and not size:
                path.unlink(missing_ok=True)
        return self.part, self.records

    def write(self, results: Windows) -> None:
        try:
            for window, found in results:
                for item, result in zip(window, found, strict=True):
                    self._item(item, result)
                self.bar.update(self.texts - self.bar.n)
                if self._out:
                    self._out.flush()
                if time.monotonic() - self._committed >= COMMIT_SECONDS:
                    self._commit()
            self._commit(done=True)
        except BaseException as error:
            partial = self._out.partial if self._out else None
            if partial:
                kept = f"what was done is kept in {partial}" + "; --resume goes on" * (self.journal.path is not None)
                if isinstance(error, (UserError, ServiceError)):
                    raise type(error)(f"{error}; {kept}") from None
                click.echo(kept, err=True)
            raise
        finally:
            for out in self._outputs():
                out.close()

    def _item(self, item: Item, result: Result) -> None:
        record = item.record
        if item.fatal:
            assert record
            self._report(item, record.reason)
            out, self._out = self._out, None
            self.part, self.records, self.dropped = self.part + 1, 0, self.dropped + 1
            self._commit()
            if out:
                out.drop()
            return
        if self._out is None:
            self._out = Output(self.job.parts[item.part].output, self.journal.state.written if self.records else 0)
        if record is None:
            self._commit(complete=True)
            self._out.complete()
            self._out = None
            self._next_part()
            return
        reason = record.reason or (result if isinstance(result, str) else "")
        if reason:
            self._report(item, reason)
            self._out.write(record.instead)
        elif record.render:
            assert not isinstance(result, str)
            self._out.write(record.render(result))
            self._doubt(item, result)
        else:
            self._out.write(record.raw)
        self.records += 1
        self.texts += len(record.texts)

    def _next_part(self) -> None:
        self.part, self.records = self.part + 1, 0
        self.journal.commit(part=self.part, records=0, written=0, complete=False)

    def _report(self, item: Item, reason: str) -> None:
        """A line of the error file; an error where there is no such file."""
        assert item.record
        place = ", ".join(filter(None, [name_of(item.path), item.record.place]))
        message = f"{place}: {reason}"
        text = item.record.raw[:10_000].decode("utf-8", "backslashreplace")
        if not self._list("errors", item, {"reason": reason, "record": text}):
            raise UserError(message)
        self.bad += 1
        self.first_error = self.first_error or message

    def _doubt(self, item: Item, result: list[Found]) -> None:
        """A line of the file of warnings, where there is one, for each doubtful translation."""
        for text, found in zip(item.texts, result, strict=True):
            if found.warnings:
                self.doubtful += 1
                warnings = [asdict(one) for one in found.warnings]
                best = found.hypotheses[0].text
                self._list("warnings", item, {"warnings": warnings, "source": text, "translation": best})

    def _list(self, name: str, item: Item, what: Mapping[str, Any]) -> bool:
        """A line more about the item in a file beside the output; False where there is no place for one."""
        assert item.record
        if (path := self.job.beside(f"{name}.jsonl")) is None:
            return False
        if name not in self._lists:
            self._lists[name] = Output(path, self._listed()[name], atomic=False)
        entry = {"input": name_of(item.path), "place": item.record.place, **what}
        self._lists[name].write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        return True

    def _listed(self) -> dict[str, int]:
        """The bytes of each list."""
        state = self.journal.state
        sizes = {"errors": state.errors, "warnings": state.warnings}
        return sizes | {name: out.size for name, out in self._lists.items()}

    def _outputs(self) -> list[Output]:
        return [*self._lists.values(), *([self._out] if self._out else [])]

    def _commit(self, **changes: Any) -> None:
        """Outputs to the disk first, then the state that speaks of them."""
        for out in self._outputs():
            out.flush(sync=self.journal.path is not None)
        self.journal.commit(
            **{
                "part": self.part,
                "records": self.records,
                "written": self._out.size if self._out else 0,
                "texts": self.texts,
                **self._listed(),
                "bad": self.bad,
                "doubtful": self.doubtful,
                "dropped": self.dropped,
                "first_error": self.first_error,
                **changes,
            }
        )
        self._committed = time.monotonic()
