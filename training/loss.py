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

    Of a token that was seen twice it is the mean of both, plus r_drop / 4 times KL(p || q) + KL(q || p), p and q the
    two distributions: half of R-Drop (Liang et al. 2021, equation 4), whose terms are sums of both.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float, r_drop: float
    ) -> tuple[Tensor, Tensor]:
        """hidden (P, N, E) of one or two passes, weight (V, E), labels (N,); labels equal to PAD do not count.

        Returns the summed loss and the summed negative log-likelihood, float32 scalars.
        """
        passes, kept = len(hidden), (labels != PAD).nonzero().squeeze(1)
        count = len(kept)
        size = chunk_size(hidden.device, count)
        # whole chunks; zero rows add nothing
        states = hidden.new_zeros(passes, -(-count // size) * size, hidden.shape[2])
        states[:, :count] = hidden[:, kept]
        targets = functional.pad(labels[kept], (0, states.shape[1] - count))
        weight_low = weight.to(hidden.dtype)
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        nll = torch.empty(states.shape[:2], device=hidden.device)
        logit = torch.empty_like(nll)  # of the label
        divergence = nll.new_zeros(())
        for start in range(0, states.shape[1], size):
            chunk = slice(start, start + size)
            h, y = states[:, chunk], targets[chunk].expand(passes, -1)[..., None]
            logits = h @ weight_low.T  # (P, chunk, V)
            if r_drop:  # a difference of logits wants all their digits
                logits = logits.float()
            p = logits.softmax(-1)
            logit[:, chunk] = logits.gather(2, y).squeeze(2).float()
            nll[:, chunk] = -p.gather(2, y).squeeze(2).float().clamp_min(torch.finfo(torch.float32).tiny).log()
            if r_drop:
                by_logits, found = symmetric_divergence(logits, p)
                divergence += found
                p = p.add_(by_logits, alpha=r_drop / 4 * passes).to(hidden.dtype)
            grad_states[:, chunk] = p @ weight_low
            grad_weight += p.flatten(0, 1).T @ h.flatten(0, 1)
        nll, logit, states, targets = nll[:, :count], logit[:, :count], states[:, :count].float(), targets[:count]
        mean_weight = weight.float().mean(0)
        # -1/V sum log p(v) = log Z - mean logit, and log Z = logit(y) + nll
        uniform = logit + nll - states @ mean_weight
        likelihood = nll.sum() / passes
        loss = (1.0 - smoothing) * likelihood + smoothing / passes * uniform.sum() + r_drop / 4 * divergence
        grad_hidden = torch.zeros_like(hidden)
        by_states = grad_states[:, :count] - (1.0 - smoothing) * weight_low[targets].float() - smoothing * mean_weight
        grad_hidden[:, kept] = (by_states / passes).to(hidden.dtype)
        both = states.sum(0)
        grad_weight.index_add_(0, targets, both, alpha=smoothing - 1.0)
        grad_weight -= smoothing / len(weight) * both.sum(0)
        ctx.save_for_backward(grad_hidden, (grad_weight / passes).to(weight.dtype))
        ctx.mark_non_differentiable(likelihood)
        return loss, likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_weight * grads[0], None, None, None


def symmetric_divergence(logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (2, N, V) of tokens that were seen twice, and their softmax -> the gradient in the logits (2, N, V) of the
    sum over tokens of KL(p || q) + KL(q || p), and that sum.

    With logits a and b and d = a - b it is the sum of (p - q) d, since log p - log q is d up to a constant of the
    token. The gradient in a is p (d - E_p[d]) + p - q, and the other way round in b.
    """
    (p, q), d = probabilities, logits[0] - logits[1]
    difference = p - q
    by_a = torch.addcmul(difference, p, d - (p * d).sum(-1, keepdim=True))
    by_b = torch.addcmul(difference, q, d - (q * d).sum(-1, keepdim=True)).neg_()
    return torch.stack((by_a, by_b)), (difference * d).sum()


def smoothed_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float, r_drop: float = 0.0
) -> tuple[Tensor, Tensor]:
    """hidden (B, T, E) or (N, E), weight (V, E), labels (B, T) or (N,) -> summed loss and summed NLL. With ``r_drop``
    hidden holds all rows twice, one pass after the other.
    """
    passes = 2 if r_drop else 1
    states = hidden.reshape(passes, -1, hidden.shape[-1])
    return SmoothedCrossEntropy.apply(states, weight, labels.flatten(), smoothing, r_drop)


class LossModel(nn.Module):
    """Model and loss in one forward, so that a data-parallel wrapper sees every use of the weights."""

    def __init__(self, model: Transformer, smoothing: float, r_drop: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing, self.r_drop = model, smoothing, r_drop

    def forward(
        self, source: Tensor, target_input: Tensor, target: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and summed NLL. With R-Drop each sentence is seen twice."""
        if self.r_drop:
            source, target_input = (torch.cat((t, t)) for t in (source, target_input))
            packing = packing and packing.each(lambda t: torch.cat((t, t)))
        hidden = self.model(source, target_input, packing)
        if torch.is_autocast_enabled(hidden.device.type):  # on a GPU the last norm gives float32
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        weight = self.model.output.weight
        loss, nll = smoothed_cross_entropy(hidden, weight, target, self.smoothing, self.r_drop)
        if (auxiliary := self.model.auxiliary_loss()) is not None:  # a token's; the loss is a sum over tokens
            loss = loss + auxiliary * (target != PAD).sum()
        return loss, nll
