"""The losses by their definitions, in float64, with autograd's gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def smoothed_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float, pad: int) -> Tensor:
    """Sum over real tokens of the cross entropy with (1 - e) * one-hot + e / V. hidden (N, E), weight (V, E)."""
    loss = torch.zeros((), dtype=torch.float64)
    for state, label in zip(hidden, labels.tolist(), strict=True):
        if label != pad:
            log_probabilities = (weight @ state).log_softmax(-1)
            wanted = torch.full_like(log_probabilities, smoothing / len(weight))
            wanted[label] += 1.0 - smoothing
            loss = loss - (wanted * log_probabilities).sum()
    return loss


def divergence(first: Tensor, second: Tensor, weight: Tensor, labels: Tensor, pad: int) -> Tensor:
    """Sum over real tokens of KL(p || q) + KL(q || p), p and q the distributions of two hidden states (N, E)."""
    p, q = ((hidden[labels != pad] @ weight.T).softmax(-1) for hidden in (first, second))
    return (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
