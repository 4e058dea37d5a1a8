"""What a search pool asks of a model: add sentences, make a step, choose rows. And how PyTorch answers.

``Int8Decoder`` (model/int8.py) answers the same questions with the same checkpoint, faster.
Shapes: B sentences, K rows (hypotheses) a sentence, C candidates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.transformer import DecoderState, Transformer
from model.vocabulary import PAD

Array = np.ndarray


class Decoder(Protocol):
    """The sentences of one pool, in the order in which they came."""

    def add(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """Encode sentences (ids with tag and EOS) and put them behind the others; no target of sentence i will have
        more than ``limits[i]`` tokens.
        """

    def step(self, tokens: Array, candidates: int, wanted: Array | None = None) -> tuple[Array, Array]:
        """The last token of each row (B, K), BOS first, -1 for a row that does not matter -> the likeliest next
        tokens, best first, but for those that are forbidden: their log-probabilities and ids, (B, K, C) each. Behind
        them come the tokens of ``wanted`` (B, K, W), likely or not; -1 there: none, its log-probability is -inf.
        """

    def choose(self, parents: Array) -> None:
        """Each row becomes what its parent, a row of the same sentence, is. (B, K)"""

    def keep(self, sentences: Array) -> None:
        """Only these sentences stay, in this order."""


def grown(history: Array, sentences: int, length: int) -> Array:
    """(B, K, T) with room for more sentences, and for ``length`` positions of each; zeros where nothing was."""
    count, rows, longest = history.shape
    fresh = np.zeros((count + sentences, rows, max(longest, length)), dtype=history.dtype)
    fresh[:count, :, :longest] = history
    return fresh


def inherit(history: Array, parents: Array, written: int) -> None:
    """Each row's first ``written`` positions (B, K, T) become those of its parent (B, K)."""
    history[:, :, :written] = history[np.arange(len(history))[:, None], parents, :written]


class TorchDecoder:
    """The model as it is, in its own precision and on its own device."""

    def __init__(self, model: Transformer, beam: int, forbidden: Sequence[int]) -> None:
        self.model, self.beam = model, beam
        self.device = next(model.parameters()).device
        self.forbidden = torch.tensor(sorted(set(forbidden)), dtype=torch.long, device=self.device)
        self.state: DecoderState | None = None

    @torch.inference_mode()
    def add(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        padded = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=PAD)
        state = self.model.start(*self.model.encode(padded.to(self.device)), self.beam)
        self.state = DecoderState.join(self.state, state) if self.state else state

    @torch.inference_mode()
    def logits(self, tokens: Array) -> tuple[Tensor, Tensor]:
        """Logits (B K, V), -inf where forbidden, and their log-sum-exp (B K, 1) before the ban: probabilities are
        the model's own.
        """
        assert self.state is not None
        last = torch.from_numpy(tokens.reshape(-1).astype(np.int64)).clamp_min(0).to(self.device)
        logits = self.model.decode_step(last, self.state).float()
        log_z = logits.logsumexp(-1, keepdim=True)
        logits[:, self.forbidden] = -torch.inf
        return logits, log_z

    @torch.inference_mode()
    def step(self, tokens: Array, candidates: int, wanted: Array | None = None) -> tuple[Array, Array]:
        logits, log_z = self.logits(tokens)
        best, found = logits.topk(min(candidates, logits.shape[1]), dim=-1)
        if wanted is not None:
            ids = torch.from_numpy(wanted.reshape(len(logits), -1).astype(np.int64)).to(self.device)
            values = logits.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, -torch.inf)
            best, found = torch.cat((best, values), 1), torch.cat((found, ids), 1)
        shape = (*tokens.shape, best.shape[1])
        return (best - log_z).view(shape).cpu().numpy(), found.view(shape).cpu().numpy()

    @torch.inference_mode()
    def choose(self, parents: Array) -> None:
        assert self.state is not None
        rows = (np.arange(len(parents))[:, None] * self.beam + parents).reshape(-1)
        if not np.array_equal(rows, np.arange(len(rows))):
            self.state = self.state.select(torch.from_numpy(rows).to(self.device))

    @torch.inference_mode()
    def keep(self, sentences: Array) -> None:
        assert self.state is not None
        if not len(sentences):
            self.state = None
            return
        rows = (sentences[:, None] * self.beam + np.arange(self.beam)).reshape(-1)
        index = torch.from_numpy(sentences).to(self.device)
        self.state = self.state.select(torch.from_numpy(rows).to(self.device), index)
