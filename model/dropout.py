"""Dropout that is cheap on a CPU.

``torch.nn.functional.dropout`` draws one Bernoulli number an element, serially, and takes a fifth of a training
step on a CPU. Here a mask is a window at a random offset into a pool that was drawn once. On a GPU the
library's own is used.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

POOL_SIZE = 1 << 23  # elements; larger inputs than half of it are rare and take the library's way


@functools.lru_cache(maxsize=8)
def _pool(p: float, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(POOL_SIZE, generator=generator) >= p
    return (kept / (1.0 - p)).to(dtype)


class Dropout(nn.Module):
    """Zero each element with probability ``p`` and scale the others by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or x.numel() > POOL_SIZE // 2:
            return functional.dropout(x, self.p)
        offset = int(torch.randint(POOL_SIZE - x.numel(), ()))
        return x * _pool(self.p, x.dtype)[offset : offset + x.numel()].view(x.shape)

    def extra_repr(self) -> str:
        return f"p={self.p}"
