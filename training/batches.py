"""Endless batches of a mixture of corpora: a pure function of the seed and a position that fits in a few numbers.

Sentences are drawn a window at a time, tokenised, sorted into buckets of few shapes (the matrix library builds a
kernel for every new shape: ever-changing shapes cost four fifths of the speed) and cut into batches by tokens.
Everything random inside a window comes from (seed, window), so that a position is enough to resume exactly.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import UserError
from model.transformer import Packing
from model.vocabulary import BOS, EOS, PAD, Vocabulary
from training.augment import FORMALITY_RULES, AugmentationConfig, add_noise, exchange_some, join_some
from training.corpus import LoadedCorpus, StreamedCorpus

log = logging.getLogger(__name__)

WINDOW = 40_000  # sentence pairs, or all pairs of smaller corpora
TAGGED = 0.5  # share of the pairs with a form of address that name it: the others teach the default
# Padded lengths, the last one max_tokens. A batch is (source length, target length), equal or one step apart.
SHORT = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 48, 56, 64, 80, 96)
LENGTHS = (*SHORT, 128, 160, 192, 256, 320, 384, 448, 512)
# Of rows that several pairs share: sources are longer, by their tags (of the shipped model's mixture, 97 % are tokens)
PACKED = 144, 128
OPEN_ROWS = 256  # that a pair may still go into

Pair = tuple[list[int], list[int]]  # ids
Row = list[Pair]  # more than one only where they are packed


@dataclass(frozen=True)
class Batch:
    """PAD fills the ends. ``target_input`` is ``target`` shifted right by BOS, each pair by its own."""

    source: Tensor  # (B, S) long
    target_input: Tensor  # (B, T) long
    target: Tensor  # (B, T) long
    tokens: int  # target tokens without padding
    packing: Packing | None = None  # where a row holds several pairs


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
        pack: bool = False,
        processes: int = 0,
    ) -> None:
        """``formality``: the target languages whose form of address is named to the model (``augment``'s rules).
        ``pack``: several pairs a row, all batches of one shape. ``processes`` prepare windows ahead, the same ones as
        without; a stream is read here.
        """
        self.corpora, self.vocabulary, self.seed = corpora, vocabulary, seed
        self.batch_tokens, self.max_tokens, self.bpe_dropout = batch_tokens, max_tokens, bpe_dropout
        self.augmentation, self.formality, self.pack = augmentation, formality, pack
        self.lengths = [length for length in LENGTHS if length < max_tokens] + [max_tokens]
        self.position = Position()
        loaded = [len(corpus) for corpus in corpora if isinstance(corpus, LoadedCorpus)]
        self.window = min(WINDOW, sum(loaded)) if len(loaded) == len(corpora) else WINDOW
        self.processes = 0 if any(isinstance(corpus, StreamedCorpus) for corpus in corpora) else processes
        self._streams: dict[str, Iterator[tuple[str, str]]] = {}
        self.too_long: Counter[str] = Counter()  # a corpus: pairs left out because a side exceeds max_tokens

    def __iter__(self) -> Iterator[Batch]:
        """Batches from ``self.position`` on, without end; the position moves on before each is handed out."""
        for batches, drawn, too_long in self._ahead() if self.processes else self._here():
            self.too_long += too_long
            if not batches:
                raise UserError(f"no pair is short enough for max_tokens = {self.max_tokens}; raise it")
            while self.position.batch < len(batches):
                batch = batches[self.position.batch]
                self.position.batch += 1
                yield self._batch(*batch)
            self.position = Position(self.position.window + 1, 0, drawn)

    def state(self) -> dict[str, Any]:
        return vars(self.position).copy()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``. A corpus that it does not know starts at its beginning."""
        self.position = Position(**state)

    def _here(self) -> Iterator[Window]:
        while True:  # the position moves on in between
            yield self._window(self.position)

    def _ahead(self) -> Iterator[Window]:
        """The windows from the position on, a few of them under way in other processes."""
        position = Position(self.position.window, 0, self.position.drawn)
        waiting: deque[Any] = deque()
        context = multiprocessing.get_context("fork")  # shares the corpora
        pool = ProcessPoolExecutor(self.processes, context, initializer=_adopt, initargs=(self,))
        try:
            while True:
                while len(waiting) <= self.processes:
                    waiting.append(pool.submit(_adopted_window, position))
                    _, _, counts = self._shares(position)
                    drawn = {name: position.drawn.get(name, 0) + count for name, count in counts.items()}
                    position = Position(position.window + 1, 0, position.drawn | drawn)
                yield waiting.popleft().result()
        except BrokenProcessPool:
            log.warning(
                "a process that prepares batches has died (out of memory?); from here on one does it, more slowly"
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        yield from self._here()

    def _shares(self, position: Position) -> tuple[np.random.Generator, int, dict[str, int]]:
        """What a window's draws come from: a generator, the vocabulary's seed, the pairs of each corpus."""
        rng = np.random.default_rng([self.seed, position.window])
        seed = int(rng.integers(2**31))
        weights = np.array([corpus.weight for corpus in self.corpora])
        counts = rng.multinomial(self.window, weights / weights.sum()).tolist()
        return rng, seed, dict(zip((corpus.name for corpus in self.corpora), counts, strict=True))

    def _window(self, position: Position) -> Window:
        """The batches of a window, what was drawn when it ends, and what it leaves out."""
        rng, seed, counts = self._shares(position)
        self.vocabulary.seed(seed)
        drawn, too_long = dict(position.drawn), Counter[str]()
        pairs: list[Pair] = []
        for corpus in self.corpora:
            sentences, drawn[corpus.name] = self._draw(corpus, drawn.get(corpus.name, 0), counts[corpus.name])
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
                    too_long[corpus.name] += 1
                else:
                    pairs.append((source_ids, target_ids))
        order = rng.permutation(len(pairs))
        shuffled = [pairs[i] for i in order]
        batches = self._packed(shuffled, rng) if self.pack else self._batches(shuffled)
        return [self._arrays(*batches[i]) for i in rng.permutation(len(batches))], drawn, too_long

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

    def _packed(self, pairs: list[Pair], rng: np.random.Generator) -> list[tuple[int, int, list[Row]]]:
        """Best fit, the longest first: rows that hold as many pairs as there is room for, in random order."""
        full: list[Row] = []
        rows: list[Row] = [[] for _ in range(OPEN_ROWS)]
        room = np.repeat([PACKED], OPEN_ROWS, axis=0)
        for pair in sorted(pairs, key=lambda pair: -len(pair[0]) - len(pair[1])):
            size = [len(pair[0]), len(pair[1])]
            left = np.where((room >= size).all(1), room.sum(1), sum(PACKED) + 1)
            best = int(left.argmin())
            if left[best] > sum(PACKED):  # none has room: the fullest is done
                best = int(room.sum(1).argmin())
                full.append(rows[best])
                rows[best], room[best] = [], PACKED
            rows[best].append(pair)
            room[best] -= size
        full += [row for row in rows if row]
        full = [full[i] for i in rng.permutation(len(full))]
        count = self.rows(*PACKED)
        return [(*PACKED, full[i : i + count]) for i in range(0, len(full), count)]

    def _batches(self, pairs: list[Pair]) -> list[tuple[int, int, list[Row]]]:
        """Cut into batches of few shapes. What does not fill a batch moves to the next larger bucket."""
        buckets: dict[tuple[int, int], list[Row]] = {}
        for source, target in pairs:
            s, t = (int(np.searchsorted(self.lengths, len(ids))) for ids in (source, target))
            buckets.setdefault((max(s, t - 1), max(t, s - 1)), []).append([(source, target)])
        batches = []
        rest: list[Row] = []
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

    def _arrays(self, source_length: int, target_length: int, rows: list[Row]) -> Arrays:
        """Ids, and for packed rows the pair and the position of each token: (1 or 3, B, S) and (1 or 3, B, T)."""
        count, kinds = self.rows(source_length, target_length), 3 if self.pack else 1
        sides = [np.zeros((kinds, count, length), dtype=np.int32) for length in (source_length, target_length)]
        for side, found in enumerate(sides):
            found[0] = PAD
            for row, pairs in enumerate(rows):
                start = 0
                for number, pair in enumerate(pairs, 1):
                    place = slice(start, start := start + len(pair[side]))
                    found[0, row, place] = pair[side]
                    if self.pack:
                        found[1, row, place] = number
                        found[2, row, place] = np.arange(len(pair[side]))
        if not self.pack:  # rows that only keep the shape: something to attend to, nothing to predict
            sides[0][0, len(rows) :, 0] = EOS
        return sides[0], sides[1]

    def _batch(self, sources: np.ndarray, targets: np.ndarray) -> Batch:
        source, *source_places = (torch.from_numpy(part.astype(np.int64)) for part in sources)
        target, *target_places = (torch.from_numpy(part.astype(np.int64)) for part in targets)
        target_input = functional.pad(target[:, :-1], (1, 0), value=BOS)
        tokens, packing = int((target != PAD).sum()), None
        if self.pack:
            packing = Packing(*source_places, *target_places)
            target_input[(packing.target_position == 0) & (packing.target_pair > 0)] = BOS
        return Batch(source, target_input, target, tokens, packing)


Arrays = tuple[np.ndarray, np.ndarray]  # of the sources and the targets of a batch
Window = tuple[list[Arrays], dict[str, int], Counter[str]]
_adopted: Mixture  # in a process that prepares windows


def _adopt(mixture: Mixture) -> None:
    """Prepare windows of this mixture, and stop with the process that wants them."""
    global _adopted
    _adopted = mixture
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _adopted_window(position: Position) -> Window:
    return _adopted._window(position)
