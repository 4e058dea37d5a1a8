"""Translator: the one object that the service, the command line and the BLEU harness share.

text -> segments -> pieces -> encode -> search -> pieces -> segments -> text. One path, so that a file, a call and
a benchmark give the same words for the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model import checkpoint, segment
from model.config import ModelConfig, SearchConfig
from model.errors import UserError
from model.search import SearchPool, SearchResult
from model.transformer import EncoderDecoder
from model.vocabulary import Vocabulary

SENTENCE_PIECES = 128  # a longer sentence is split: training saw none longer
POOL_ROWS = 320  # live hypotheses decoded together: enough to feed the matrix units, small enough for the cache
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
class Translation:
    """The hypotheses for one text, best first; at least one."""

    hypotheses: tuple[Hypothesis, ...]

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

    def __init__(self, model: EncoderDecoder, vocabulary: Vocabulary, name: str, hash: str = "") -> None:
        self.model, self.vocabulary, self.name, self.hash = model, vocabulary, name, hash

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", dtype: str = "float32") -> Translator:
        """Load a checkpoint directory, the shipped one where ``path`` is None. Raises CheckpointError."""
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype '{dtype}'; choose from {', '.join(DTYPES)}")
        loaded = checkpoint.load(path if path is not None else checkpoint.PRETRAINED)
        return cls(loaded.model().to(device, DTYPES[dtype]), loaded.vocabulary, loaded.name, loaded.hash)

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
    ) -> list[Translation]:
        """Translate texts of any length; paragraphs, blank lines and white space stay as they are.

        Hypothesis k of a text of several sentences joins the k-th best of each. ``progress`` is called with the
        number of sentences finished since its last call. UserError for a language that the model does not know.
        """
        self.check_languages(source, target)
        limit = min(SENTENCE_PIECES, self.config.max_length - 2)
        documents = [segment.split(text, source, self._pieces, limit) for text in texts]
        wanted = {part.text: part for document in documents for part in document if part.translate}
        sources = [self.vocabulary.source_ids(segment.normalise(text), target) for text in wanted]
        found = self._search(sources, search, progress)
        results = dict(zip(wanted, found, strict=True))
        return [self._assemble(document, results, search) for document in documents]

    def check_languages(self, source: str, target: str) -> None:
        for language in (source, target):
            self.vocabulary.tag(language)
        if source == target:
            raise UserError(
                f"source and target language are both '{source}'; choose two of {', '.join(self.languages)}"
            )

    def _pieces(self, text: str) -> int:
        return len(self.vocabulary.encode(segment.normalise(text)))

    def _search(
        self, sources: list[list[int]], config: SearchConfig, progress: Callable[[int], object] | None
    ) -> list[list[SearchResult]]:
        """Feed the pool from a queue sorted by length, longest first, so that neighbours are padded little."""
        pool = SearchPool(self.model, config, self.vocabulary.unwritable)
        queue = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        capacity = max(1, POOL_ROWS // pool.beam)
        waiting: dict[int, int] = {}  # ticket -> index
        results: list[list[SearchResult]] = [[] for _ in sources]
        done = 0
        while done < len(queue) or len(pool):
            if len(pool) <= capacity * 3 // 4 and done < len(queue):  # join in groups: encoding one by one is slow
                joining = queue[done : done + capacity - len(pool)]
                done += len(joining)
                waiting |= zip(pool.add([sources[i] for i in joining]), joining, strict=True)
            finished = pool.step()
            for ticket, found in finished:
                results[waiting.pop(ticket)] = found
            if progress and finished:
                progress(len(finished))
        return results

    def _assemble(
        self, document: list[segment.Segment], results: dict[str, list[SearchResult]], search: SearchConfig
    ) -> Translation:
        parts = [results[part.text] for part in document if part.translate]
        hypotheses = []
        for k in range(max((len(part) for part in parts), default=1)):
            chosen = iter([part[min(k, len(part) - 1)] for part in parts])
            texts: list[str] = []
            ids: list[int] = []
            scores: list[float] = []
            for part in document:
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
        return Translation(tuple(hypotheses))
