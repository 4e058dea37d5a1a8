"""Search for likely targets: a pool of live hypotheses that takes steps.

A sentence takes ``beam_size`` rows of the pool, may join between any two steps, and leaves as soon as it is
finished; a file keeps the pool full from a queue, a service fills it from the wire. Beam, greedy (a beam of one)
and sampling are one loop that differs in how the next tokens are chosen.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.config import SearchConfig
from model.transformer import DecoderState, EncoderDecoder
from model.vocabulary import BOS, EOS, PAD, UNK


@dataclass(frozen=True)
class SearchResult:
    """A finished target without BOS and EOS. ``score`` = sum of log-probabilities / length ** length_penalty.

    ``token_scores`` are the log-probabilities of ``ids`` and, last, of EOS (absent where max_length cut it short).
    """

    ids: tuple[int, ...]
    score: float
    token_scores: tuple[float, ...]

    @property
    def cut(self) -> bool:
        """Whether it reached the length limit before it ended: likely a loop, and ranked behind all that ended."""
        return len(self.ids) == len(self.token_scores)


@dataclass
class _Sentence:
    """One sentence in the pool: its live hypotheses (one a row, best first) and its finished ones."""

    ticket: int
    key: int  # tells this source's random draws from another's
    max_length: int
    live: list[tuple[tuple[int, ...], tuple[float, ...]]]  # ids and their log-probabilities
    finished: list[SearchResult] = field(default_factory=list)


class SearchPool:
    """Sentences in, finished hypotheses out, a step at a time. All of them share one SearchConfig."""

    def __init__(self, model: EncoderDecoder, config: SearchConfig, forbidden: Sequence[int] = (PAD, UNK, BOS)) -> None:
        self.model, self.config = model, config
        self.device = next(model.parameters()).device
        self.forbidden = torch.tensor(sorted(set(forbidden)), dtype=torch.long, device=self.device)
        self.beam = config.nbest if config.sampling else config.beam_size  # rows a sentence takes
        self.sentences: list[_Sentence] = []
        self.state: DecoderState | None = None
        self._tickets = 0

    def __len__(self) -> int:
        return len(self.sentences)

    def max_length(self, source_length: int) -> int:
        """The most tokens, EOS included, that a target of this source may have."""
        wanted = int(self.config.max_length_ratio * source_length) + self.config.max_length_offset
        return min(wanted, self.model.config.max_length - 1)

    @torch.inference_mode()
    def add(self, sources: Sequence[Sequence[int]]) -> list[int]:
        """Encode sources (ids with tag and EOS) and let them join; returns a ticket for each."""
        if not sources:
            return []
        padded = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=PAD)
        state = self.model.start(*self.model.encode(padded.to(self.device)), self.beam)
        self.state = DecoderState.join(self.state, state) if self.state and self.sentences else state
        tickets = list(range(self._tickets, self._tickets + len(sources)))
        self._tickets += len(sources)
        for ticket, ids in zip(tickets, sources, strict=True):
            # Sampling draws independent hypotheses; a beam would only find the same one in every row.
            live: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((), ())]
            live *= self.beam if self.config.sampling else 1
            key = zlib.crc32(np.array(ids, dtype=np.int64).tobytes())
            self.sentences.append(_Sentence(ticket, key, self.max_length(len(ids)), live))
        return tickets

    def drop(self, tickets: set[int]) -> None:
        """Free the rows of sentences that nobody waits for any more."""
        kept = [i for i, sentence in enumerate(self.sentences) if sentence.ticket not in tickets]
        self._keep(kept, [i * self.beam + j for i in kept for j in range(self.beam)])

    @torch.inference_mode()
    def step(self) -> list[tuple[int, list[SearchResult]]]:
        """Every live hypothesis grows by one token; returns the sentences that are finished, n-best first."""
        assert self.state is not None
        last = [token for sentence in self.sentences for token in self._last(sentence)]
        logits = self.model.decode_step(torch.tensor(last, device=self.device), self.state).float()
        log_z = logits.logsumexp(-1, keepdim=True)  # before the ban: scores are the model's own probabilities
        logits[:, self.forbidden] = -math.inf
        scores, tokens, parents = (self._sample if self.config.sampling else self._extend)(logits, log_z)
        finished, kept, rows = [], [], []
        for i, sentence in enumerate(self.sentences):
            origin = self._grow(sentence, scores[i], tokens[i], parents[i])
            if origin:
                kept.append(i)
                rows += [i * self.beam + parent for parent in (origin + [0] * self.beam)[: self.beam]]
            else:
                best = sorted(sentence.finished, key=lambda result: (result.cut, -result.score))
                finished.append((sentence.ticket, best[: self.config.nbest]))
        self._keep(kept, rows)
        return finished

    def _last(self, sentence: _Sentence) -> list[int]:
        """The token that each row goes on from; rows without a hypothesis get one that fits the shape."""
        last = [ids[-1] if ids else BOS for ids, _ in sentence.live]
        return (last + [BOS] * self.beam)[: self.beam]

    def _keep(self, kept: list[int], rows: list[int]) -> None:
        if self.state is not None and rows != list(range(len(self.sentences) * self.beam)):
            index = torch.tensor(rows, dtype=torch.long, device=self.device)
            same = len(kept) == len(self.sentences)
            sentences = None if same else torch.tensor(kept, dtype=torch.long, device=self.device)
            self.state = self.state.select(index, sentences)
        self.sentences = [self.sentences[i] for i in kept]

    def _extend(self, logits: Tensor, log_z: Tensor) -> tuple[list[list[float]], list[list[int]], list[list[int]]]:
        """The 2 * beam best continuations of each sentence: enough that ``beam`` of them do not end. Greedy search
        takes the best one only: where that ends, so does the search.

        logits (R, V) and their log-sum-exp (R, 1) -> per sentence, best first: log-probability of the token, the
        token, and the row within the sentence that it continues.
        """
        vocab_size = logits.shape[1]
        candidates = 2 * self.beam if self.beam > 1 else 1
        width = min(candidates, vocab_size)
        best, tokens = logits.topk(width, dim=-1)  # (R, 2 * beam)
        best = (best - log_z).view(len(self.sentences), self.beam * width)
        totals = torch.full((len(self.sentences), self.beam), -math.inf)  # rows without a hypothesis cannot win
        for i, sentence in enumerate(self.sentences):
            for j, (_, token_scores) in enumerate(sentence.live):
                totals[i, j] = sum(token_scores)
        ranked = totals.to(logits.device).repeat_interleave(width, dim=1) + best
        chosen = ranked.topk(min(candidates, ranked.shape[1]), dim=-1).indices  # (sentences, 2 * beam)
        tokens = tokens.view(len(self.sentences), -1).gather(1, chosen)
        return best.gather(1, chosen).tolist(), tokens.tolist(), (chosen // width).tolist()

    def _sample(self, logits: Tensor, log_z: Tensor) -> tuple[list[list[float]], list[list[int]], list[list[int]]]:
        """One drawn token a row. Draws depend on seed, source, row and position, never on the neighbours."""
        shaped = logits / self.config.temperature
        if self.config.top_k:
            least = shaped.topk(min(self.config.top_k, shaped.shape[1])).values[:, -1:]
            shaped = shaped.masked_fill(shaped < least, -math.inf)
        cumulative = shaped.softmax(-1).double().cumsum(-1)  # (R, V)
        draws = [
            np.random.default_rng([self.config.seed, s.key, j, len(s.live[0][0])]).random()
            for s in self.sentences
            for j in range(self.beam)
        ]
        points = torch.tensor(draws, device=logits.device)[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, points, right=True).clamp_max(logits.shape[1] - 1)
        scores = (logits.gather(1, tokens) - log_z).view(-1, self.beam)
        return scores.tolist(), tokens.view(-1, self.beam).tolist(), [list(range(self.beam)) for _ in self.sentences]

    def _grow(self, sentence: _Sentence, scores: list[float], tokens: list[int], parents: list[int]) -> list[int]:
        """Extend the live hypotheses; returns the row each one came from, none where the search is over."""
        live, origin = [], []
        for score, token, parent in zip(scores, tokens, parents, strict=True):
            if parent >= len(sentence.live) or score == -math.inf:  # no such hypothesis, or a forbidden token
                continue
            ids, token_scores = sentence.live[parent]
            token_scores = (*token_scores, score)
            if token == EOS:
                sentence.finished.append(self._result(ids, token_scores))
            else:
                live.append(((*ids, token), token_scores))
                origin.append(parent)
            if len(live) == self.beam:
                break
        sentence.live = live
        if live and len(live[0][0]) >= sentence.max_length:
            sentence.finished += [self._result(ids, token_scores) for ids, token_scores in live]
            return []
        return [] if self._over(sentence) else origin

    def _result(self, ids: tuple[int, ...], token_scores: tuple[float, ...]) -> SearchResult:
        score = sum(token_scores) / len(token_scores) ** self.config.length_penalty
        return SearchResult(ids, score, token_scores)

    def _over(self, sentence: _Sentence) -> bool:
        """Exact: no live hypothesis can still enter the n best. Its sum only falls, so the best score that it can
        reach is its present sum over the longest length (the sum itself without length penalty).
        """
        if not sentence.live:
            return True
        if self.config.sampling or len(sentence.finished) < self.config.nbest:
            return False
        worst = sorted((result.score for result in sentence.finished), reverse=True)[self.config.nbest - 1]
        reachable = max(sum(token_scores) for _, token_scores in sentence.live)
        return worst >= reachable / sentence.max_length**self.config.length_penalty


def search(model: EncoderDecoder, sources: Sequence[Sequence[int]], config: SearchConfig) -> list[list[SearchResult]]:
    """The n-best targets of each source; all sources together in one pool."""
    pool = SearchPool(model, config)
    order = {ticket: i for i, ticket in enumerate(pool.add(sources))}
    results: list[list[SearchResult]] = [[] for _ in sources]
    while len(pool):
        for ticket, found in pool.step():
            results[order[ticket]] = found
    return results
