"""Scaled dot-product attention in several heads, and the caches that make decoding incremental.

Shapes: B batch, T queries, S keys, H heads, D head size, E d_model. A mask is boolean: True = may attend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.dropout import Dropout
from model.embedding import Rotary


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V (Vaswani et al. 2017, equation 1).

    query (B, H, T, D), key and value (B, H, S, D), mask broadcastable to (B, H, T, S).
    Returns the mixed values (B, H, T, D) and the weights (B, H, T, S). A query that may attend to nothing gets
    the mean of all values rather than NaN.
    """
    scores = (query * (1.0 / math.sqrt(query.shape[-1]))) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return (dropout(weights) if dropout else weights) @ value, weights


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(T, T): position t may attend to positions 0..t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


@dataclass
class KeyValueCache:
    """Keys and values of the tokens that each row has decoded so far.

    Rows may stand at different positions, since sentences join and leave the batch between steps.
    """

    keys: Tensor  # (B, H, capacity, D)
    values: Tensor  # (B, H, capacity, D)

    @staticmethod
    def empty(rows: int, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> KeyValueCache:
        shape = (rows, config.num_heads, 16, config.head_size)
        return KeyValueCache(
            torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype)
        )

    def write(self, key: Tensor, value: Tensor, position: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Store one token a row, (B, H, 1, D), at ``position`` (B,); return the first ``longest`` keys and values."""
        if longest > self.keys.shape[2]:  # double, so that a sentence of n tokens copies O(n)
            self.keys = torch.cat((self.keys, torch.zeros_like(self.keys)), dim=2)
            self.values = torch.cat((self.values, torch.zeros_like(self.values)), dim=2)
        rows = torch.arange(len(position), device=position.device)
        self.keys[rows, :, position] = key.squeeze(2)
        self.values[rows, :, position] = value.squeeze(2)
        return self.keys[:, :, :longest], self.values[:, :, :longest]

    def select(self, rows: Tensor) -> KeyValueCache:
        return KeyValueCache(self.keys.index_select(0, rows), self.values.index_select(0, rows))

    @staticmethod
    def join(first: KeyValueCache, second: KeyValueCache) -> KeyValueCache:
        return KeyValueCache(join_padded(first.keys, second.keys), join_padded(first.values, second.values))


def join_padded(first: Tensor, second: Tensor) -> Tensor:
    """Join along the batch, the shorter of the two padded with zeros along dimension 2."""
    length = max(first.shape[2], second.shape[2])
    parts = [nn.functional.pad(x, (0, 0, 0, length - x.shape[2])) for x in (first, second)]
    return torch.cat(parts)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, E) -> (B, H, T, D)"""
    return x.view(x.shape[0], x.shape[1], num_heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, E)"""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


class SelfAttention(nn.Module):
    """Each position asks all positions of the same sequence that the mask lets it see."""

    def __init__(self, config: ModelConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query_key_value = nn.Linear(config.d_model, 3 * config.d_model)  # one large product beats three
        self.output = nn.Linear(config.d_model, config.d_model)
        self.rotary = rotary
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, mask: Tensor, keys_values: list[Tensor] | None = None, position: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, E), mask (B or 1, 1, T, T) -> (B, T, E) and the weights (B, H, T, T).

        ``keys_values`` gets both of this layer, (2, B, H, T, D): the beginning of a cache. ``position`` (B, T) of each
        token; absent, all rows start at 0.
        """
        query, key, value = self._project(x, position)
        if keys_values is not None:
            keys_values.append(torch.stack((key, value)))
        mixed, weights = attention(query, key, value, mask, self.dropout)
        return self.output(merge_heads(mixed)), weights

    def step(self, x: Tensor, cache: KeyValueCache, position: Tensor, longest: int) -> Tensor:
        """One token a row, (B, 1, E), standing at ``position`` (B,), all below ``longest``."""
        query, key, value = self._project(x, position)
        keys, values = cache.write(key, value, position, longest)
        mask = torch.arange(longest, device=x.device) <= position[:, None]  # (B, longest)
        return self.output(merge_heads(attention(query, keys, values, mask[:, None, None])[0]))

    def _project(self, x: Tensor, position: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        heads = split_heads(self.query_key_value(x), 3 * self.num_heads)  # queries, keys, values: (B, 3 H, T, D)
        if self.rotary is None:
            query, key, value = heads.chunk(3, dim=1)
            return query, key, value
        queries_keys, value = heads.split((2 * self.num_heads, self.num_heads), dim=1)
        query, key = self.rotary(queries_keys, position).chunk(2, dim=1)
        return query, key, value


class CrossAttention(nn.Module):
    """Each target position asks the encoder's output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key_value = nn.Linear(config.d_model, 2 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)
        self.dropout = Dropout(config.dropout)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, E) -> keys and values, (B, H, S, D) each; computed once a sentence."""
        key, value = self.key_value(memory).chunk(2, dim=-1)
        return split_heads(key, self.num_heads), split_heads(value, self.num_heads)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, E), mask (B, 1, 1 or T, S) -> (B, T, E) and the weights (B, H, T, S)."""
        mixed, weights = attention(split_heads(self.query(x), self.num_heads), key, value, mask, self.dropout)
        return self.output(merge_heads(mixed)), weights
