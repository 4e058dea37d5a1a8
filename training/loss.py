"""Label-smoothed cross entropy that never holds the logits of a whole batch.

Output layer, loss and both gradients are computed together, a few hundred target tokens at a time: the logits of
a chunk stay in the cache, and padding costs nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.vocabulary import PAD

CHUNK = 256  # tokens; also the only shape that the matrix library sees


class SmoothedCrossEntropy(torch.autograd.Function):
    """sum over tokens of (1 - e) * -log p(label) + e / V * sum over v of -log p(v) (Szegedy et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """hidden (N, E), weight (V, E), labels (N,); labels equal to PAD do not count.

        Returns the summed smoothed loss and the summed negative log-likelihood, float32 scalars.
        """
        kept = (labels != PAD).nonzero().squeeze(1)
        rows = -(-len(kept) // CHUNK) * CHUNK  # whole chunks; what is added gets a gradient of zero
        index = functional.pad(kept, (0, rows - len(kept)))
        counts = torch.zeros(rows, 1, device=hidden.device)
        counts[: len(kept)] = 1.0
        states, targets = hidden[index], labels[index]
        vocab_size = weight.shape[0]
        weight_low = weight.to(hidden.dtype)
        mean_weight = weight.float().mean(0).to(hidden.dtype)
        loss = hidden.new_zeros((), dtype=torch.float32)
        likelihood = hidden.new_zeros((), dtype=torch.float32)
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, rows, CHUNK):
            chunk = slice(start, start + CHUNK)
            h, y, count = states[chunk], targets[chunk, None], counts[chunk]
            logits = h @ weight_low.T  # (CHUNK, V)
            p = logits.softmax(-1, dtype=torch.float32)
            nll = -p.gather(1, y).clamp_min(torch.finfo(torch.float32).tiny).log()
            # -1/V sum log p(v) = log Z - mean logit, and log Z = logit(y) + nll: no further pass over V
            uniform = logits.gather(1, y).float() + nll - (h @ mean_weight).float()[:, None]
            likelihood += (nll * count).sum()
            loss += (((1.0 - smoothing) * nll + smoothing * uniform) * count).sum()
            p -= smoothing / vocab_size
            p.scatter_add_(1, y, torch.full_like(nll, smoothing - 1.0))
            grad = (p * count).to(h.dtype)
            grad_states[chunk] = grad @ weight_low
            grad_weight += (grad.T @ h).float()
        grad_hidden = torch.zeros_like(hidden)
        grad_hidden[kept] = grad_states[: len(kept)]
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        ctx.mark_non_differentiable(likelihood)
        return loss, likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_weight * grads[0], None, None


def smoothed_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """hidden (B, T, E) or (N, E), weight (V, E), labels (B, T) or (N,) -> summed loss and summed NLL."""
    return SmoothedCrossEntropy.apply(hidden.flatten(0, -2), weight, labels.flatten(), smoothing)
