"""The training loop that one writes first, as the baseline of ``nmt bench train``: PyTorch's own transformer layers,
AdamW and cross entropy under bfloat16 autocast; batches of sentences of like length, padded to the longest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from model.config import ModelConfig, check
from model.embedding import sinusoidal_table
from model.vocabulary import BOS, PAD, Vocabulary
from training.corpus import LoadedCorpus, StreamedCorpus
from training.recipe import Recipe
from training.schedule import learning_rate

WINDOW = 10_000  # pairs that are sorted by length at a time

Pair = tuple[list[int], list[int]]


class PlainModel(nn.Module):
    """A transformer of the same size out of ``torch.nn``, whose attention is the fused one. Sinusoidal positions."""

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        check(config.activation != "swiglu", "PyTorch's layers know no swiglu: add --set model.activation=gelu")
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.scale, self.dropout = math.sqrt(config.d_model), nn.Dropout(config.dropout)
        self.register_buffer("positions", sinusoidal_table(config.max_length, config.d_model))
        arguments: dict[str, Any] = {
            "d_model": config.d_model,
            "nhead": config.num_heads,
            "dim_feedforward": config.d_ff,
            "dropout": config.dropout,
            "activation": config.activation,
            "batch_first": True,
            "norm_first": config.norm_position == "pre",
        }
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**arguments),
            config.encoder_layers,
            nn.LayerNorm(config.d_model),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**arguments), config.decoder_layers, nn.LayerNorm(config.d_model)
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (B, S), decoder input (B, T) -> logits (B, T, V)."""
        padding = source == PAD
        memory = self.encoder(self._embed(source), src_key_padding_mask=padding)
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.bool)
        hidden = self.decoder(self._embed(target), memory, causal, memory_key_padding_mask=padding, tgt_is_causal=True)
        return functional.linear(hidden, self.embedding.weight)

    def _embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.shape[1]])


class PlainLoop:
    """Trains a ``PlainModel`` as a recipe says; ``step`` is one update."""

    def __init__(
        self, recipe: Recipe, corpora: Sequence[LoadedCorpus | StreamedCorpus], vocabulary: Vocabulary
    ) -> None:
        self.config, self.vocabulary, self.steps = recipe.training, vocabulary, 0
        self.corpora = [corpus for corpus in corpora if isinstance(corpus, LoadedCorpus)]
        check(len(self.corpora) == len(corpora), "the benchmark draws at random: set streaming = false in its corpora")
        torch.manual_seed(self.config.seed)
        self.model = PlainModel(dataclasses.replace(recipe.model, vocab_size=len(vocabulary)))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.98), eps=1e-9, weight_decay=self.config.weight_decay
        )
        self._stream = self.batches()

    def step(self) -> int:
        """Returns the number of target tokens."""
        source, target = next(self._stream)
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.steps, self.config.learning_rate, self.config.warmup_steps)
        loss = self.loss(source, target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return int((target != PAD).sum())

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """The mean over tokens."""
        shifted = functional.pad(target[:, :-1], (1, 0), value=BOS)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            logits = self.model(source, shifted)
        return functional.cross_entropy(
            logits.float().flatten(0, 1),
            target.flatten(),
            ignore_index=PAD,
            label_smoothing=self.config.label_smoothing,
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Padded source (B, S) and target (B, T), without end; the longer side within ``batch_tokens``."""
        rng = np.random.default_rng(self.config.seed)
        while True:
            pairs = sorted(self._window(rng), key=lambda pair: (len(pair[1]), len(pair[0])))
            batches: list[list[Pair]] = [[]]
            longest = 0
            for pair in pairs:
                longest = max(longest, *map(len, pair))
                if batches[-1] and longest * (len(batches[-1]) + 1) > self.config.batch_tokens:
                    batches.append([])
                    longest = max(map(len, pair))
                batches[-1].append(pair)
            for i in rng.permutation(len(batches)):
                source, target = ([torch.tensor(ids) for ids in side] for side in zip(*batches[i], strict=True))
                yield (
                    pad_sequence(source, batch_first=True, padding_value=PAD),
                    pad_sequence(target, batch_first=True, padding_value=PAD),
                )

    def _window(self, rng: np.random.Generator) -> Iterator[Pair]:
        weights = np.array([corpus.weight for corpus in self.corpora])
        counts = rng.multinomial(WINDOW, weights / weights.sum())
        for corpus, count in zip(self.corpora, counts, strict=True):
            for source, target in corpus.take(rng.integers(len(corpus), size=count)):
                language = corpus.target
                if corpus.both_ways and rng.random() < 0.5:
                    source, target, language = target, source, corpus.source
                pair = self.vocabulary.source_ids(source, language), self.vocabulary.target_ids(target)
                if max(map(len, pair)) <= self.config.max_tokens:
                    yield pair
