"""Endless batches of a mixture of corpora: a pure function of the seed and a position that fits in a few numbers.

Sentences are drawn a window at a time, tokenised, sorted into buckets of few shapes (the matrix library builds a
kernel for every new shape: ever-changing shapes cost four fifths of the speed) and cut into batches by tokens.
Everything random inside a window comes from (seed, window), so that a position is enough to resume exactly.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.errors import UserError
from model.vocabulary import BOS, EOS, PAD, Vocabulary
from training.augment import FORMALITY_RULES, AugmentationConfig, add_noise, exchange_some, join_some
from training.corpus import LoadedCorpus, StreamedCorpus

WINDOW = 40_000  # sentence pairs, or all pairs of smaller corpora
TAGGED = 0.5  # share of the pairs with a form of address that name it: the others teach the default
# Padded lengths, the last one max_tokens. A batch is (source length, target length), equal or one step apart.
SHORT = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 48, 56, 64, 80, 96)
LENGTHS = (*SHORT, 128, 160, 192, 256, 320, 384, 448, 512)


@dataclass(frozen=True)
class Batch:
    """PAD fills the ends. ``target_input`` is ``target`` shifted right by BOS."""

    source: Tensor  # (B, S) long
    target_input: Tensor  # (B, T) long
    target: Tensor  # (B, T) long
    tokens: int  # target tokens without padding


@dataclass
class Position:
    """Where the stream stands, before the next batch."""

    window: int = 0
    batch: int = 0  # within the window
    drawn: dict[str, int] = field(default_factory=dict)  # a corpus: pairs (streamed: records) drawn before this window


class Mixture:
    """Draws pairs from several corpora in proportion to their weights, each corpus in its own shuffled epochs."""

    def __init__(
        self,
        corpora: Sequence[LoadedCorpus | StreamedCorpus],
        vocabulary: Vocabulary,
        batch_tokens: int,
        max_tokens: int,
        seed: int,
        bpe_dropout: float = 0.0,
        augmentation: AugmentationConfig = AugmentationConfig(),
        formality: Sequence[str] = (),
    ) -> None:
        """``formality``: the target languages whose form of address is named to the model (``augment``'s rules)."""
        self.corpora, self.vocabulary, self.seed = corpora, vocabulary, seed
        self.batch_tokens, self.max_tokens, self.bpe_dropout = batch_tokens, max_tokens, bpe_dropout
        self.augmentation, self.formality = augmentation, formality
        self.lengths = [length for length in LENGTHS if length < max_tokens] + [max_tokens]
        self.position = Position()
        loaded = [len(corpus) for corpus in corpora if isinstance(corpus, LoadedCorpus)]
        self.window = min(WINDOW, sum(loaded)) if len(loaded) == len(corpora) else WINDOW
        self._streams: dict[str, Iterator[tuple[str, str]]] = {}
        self.too_long: Counter[str] = Counter()  # a corpus: pairs left out because a side exceeds max_tokens

    def __iter__(self) -> Iterator[Batch]:
        """Batches from ``self.position`` on, without end; the position moves on before each is handed out."""
        while True:
            batches, drawn = self._window()
            if not batches:
                raise UserError(f"no pair is short enough for max_tokens = {self.max_tokens}; raise it")
            while self.position.batch < len(batches):
                batch = batches[self.position.batch]
                self.position.batch += 1
                yield self._tensors(*batch)
            self.position = Position(self.position.window + 1, 0, drawn)

    def state(self) -> dict[str, Any]:
        return vars(self.position).copy()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``. A corpus that it does not know starts at its beginning."""
        self.position = Position(**state)

    def _window(self) -> tuple[list[tuple[int, int, list[tuple[list[int], list[int]]]]], dict[str, int]]:
        """The batches of the current window as (source length, target length, pairs of ids)."""
        seed = [self.seed, self.position.window]
        rng = np.random.default_rng(seed)
        self.vocabulary.seed(int(rng.integers(2**31)))
        weights = np.array([corpus.weight for corpus in self.corpora])
        drawn = dict(self.position.drawn)
        pairs: list[tuple[list[int], list[int]]] = []
        for corpus, count in zip(self.corpora, rng.multinomial(self.window, weights / weights.sum()), strict=True):
            sentences, drawn[corpus.name] = self._draw(corpus, drawn.get(corpus.name, 0), int(count))
            renamed = exchange_some(sentences, corpus.source, corpus.target, self.augmentation.names, rng)
            sentences = join_some(renamed, self.augmentation.join, rng)
            turned = rng.random(len(sentences)) < (0.5 if corpus.both_ways else 0.0)
            for (source, target), turn in zip(sentences, turned, strict=True):
                language = corpus.target
                if turn:
                    source, target, language = target, source, corpus.source
                form = "default"
                if language in self.formality and rng.random() < TAGGED:
                    form = FORMALITY_RULES[language](target, source)
                source, target = add_noise(source, target, self.augmentation, rng)
                source_ids = self.vocabulary.source_ids(source, language, form, self.bpe_dropout)
                target_ids = self.vocabulary.target_ids(target, self.bpe_dropout)
                if max(len(source_ids), len(target_ids)) > self.max_tokens:
                    self.too_long[corpus.name] += 1
                else:
                    pairs.append((source_ids, target_ids))
        order = rng.permutation(len(pairs))
        batches = self._batches([pairs[i] for i in order])
        return [batches[i] for i in rng.permutation(len(batches))], drawn

    def _draw(self, corpus: LoadedCorpus | StreamedCorpus, start: int, count: int) -> tuple[list[tuple[str, str]], int]:
        """The next ``count`` pairs of the corpus from ``start`` on, and where it stands then.

        A loaded corpus is an endless row of epochs, each shuffled anew; a streamed one is read in its own order.
        """
        if isinstance(corpus, StreamedCorpus):
            return self._read(corpus, start, count)
        size, end, indices = len(corpus), start + count, []
        while start < end:
            epoch, offset = divmod(start, size)
            order = np.random.default_rng([self.seed, zlib.crc32(corpus.name.encode()), epoch]).permutation(size)
            part = order[offset : offset + end - start]
            indices += part.tolist()
            start += len(part)
        return corpus.take(indices), end

    def _read(self, corpus: StreamedCorpus, start: int, count: int) -> tuple[list[tuple[str, str]], int]:
        if corpus.name not in self._streams or corpus.position != start:
            self._streams[corpus.name] = corpus.iterate(start)
            corpus.position = start
        pairs: list[tuple[str, str]] = []
        while len(pairs) < count:
            part = list(itertools.islice(self._streams[corpus.name], count - len(pairs)))
            if not part and corpus.position == 0:
                raise UserError(
                    f"corpus {corpus.name}: the stream holds no usable pair; check its format and languages"
                )
            if not part:  # its end: begin again
                self._streams[corpus.name] = corpus.iterate(0)
                corpus.position = 0
            pairs += part
        return pairs, corpus.position

    def _batches(
        self, pairs: list[tuple[list[int], list[int]]]
    ) -> list[tuple[int, int, list[tuple[list[int], list[int]]]]]:
        """Cut into batches of few shapes. What does not fill a batch moves to the next larger bucket."""
        buckets: dict[tuple[int, int], list[tuple[list[int], list[int]]]] = {}
        for source, target in pairs:
            s, t = (int(np.searchsorted(self.lengths, len(ids))) for ids in (source, target))
            buckets.setdefault((max(s, t - 1), max(t, s - 1)), []).append((source, target))
        batches = []
        rest: list[tuple[list[int], list[int]]] = []
        top = max((max(key) for key in buckets), default=0)
        for i in range(top + 1):
            for key in ((i, i - 1), (i - 1, i), (i, i)):
                # (i, i - 1) and (i - 1, i) do not fit into each other: only the last of the three takes the rest
                waiting = buckets.get(key, []) + (rest if key == (i, i) else [])
                rest = [] if key == (i, i) else rest
                s, t = self.lengths[key[0]], self.lengths[key[1]]
                rows = self.rows(s, t)
                full = len(waiting) // rows * rows
                batches += [(s, t, waiting[j : j + rows]) for j in range(0, full, rows)]
                rest += waiting[full:]
        if rest:
            s = t = self.lengths[top]
            rows = self.rows(s, t)
            batches += [(s, t, rest[j : j + rows]) for j in range(0, len(rest), rows)]
        return batches

    def rows(self, source_length: int, target_length: int) -> int:
        """Sentences in a batch of this shape: padded tokens of the longer side stay within ``batch_tokens``."""
        return max(1, self.batch_tokens // max(source_length, target_length) // 4 * 4)

    def _tensors(self, source_length: int, target_length: int, pairs: list[tuple[list[int], list[int]]]) -> Batch:
        rows = self.rows(source_length, target_length)
        source = np.full((rows, source_length), PAD, dtype=np.int64)
        target = np.full((rows, target_length), PAD, dtype=np.int64)
        for row, (source_ids, target_ids) in enumerate(pairs):
            source[row, : len(source_ids)] = source_ids
            target[row, : len(target_ids)] = target_ids
        source[len(pairs) :, 0] = EOS  # rows that only keep the shape: something to attend to, nothing to predict
        target_input = np.concatenate((np.full((rows, 1), BOS), target[:, :-1]), axis=1)
        return Batch(
            torch.from_numpy(source),
            torch.from_numpy(target_input),
            torch.from_numpy(target),
            sum(len(target_ids) for _, target_ids in pairs),
        )
