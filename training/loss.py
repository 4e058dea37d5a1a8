"""Label-smoothed cross entropy, and R-Drop's divergence, that never hold the logits of a whole batch.

Output layer, loss and both gradients are computed together, a chunk of target tokens at a time: on a CPU the logits of
a few hundred stay in the cache. Padding costs nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.transformer import Packing, Transformer
from model.vocabulary import PAD

CHUNK = 512  # tokens; on a CPU the only shape that the matrix library sees
GPU_CHUNK = 8192  # at most: fewer leave most of a GPU idle, more take memory


def chunk_size(device: torch.device, count: int) -> int:
    """Tokens at a time, of ``count``."""
    return CHUNK if device.type == "cpu" else min(GPU_CHUNK, -(-count // CHUNK) * CHUNK or CHUNK)


class SmoothedCrossEntropy(torch.autograd.Function):
    """sum over tokens of (1 - e) * -log p(label) + e / V * sum over v of -log p(v) (Szegedy et al. 2016).

    The gradient of a token's logits is p - (1 - e) onehot(label) - e / V. Only p is dense: the other two terms enter
    the gradients as a row of ``weight`` and its mean, so that softmax is the one pass over the vocabulary.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """hidden (N, E), weight (V, E), labels (N,); labels equal to PAD do not count.

        Returns the summed smoothed loss and the summed negative log-likelihood, float32 scalars.
        """
        kept = (labels != PAD).nonzero().squeeze(1)
        count = len(kept)
        size = chunk_size(hidden.device, count)
        states = hidden.new_zeros(-(-count // size) * size, hidden.shape[1])  # whole chunks; zero rows add nothing
        states[:count] = hidden[kept]
        targets = functional.pad(labels[kept], (0, len(states) - count))
        weight_low = weight.to(hidden.dtype)
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        nll = torch.empty(len(states), device=hidden.device)
        logit = torch.empty(len(states), device=hidden.device)  # of the label
        for start in range(0, len(states), size):
            chunk = slice(start, start + size)
            h, y = states[chunk], targets[chunk, None]
            logits = h @ weight_low.T  # (chunk, V)
            p = logits.softmax(-1)
            logit[chunk] = logits.gather(1, y).squeeze(1).float()
            nll[chunk] = -p.gather(1, y).squeeze(1).float().clamp_min(torch.finfo(torch.float32).tiny).log()
            grad_states[chunk] = p @ weight_low
            grad_weight += p.T @ h
        nll, logit, states, targets = nll[:count], logit[:count], states[:count], targets[:count]
        mean_weight = weight.float().mean(0)
        # -1/V sum log p(v) = log Z - mean logit, and log Z = logit(y) + nll
        uniform = logit + nll - states.float() @ mean_weight
        loss = (1.0 - smoothing) * nll.sum() + smoothing * uniform.sum()
        grad_hidden = torch.zeros_like(hidden)
        grad_hidden[kept] = (
            grad_states[:count].float() - (1.0 - smoothing) * weight_low[targets].float() - smoothing * mean_weight
        ).to(hidden.dtype)
        grad_weight.index_add_(0, targets, states.float(), alpha=smoothing - 1.0)
        grad_weight -= smoothing / len(weight) * states.float().sum(0)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        likelihood = nll.sum()
        ctx.mark_non_differentiable(likelihood)
        return loss, likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_weight * grads[0], None, None


def smoothed_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """hidden (B, T, E) or (N, E), weight (V, E), labels (B, T) or (N,) -> summed loss and summed NLL."""
    return SmoothedCrossEntropy.apply(hidden.flatten(0, -2), weight, labels.flatten(), smoothing)


class SymmetricDivergence(torch.autograd.Function):
    """sum over tokens of KL(p || q) + KL(q || p), p and q the distributions of two hidden states of a token: what
    R-Drop (Liang et al. 2021) makes small.

    With logits a and b and d = a - b it is the sum of (p - q) d, since log p - log q is d up to a constant of the
    token. The gradient in a is p (d - E_p[d]) + p - q, and the other way round in b.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        count, size = len(first), chunk_size(first.device, len(first))
        padding = (0, 0, 0, -count % size)  # whole chunks; two rows of zeros do not differ
        states = [functional.pad(hidden, padding) for hidden in (first, second)]
        gradients = [torch.empty_like(hidden) for hidden in states]
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        weight_low = weight.to(first.dtype)
        total = torch.zeros((), device=first.device)
        for start in range(0, len(states[0]), size):
            chunk = slice(start, start + size)
            a, b = ((hidden[chunk] @ weight_low.T).float() for hidden in states)  # (chunk, V)
            p, q, d = a.softmax(-1), b.softmax(-1), a - b
            difference = p - q
            total += (difference * d).sum()
            by_a = torch.addcmul(difference, p, d - (p * d).sum(-1, keepdim=True))
            by_b = torch.addcmul(difference, q, d - (q * d).sum(-1, keepdim=True)).neg_()
            for hidden, gradient, by in zip(states, gradients, (by_a, by_b), strict=True):
                by = by.to(hidden.dtype)
                gradient[chunk] = by @ weight_low
                grad_weight += by.T @ hidden[chunk]
        ctx.save_for_backward(*(gradient[:count] for gradient in gradients), grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient * grads[0].to(gradient.dtype) for gradient in ctx.saved_tensors)


def symmetric_divergence(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """first, second (N, E), weight (V, E) -> a float32 scalar."""
    return SymmetricDivergence.apply(first, second, weight)


class LossModel(nn.Module):
    """Model and loss in one forward, so that a data-parallel wrapper sees every use of the weights."""

    def __init__(self, model: Transformer, smoothing: float, r_drop: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing, self.r_drop = model, smoothing, r_drop

    def forward(
        self, source: Tensor, target_input: Tensor, target: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and summed NLL. With R-Drop each sentence is seen twice: the loss is the mean of both, plus
        r_drop / 4 times their divergence (half of the paper's equation 4, whose terms are sums of both)."""
        if self.r_drop:
            source, target_input, target = (torch.cat((t, t)) for t in (source, target_input, target))
            packing = packing and packing.each(lambda t: torch.cat((t, t)))
        hidden = self.model(source, target_input, packing)
        if torch.is_autocast_enabled(hidden.device.type):  # on a GPU the last norm gives float32
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        weight = self.model.output.weight
        loss, nll = smoothed_cross_entropy(hidden, weight, target, self.smoothing)
        if (auxiliary := self.model.auxiliary_loss()) is not None:  # a token's; the loss is a sum over tokens
            loss = loss + auxiliary * (target != PAD).sum()
        if not self.r_drop:
            return loss, nll
        first, second = (half[target[: len(half)] != PAD] for half in hidden.chunk(2))
        return loss / 2 + self.r_drop / 4 * symmetric_divergence(first, second, weight), nll / 2
