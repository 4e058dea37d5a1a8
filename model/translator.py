"""Translator: the one object that the service, the command line and the BLEU harness share.

text -> segments -> pieces -> encode -> search -> pieces -> segments -> text. One path, so that a file, a call and
a benchmark give the same words for the same sentence.
"""

from __future__ import annotations

import functools
import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model import checkpoint, guards, segment
from model.config import ModelConfig, SearchConfig
from model.errors import UserError
from model.int8 import Int8Model, unsupported
from model.search import SearchPool, SearchResult
from model.transformer import EncoderDecoder
from model.vocabulary import EOS, FORMALITIES, Vocabulary

log = logging.getLogger(__name__)

SENTENCE_PIECES = 128  # a longer sentence is split: training saw none longer
POOL_ROWS = 320  # live hypotheses decoded together: enough to feed the matrix units, small enough for the cache
DTYPES = ("auto", "float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Hypothesis:
    """One translation. ``score`` = sum of token_scores / number of tokens ** length_penalty; 0 where nothing was
    translated (blank text). ``tokens`` are pieces, ``token_scores`` natural-log probabilities.
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    token_scores: tuple[float, ...]


@dataclass(frozen=True)
class Document:
    """A text made ready: its segments, and the encoder input of each that is to be translated."""

    segments: tuple[segment.Segment, ...]
    sources: tuple[tuple[int, ...], ...]
    source: str
    target: str
    formality: str = "default"

    @property
    def sentences(self) -> list[str]:
        """The text behind each of ``sources``."""
        return [part.text for part in self.segments if part.translate]


@dataclass(frozen=True)
class Translation:
    """The hypotheses for one text, best first; at least one. A sentence's doubtful ones (``model.guards``) come after
    its clean ones; where no clean one was found, ``warnings`` say what is wrong with the best."""

    hypotheses: tuple[Hypothesis, ...]
    warnings: tuple[guards.QualityWarning, ...] = ()

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
        self, model: EncoderDecoder, vocabulary: Vocabulary, name: str, hash: str = "", dtype: str = "float32"
    ) -> None:
        """``dtype``: the arithmetic of decoding. "int8" needs an AVX-512 VNNI processor and the compiled kernels,
        "auto" takes what is fastest here. UserError where it cannot be had.
        """
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype '{dtype}'; choose from {', '.join(DTYPES)}")
        self.vocabulary, self.name, self.hash = vocabulary, name, hash
        # Once to see whether a sentence fits, once to translate it
        self._encode = functools.lru_cache(4096)(lambda text: vocabulary.encode(segment.normalise(text)))
        # Once to see whether a sentence deserves a second search, once to rank its hypotheses
        self._doubts = functools.lru_cache(4096)(lambda text, ids: guards.warnings(text, vocabulary.decode(ids)))
        self.model, self.dtype = model, dtype
        self._int8: Int8Model | None = None
        if dtype == "auto":
            self._choose()
        else:
            self._use(dtype)

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", dtype: str = "auto") -> Translator:
        """Load a checkpoint directory, the shipped one where ``path`` is None. Raises CheckpointError."""
        loaded = checkpoint.load(path if path is not None else checkpoint.PRETRAINED)
        translator = cls(loaded.model().to(device), loaded.vocabulary, loaded.name, loaded.hash, dtype)
        gc.freeze()  # what is loaded stays: the collector need not walk through PyTorch again and again
        return translator

    def _use(self, dtype: str) -> None:
        self.dtype, self._int8 = dtype, None
        if dtype == "int8":
            if reason := unsupported(self.model):
                raise UserError(f"dtype int8 cannot be had: {reason}; choose float32 or bfloat16")
            self._int8 = Int8Model(self.model, self.vocabulary.unwritable)
        else:
            self.model.to(getattr(torch, dtype))

    def _choose(self) -> None:
        """Use the fastest arithmetic of this machine; where that is not known beforehand, a few sentences tell."""
        device = next(self.model.parameters()).device
        times: dict[str, float] = {}
        if device.type == "cpu" and not unsupported(self.model):
            # Nothing on this CPU comes near, unless it multiplies bfloat16 in tiles
            candidates = ["int8", "bfloat16"] if torch.cpu._is_amx_tile_supported() else ["int8"]
        else:
            candidates = ["float32", "bfloat16"]
        if len(candidates) > 1:
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            for dtype in candidates:
                times[dtype] = self._time(dtype)
                self.model.float().load_state_dict(weights)  # bfloat16 has rounded them
        self._use(min(candidates, key=lambda dtype: times.get(dtype, 0.0)))
        found = ", ".join(f"{dtype} {1000 * seconds:.0f} ms" for dtype, seconds in times.items())
        log.info("decoding in %s on %s%s", self.dtype, device, f" ({found})" if found else "")

    def _time(self, dtype: str) -> float:
        """Seconds for a few sentences, at the second try: the first warms up."""
        self._use(dtype)
        sources = [tuple(self.vocabulary.source_ids(str(i), self.languages[0])) for i in range(10)]
        config = SearchConfig(max_length_ratio=1e-3, max_length_offset=4)
        self._search(sources, config, None)
        start = time.perf_counter()
        self._search(sources, config, None)
        return time.perf_counter() - start

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
        progress: Callable[[int], object] | None = None,
        formality: str = "default",
    ) -> list[Translation]:
        """Translate texts of any length; paragraphs, blank lines and white space stay as they are.

        Hypothesis k of a text of several sentences joins the k-th best of each. ``progress`` is called with the
        number of sentences finished since its last call. UserError for a language that the model does not know, or a
        form of address (``formality``: "default", "formal", "informal") that it cannot choose in the target language.
        """
        self.check(source, target, formality)
        documents = [self.prepare(text, source, target, formality) for text in texts]
        distinct = list(dict.fromkeys(ids for document in documents for ids in document.sources))
        first = dict(zip(distinct, self._search(distinct, search, progress), strict=True))
        reviewed = [self.review(document, [first[ids] for ids in document.sources], search) for document in documents]
        wider = self.wider(search)
        distinct = list(dict.fromkeys(ids for document, kept in reviewed for ids in missing(document, kept)))
        second = dict(zip(distinct, self._search(distinct, wider, None), strict=True))
        return [
            self.assemble(
                document, [found or second[ids] for ids, found in zip(document.sources, kept, strict=True)], search
            )
            for document, kept in reviewed
        ]

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

    def prepare(self, text: str, source: str, target: str, formality: str = "default") -> Document:
        """Cut a text into sentences and encode each; what ``check`` refuses is not expected here."""
        return self._document(self._split(text, source), source, target, formality)

    def _split(self, text: str, source: str) -> list[segment.Segment]:
        limit = min(SENTENCE_PIECES, self.config.max_length - 3)
        return segment.split(text, source, lambda text: len(self._encode(text)), limit)

    def _document(self, segments: Sequence[segment.Segment], source: str, target: str, formality: str) -> Document:
        before = self.vocabulary.prefix(target, formality)
        sources = (tuple([*before, *self._encode(part.text), EOS]) for part in segments if part.translate)
        return Document(tuple(segments), tuple(sources), source, target, formality)

    def review(
        self, document: Document, results: Sequence[Sequence[SearchResult]], search: SearchConfig
    ) -> tuple[Document, list[Sequence[SearchResult] | None]]:
        """What ``model.guards`` say of the first results: the document and, for each of its sources, the results, or
        None where it is to be searched once more, with ``wider(search)``.

        A sentence without a clean hypothesis gets a wider choice; one that lost an item (URL, placeholder, ...) is cut
        into parts around its items, which then cannot be lost.
        """
        segments: list[segment.Segment] = []
        kept: list[Sequence[SearchResult] | None] = []
        remaining, rebuilt = iter(results), False
        can_widen = self.wider(search) != search
        for part in document.segments:
            if not part.translate:
                segments.append(part)
                continue
            nbest = next(remaining)
            doubts = [self._doubts(part.text, result.ids) for result in nbest]
            if not all(doubts):  # one is clean
                segments.append(part)
                kept.append(nbest)
                continue
            lost = {doubt.detail for doubt in doubts[0] if doubt.code == "ITEM_CHANGED"}
            around = guards.around_items(part.text)
            if any(is_item and text in lost for text, is_item in around):
                cut = [[segment.Segment(t, False)] if item else self._split(t, document.source) for t, item in around]
                segments += (piece for pieces in cut for piece in pieces)
                kept += [None for pieces in cut for piece in pieces if piece.translate]
                rebuilt = True
            else:
                segments.append(part)
                kept.append(None if can_widen else nbest)
        if rebuilt:
            document = self._document(segments, document.source, document.target, document.formality)
        return document, kept

    def wider(self, search: SearchConfig) -> SearchConfig:
        """The search that returns every hypothesis of the beam."""
        return search if search.sampling else replace(search, nbest=search.beam_size)

    def pool(self, search: SearchConfig) -> SearchPool:
        """An empty pool for sources that ``prepare`` made; what comes out of it goes into ``assemble``."""
        decoder = self._int8.decoder(search.rows) if self._int8 else None
        return SearchPool(self.model, search, self.vocabulary.unwritable, decoder)

    def _search(
        self, sources: list[tuple[int, ...]], config: SearchConfig, progress: Callable[[int], object] | None
    ) -> list[list[SearchResult]]:
        """Feed a pool from a queue sorted by length, longest first, so that neighbours are padded little."""
        queue = deque(sorted(range(len(sources)), key=lambda i: -len(sources[i])))
        results: list[list[SearchResult]] = [[] for _ in sources]
        pool = self.pool(config)
        capacity = max(1, POOL_ROWS // pool.beam)
        waiting: dict[int, int] = {}  # ticket -> index
        while queue or len(pool):
            if queue and len(pool) <= capacity * 3 // 4:  # join in groups: encoding one by one is slow
                joining = [queue.popleft() for _ in range(min(capacity - len(pool), len(queue)))]
                waiting.update(zip(pool.add([sources[i] for i in joining]), joining, strict=True))
            finished = pool.step()
            for ticket, found in finished:
                results[waiting.pop(ticket)] = found
            if progress and finished:
                progress(len(finished))
        return results

    def assemble(
        self, document: Document, results: Sequence[Sequence[SearchResult]], search: SearchConfig
    ) -> Translation:
        """The translation of a text from the n-best results of each of its ``sources``; the clean ones come first."""
        warnings: list[guards.QualityWarning] = []
        ranked = []
        for sentence, nbest in zip(document.sentences, results, strict=True):
            doubts = [self._doubts(sentence, result.ids) for result in nbest]
            order = sorted(range(len(nbest)), key=lambda k: bool(doubts[k]))  # stable: the best clean one first
            ranked.append([nbest[k] for k in order])
            warnings += doubts[order[0]]
            if nbest[order[0]].cut:
                warnings.append(guards.QualityWarning("LENGTH_LIMIT"))
        hypotheses = []
        for k in range(min(search.nbest, max((len(nbest) for nbest in ranked), default=1))):
            chosen = iter([nbest[min(k, len(nbest) - 1)] for nbest in ranked])
            texts: list[str] = []
            ids: list[int] = []
            scores: list[float] = []
            for part in document.segments:
                if not part.translate:
                    texts.append(part.text)
                    continue
                result = next(chosen)
                texts.append(self.vocabulary.decode(result.ids))
                ids += result.ids
                scores += result.token_scores
            score = sum(scores) / len(scores) ** search.length_penalty if scores else 0.0
            tokens = tuple(self.vocabulary.piece(id) for id in ids)
            hypotheses.append(Hypothesis("".join(texts), score, tokens, tuple(scores)))
        return Translation(tuple(hypotheses), tuple(dict.fromkeys(warnings)))


def missing(document: Document, results: Sequence[Sequence[SearchResult] | None]) -> list[tuple[int, ...]]:
    """The sources whose results are still to be searched for."""
    return [ids for ids, found in zip(document.sources, results, strict=True) if found is None]
