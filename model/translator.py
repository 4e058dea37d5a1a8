"""Translator: the one object that the service, the command line and the BLEU harness share.

text -> segments -> pieces -> encode -> search -> pieces -> segments -> text. One path, so that a file, a call and
a benchmark give the same words for the same sentence.
"""

from __future__ import annotations

import functools
import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model import checkpoint, guards, segment
from model.alignment import Link, align, aligning
from model.config import MAX_BEAM, ModelConfig, SearchConfig
from model.constraints import amid
from model.engine import Engine, Source
from model.errors import UserError, checked_texts
from model.explain import Explanation, explain, explanation
from model.glossary import Glossary, Match, check_glossary, check_search, not_placed
from model.progress import Progress, reporting
from model.search import SearchPool, SearchResult
from model.transformer import Transformer
from model.vocabulary import EOS, FORMALITIES, Phrase, Vocabulary

SENTENCE_PIECES = 128  # a longer sentence is split: training saw none longer
# Where terms are required: rows for hypotheses that have written the same number of them, at least; and steps in which
# the beam grows, for each size is a pool of its own.
GROUP_ROWS, BEAM_STEP = 3, 8
REMEMBERED_CHARACTERS = 1_000  # of an encoded sentence, at most: longer texts have yet to be cut, and fill the memory

_BEGINNING = re.compile(r"[\s,;:.!?)\]–—-]*")


@dataclass(frozen=True)
class Hypothesis:
    """One translation. ``tokens`` are pieces, ``token_scores`` natural-log probabilities, ``score`` what
    ``SearchConfig.score`` makes of them: 0 where nothing was translated (blank text).
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    token_scores: tuple[float, ...]
    parts: tuple[tuple[int, ...], ...] = ()  # the ids of each translated sentence
    alignment: tuple[Link, ...] = ()  # where it was asked for


@dataclass(frozen=True)
class Document:
    """A text made ready: its segments, and the encoder input of each that is to be translated."""

    segments: tuple[segment.Segment, ...]
    sources: tuple[tuple[int, ...], ...]
    sentences: tuple[str, ...]  # what the model reads of each source
    terms: tuple[tuple[Match, ...], ...]  # of the glossary, in each sentence as it was normalised
    source: str
    target: str
    formality: str = "default"
    glossary: Glossary | None = None
    numbers: tuple[tuple[str, ...], ...] = ()  # of each source, which the first search lost and the second must place

    @property
    def languages(self) -> tuple[str, str]:
        return self.source, self.target


@dataclass(frozen=True)
class Translation:
    """The hypotheses for one text, best first; at least one. A sentence's doubtful ones (``model.guards``) come after
    its clean ones; where no clean one was found, ``warnings`` say what is wrong with the best."""

    hypotheses: tuple[Hypothesis, ...]
    warnings: tuple[guards.QualityWarning, ...] = ()
    document: Document | None = None  # what was translated

    @property
    def text(self) -> str:
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        return self.hypotheses[0].score


class Translator:
    """Translates any text between the languages of its checkpoint.

    >>> Translator.load().translate(["Good morning."], "en", "de")[0].text
    'Guten Morgen.'
    """

    def __init__(
        self, model: Transformer, vocabulary: Vocabulary, name: str, hash: str = "", dtype: str = "float32"
    ) -> None:
        """``dtype``: the arithmetic of decoding (``model.engine``). UserError where it cannot be had."""
        self.vocabulary, self.name, self.hash = vocabulary, name, hash
        # Once to see whether a sentence fits, once to translate it
        self._encode_short = functools.lru_cache(4096)(lambda text: vocabulary.encode(segment.normalise(text)))
        # Once to see whether a sentence deserves a second search, once to rank its hypotheses, once to write it
        self._decode = decode = functools.lru_cache(4096)(vocabulary.decode)
        self._doubts = functools.lru_cache(4096)(
            lambda text, ids, languages: guards.warnings(text, guards.localised(text, decode(ids), languages))
        )
        self._only_latin = not any(map(segment.OTHER_SCRIPT.match, vocabulary.characters))
        self.engine = Engine(model, vocabulary, dtype)

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", dtype: str = "auto") -> Translator:
        """Load a checkpoint directory, the shipped one where ``path`` is None. Raises CheckpointError."""
        loaded = checkpoint.load(path if path is not None else checkpoint.PRETRAINED)
        translator = cls(loaded.model().to(device), loaded.vocabulary, loaded.name, loaded.hash, dtype)
        if not gc.get_freeze_count():
            gc.freeze()  # PyTorch stays: the collector need not walk through it again and again
        return translator

    @property
    def model(self) -> Transformer:
        return self.engine.model

    @property
    def dtype(self) -> str:
        return self.engine.dtype

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def languages(self) -> tuple[str, ...]:
        return self.vocabulary.languages

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig = SearchConfig(),
        progress: Progress = None,
        formality: str = "default",
        glossary: Glossary | None = None,
        alignments: bool = False,
    ) -> list[Translation]:
        """Translate texts of any length; paragraphs, blank lines and white space stay as they are.

        Hypothesis k of a text of several sentences joins the k-th best of each. ``progress`` is called with the
        number of sentences finished since its last call; True shows a bar. UserError for what is no list of texts, a
        language that the model does not know, a form of address (``formality``: "default", "formal", "informal") that
        it cannot choose in the target language, what is no Glossary, or a glossary with sampling.
        """
        self.check(source, target, formality)
        if glossary:
            check_glossary(glossary)
            check_search(search)
        documents = [self.prepare(text, source, target, formality, glossary) for text in checked_texts(texts)]
        translations = self.translate_documents(documents, search, progress)
        return self.align(translations) if alignments else translations

    def translate_documents(
        self,
        documents: Sequence[Document],
        search: SearchConfig = SearchConfig(),
        progress: Progress = None,
    ) -> list[Translation]:
        """The translations of what ``prepare`` made ready."""
        searches = {
            ids: self.first_search(document, i, search)
            for document in documents
            for i, ids in enumerate(document.sources)
        }
        with reporting(progress, len(searches), "sentences") as report:
            found = self.engine.search([((ids, ()), config) for ids, config in searches.items()], report)
        first = dict(zip(searches, found, strict=True))
        reviewed = [self.review(document, [first[ids] for ids in document.sources], search) for document in documents]
        again = [
            [None if found else (document.sources[i], self.required(document, i)) for i, found in enumerate(kept)]
            for document, kept in reviewed
        ]
        sources = list(dict.fromkeys(source for each in again for source in each if source))
        second: dict[Source | None, list[SearchResult]]
        again_with = [(source, self.search_for(source[1], self.wider(search))) for source in sources]
        second = dict(zip(sources, self.engine.search(again_with), strict=True))
        return [
            self.assemble(
                document,
                [found or second[source] for source, found in zip(each, kept, strict=True)],
                search,
            )
            for (document, kept), each in zip(reviewed, again, strict=True)
        ]

    def align(self, translations: Sequence[Translation]) -> list[Translation]:
        """The same, each hypothesis with the words that its words come from (``model.alignment``)."""
        return align(self, translations)

    def aligning(self, translations: Sequence[Translation]) -> Iterator[list[Translation] | None]:
        """As ``align``, but in steps: yields None after each, and at the end the translations."""
        return aligning(self, translations)

    def explain(
        self, text: str, source: str, target: str, search: SearchConfig = SearchConfig(), translated_text: str = ""
    ) -> Explanation:
        """The attention behind the translation of one sentence, or behind a given one (``model.explain``)."""
        return explain(self, text, source, target, search, translated_text)

    def explanation(self, document: Document, translation: Translation | str) -> Explanation:
        """As ``explain``, of a document of one sentence and its translation."""
        return explanation(self, document, translation)

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence as the model reads it, without tags and EOS."""
        if len(text) <= REMEMBERED_CHARACTERS:
            return self._encode_short(text)
        return self.vocabulary.encode(segment.normalise(text))

    def check(self, source: str, target: str, formality: str = "default") -> None:
        """UserError for a pair of languages or a form of address that the model cannot serve."""
        for language in (source, target):
            self.vocabulary.tag(language)
        if source == target:
            raise UserError(
                f"source and target language are both '{source}'; choose two of {', '.join(self.languages)}"
            )
        if formality not in FORMALITIES:
            raise UserError(f"unknown formality '{formality}'; choose from {', '.join(FORMALITIES)}")
        if formality != "default" and target not in self.config.formality:
            known = ", ".join(self.config.formality) or "no language"
            raise UserError(
                f"formality = {formality} is not to be had in '{target}' (this model: {known}); leave it at default"
            )

    def prepare(
        self, text: str, source: str, target: str, formality: str = "default", glossary: Glossary | None = None
    ) -> Document:
        """Cut a text into sentences and encode each; what ``check`` refuses is not expected here."""
        return self._document(self._split(text, source, glossary), source, target, formality, glossary)

    def _split(self, text: str, source: str, glossary: Glossary | None) -> list[segment.Segment]:
        limit = min(SENTENCE_PIECES, self.config.max_length - 3)

        def length(part: str) -> int:
            return len(self.encode(_read(part, glossary)[0]))

        return segment.split(text, source, length, limit, self._only_latin)

    def _document(
        self,
        segments: Sequence[segment.Segment],
        source: str,
        target: str,
        formality: str,
        glossary: Glossary | None,
    ) -> Document:
        before = self.vocabulary.prefix(target, formality)
        read = [_read(part.text, glossary) for part in segments if part.translate]
        sources = tuple((*before, *self.encode(text), EOS) for text, _ in read)
        sentences, terms = tuple(text for text, _ in read), tuple(matches for _, matches in read)
        return Document(tuple(segments), sources, sentences, terms, source, target, formality, glossary)

    def review(
        self, document: Document, results: Sequence[Sequence[SearchResult]], search: SearchConfig
    ) -> tuple[Document, list[Sequence[SearchResult] | None]]:
        """What ``model.guards`` say of the first results: the document and, for each of its sources, the results, or
        None where it is to be searched once more, with ``wider(search)`` and what is ``required``.

        A sentence without a clean hypothesis gets a wider choice; one that lost an item (URL, placeholder, ...) is cut
        into parts around its items, which then cannot be lost; of one that lost a term of the glossary or a number,
        which the model mostly copies by itself, the search makes sure.
        """
        segments: list[segment.Segment] = []
        kept: list[Sequence[SearchResult] | None] = []
        numbers: dict[int, tuple[str, ...]] = {}  # by place in ``kept``
        remaining, rebuilt = iter(zip(results, document.sentences, document.terms, strict=True)), False
        can_widen = self.wider(search) != search
        for part in document.segments:
            if not part.translate:
                segments.append(part)
                continue
            nbest, sentence, terms = next(remaining)
            doubts = [self._doubts(sentence, result.ids, document.languages) for result in nbest]
            lost_term = self._lost(terms, nbest[0])
            if not lost_term and not all(doubts):  # one is clean
                segments.append(part)
                kept.append(nbest)
                continue
            lost = {doubt.detail for doubt in doubts[0] if doubt.code == "ITEM_CHANGED"}
            around = guards.around_items(part.text)
            if all(doubts) and any(is_item and text in lost for text, is_item in around):
                cut = list(self._cut(around, document))
                segments += cut
                kept += [None for piece in cut if piece.translate]
                rebuilt = True
            else:
                segments.append(part)
                needed = guards.needed(sentence, lost) if all(doubts) and not search.sampling else []
                # Those of a term come with it
                needed = [one for one in needed if not any(one in match.term.target for match in terms)]
                if needed:
                    numbers[len(kept)] = tuple(needed)
                again = (can_widen and len(nbest) == search.nbest) or lost_term or len(kept) in numbers
                kept.append(None if again else nbest)
        if rebuilt:
            how = document.source, document.target, document.formality, document.glossary
            document = self._document(segments, *how)
        if numbers:
            document = replace(document, numbers=tuple(numbers.get(i, ()) for i in range(len(kept))))
        return document, kept

    def _cut(self, around: Sequence[tuple[str, bool]], document: Document) -> Iterator[segment.Segment]:
        """A sentence in parts around its items. The punctuation behind one stays: no model keeps it at a beginning."""
        for text, is_item in around:
            start = len(text) if is_item else _BEGINNING.match(text).end()  # type: ignore[union-attr]
            yield segment.Segment(text[:start], False)
            yield from self._split(text[start:], document.source, document.glossary)

    def first_search(self, document: Document, index: int, search: SearchConfig) -> SearchConfig:
        """The search of a source: one with items, which are easily lost, has every hypothesis looked at."""
        has_items = any(is_item for _, is_item in guards.around_items(document.sentences[index]))
        return self.wider(search) if has_items else search

    @staticmethod
    @functools.lru_cache(64)
    def wider(search: SearchConfig) -> SearchConfig:
        """The search that returns every hypothesis of the beam."""
        return search if search.sampling else replace(search, nbest=search.beam_size)

    def required(self, document: Document, index: int) -> tuple[Phrase, ...]:
        """What the second search must place in the target of a source."""
        numbers = document.numbers[index] if document.numbers else ()
        wanted = (*(match.term.target for match in document.terms[index]), *numbers)
        return tuple(self.vocabulary.phrase(text) for text in wanted)

    def _lost(self, terms: Sequence[Match], result: SearchResult) -> bool:
        """Whether a term has no place in the target."""
        return bool(terms and not_placed([match.term for match in terms], self._decode(result.ids)))

    def search_for(self, required: Sequence[Phrase], search: SearchConfig) -> SearchConfig:
        """The search of a source whose target must hold phrases: its beam may have to be wider."""
        if not required:
            return search
        rows = max(search.beam_size, GROUP_ROWS * (len(required) + 1)) + amid(required)
        return replace(search, beam_size=min(-(-rows // BEAM_STEP) * BEAM_STEP, MAX_BEAM))

    def pool(self, search: SearchConfig) -> SearchPool:
        """An empty pool for sources that ``prepare`` made; what comes out of it goes into ``assemble``."""
        return self.engine.pool(search)

    def written(self, document: Document, part: segment.Segment, ids: Sequence[int], terms: Sequence[Match]) -> str:
        """The text of a sentence's translation: in capitals where the sentence is and has no ``terms``."""
        text = guards.localised(part.text, self._decode(ids), document.languages)
        text = guards.emphasised(part.text, text)
        return segment.in_capitals(text) if segment.is_capitals(part.text) and not terms else text

    def assemble(
        self, document: Document, results: Sequence[Sequence[SearchResult]], search: SearchConfig
    ) -> Translation:
        """The translation of a text from the n-best results of each of its ``sources``; the clean ones come first."""
        warnings: list[guards.QualityWarning] = []
        ranked = []
        for sentence, terms, nbest in zip(document.sentences, document.terms, results, strict=True):
            doubts = [self._doubts(sentence, result.ids, document.languages) for result in nbest]
            lost = [self._lost(terms, result) for result in nbest]
            order = sorted(
                range(len(nbest)), key=lambda k: (lost[k], bool(doubts[k]))
            )  # stable: the best clean one first
            ranked.append([nbest[k] for k in order])
            warnings += doubts[order[0]]
            if nbest[order[0]].cut:
                warnings.append(guards.QualityWarning("LENGTH_LIMIT"))
        hypotheses = []
        for k in range(min(search.nbest, max((len(nbest) for nbest in ranked), default=1))):
            chosen = zip([nbest[min(k, len(nbest) - 1)] for nbest in ranked], document.terms, strict=True)
            texts: list[str] = []
            parts: list[tuple[int, ...]] = []
            scores: list[float] = []
            for part in document.segments:
                if not part.translate:
                    texts.append(part.text)
                    continue
                result, terms = next(chosen)
                texts.append(self.written(document, part, result.ids, terms))
                parts.append(result.ids)
                scores += result.token_scores
            tokens = tuple(self.vocabulary.piece(id) for ids in parts for id in ids)
            hypotheses.append(Hypothesis("".join(texts), search.score(scores), tokens, tuple(scores), tuple(parts)))
        if self._only_latin:
            unknown = (segment.OTHER_SCRIPT.search(part.text) for part in document.segments if not part.translate)
            warnings += (
                guards.QualityWarning("UNKNOWN_CHARACTERS", run[0].rstrip(" ,;:.!?)]…")[:60]) for run in unknown if run
            )
        if document.glossary:  # whatever became of them: cut in two, in a part that is not translated, ...
            _, whole = document.glossary.read("".join(part.text for part in document.segments))
            missing = not_placed([match.term for match in whole], hypotheses[0].text)
            warnings += (guards.QualityWarning("GLOSSARY_TERM_NOT_PLACED", term.source) for term in missing)
        return Translation(tuple(hypotheses), tuple(dict.fromkeys(warnings)), document)


def _read(text: str, glossary: Glossary | None) -> tuple[str, tuple[Match, ...]]:
    """What the model reads of a sentence, and the terms in it."""
    found, terms = glossary.read(text) if glossary else (text, ())
    return (segment.without_capitals(text) if segment.is_capitals(text) and not terms else found), terms
