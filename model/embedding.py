"""Token embedding, and the three ways of telling a transformer where a token stands.

Shapes: B batch, T length, H heads, D head size, E d_model, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.dropout import Dropout


def sinusoidal_table(length: int, width: int) -> Tensor:
    """(length, width): PE[p, 2i] = sin(p / 10000^(2i/width)), PE[p, 2i+1] = cos of the same (Vaswani 2017, 3.5)."""
    angles = _angles(length, width)
    table = torch.empty(length, width)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()
    return table


def _angles(length: int, width: int) -> Tensor:
    """(length, width / 2) float32: position times frequency, computed in float64 so that long texts stay exact."""
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return (torch.arange(length, dtype=torch.float64)[:, None] * frequency).float()


def _each(position: Tensor, length: int) -> Tensor:
    """Where each token stands, (B, length), given that (B, length) or where each row starts (B,)."""
    return position if position.dim() == 2 else position[:, None] + torch.arange(length, device=position.device)


class Embedding(nn.Module):
    """Tokens to vectors: scaled embedding plus, unless positions are rotary, an encoding of the position."""

    def __init__(self, config: ModelConfig, tokens: nn.Embedding) -> None:
        super().__init__()
        self.tokens = tokens
        self.scale = math.sqrt(config.d_model)
        self.dropout = Dropout(config.dropout)
        if config.positions == "learned":
            self.positions: Tensor | None = nn.Parameter(torch.randn(config.num_positions, config.d_model))
        elif config.positions == "sinusoidal":
            self.register_buffer("positions", sinusoidal_table(config.num_positions, config.d_model), persistent=False)
        else:
            self.positions = None

    def forward(self, tokens: Tensor, position: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, E). ``position`` is where each row starts (B,) or each token stands (B, T); absent, all
        rows start at 0.
        """
        x = self.tokens(tokens) * self.scale
        if self.positions is not None:
            if position is None:
                x = x + self.positions[: tokens.shape[1]]
            else:
                x = x + self.positions[_each(position, tokens.shape[1])]
        if torch.is_autocast_enabled(x.device.type):  # the residual stream too: else each layer casts it there and back
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.dropout(x)


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): turn each pair of dimensions of queries and keys by position * frequency.

    The product of a turned query and a turned key depends on their distance only. Pairs are dimension i and
    i + D/2, as in GPT-NeoX.
    """

    def __init__(self, length: int, head_size: int) -> None:
        super().__init__()
        self.cos: Tensor
        self.sin: Tensor
        angles = _angles(length, head_size)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        """(B, H, T, D) -> the same shape, turned. ``position`` as in ``Embedding``."""
        if position is None:
            cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]  # (T, D/2)
        else:
            index = _each(position, x.shape[2])
            cos, sin = self.cos[index][:, None], self.sin[index][:, None]  # (B, 1, T, D/2)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
