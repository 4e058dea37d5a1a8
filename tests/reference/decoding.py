"""Slow searches without caches, batches or early stopping: each step scores the whole prefix again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD, UNK

FORBIDDEN = (PAD, UNK, BOS)
Found = tuple[tuple[int, ...], float]  # ids without EOS, score


def forbidden(prefix: Sequence[int]) -> list[int]:
    """What may not come next: no target is empty."""
    return [*FORBIDDEN, *([] if prefix else [EOS])]


@torch.no_grad()
def next_log_probabilities(model: EncoderDecoder, source: Sequence[int], prefix: Sequence[int]) -> torch.Tensor:
    """(V,) after ``prefix``, which does not hold BOS."""
    hidden = model(torch.tensor([source]), torch.tensor([[BOS, *prefix]]))
    return model.output(hidden)[0, -1].log_softmax(-1)


def greedy(model: EncoderDecoder, source: Sequence[int], max_length: int) -> list[int]:
    """The likeliest token at each step, up to EOS, which is left out."""
    ids: list[int] = []
    while len(ids) < max_length:
        scores = next_log_probabilities(model, source, ids)
        scores[forbidden(ids)] = -torch.inf
        if (token := int(scores.argmax())) == EOS:
            break
        ids.append(token)
    return ids


@torch.no_grad()
def exhaustive(model: EncoderDecoder, source: Sequence[int], max_length: int, length_penalty: float) -> list[Found]:
    """Every target of 2 to ``max_length`` tokens, EOS included (or cut off there), best first."""
    words = [i for i in range(model.config.vocab_size) if i not in (*FORBIDDEN, EOS)]
    found = []
    for length in range(2, max_length + 1):
        ended = [(*ids, EOS) for ids in itertools.product(words, repeat=length - 1)]
        cut = list(itertools.product(words, repeat=length)) if length == max_length else []
        targets = torch.tensor(ended + cut)
        scores = model.score(torch.tensor([source]).expand(len(targets), -1), targets).sum(1) / length**length_penalty
        for ids, score in zip(ended + cut, scores.tolist(), strict=True):
            found.append((ids[:-1] if ids[-1] == EOS else ids, score))
    return sorted(found, key=lambda result: (len(result[0]) == max_length, -result[1]))  # what was cut off comes last


def beam(
    model: EncoderDecoder, source: Sequence[int], size: int, max_length: int, length_penalty: float
) -> list[Found]:
    """Beam search that never stops before ``max_length``: all that it ever finished, best first."""
    live: list[tuple[list[int], float]] = [([], 0.0)]
    found: list[Found] = []
    for length in range(1, max_length + 1):
        candidates = []
        for ids, total in live:
            scores = next_log_probabilities(model, source, ids)
            candidates += [
                ([*ids, token], total + float(scores[token]))
                for token in range(len(scores))
                if token not in forbidden(ids)
            ]
        candidates.sort(key=lambda candidate: -candidate[1])
        live = []
        for ids, total in candidates[: 2 * size]:
            if ids[-1] == EOS:
                found.append((tuple(ids[:-1]), total / length**length_penalty))
            else:
                live.append((ids, total))
            if len(live) == size:
                break
    found += [(tuple(ids), total / max_length**length_penalty) for ids, total in live]
    return sorted(found, key=lambda result: (len(result[0]) == max_length, -result[1]))  # what was cut off comes last
