"""Mixture of experts: many feed-forward networks, of which each token passes through a few.

A gate scores the experts for each token; the outputs of the best ones are added, weighted by their probabilities
(Shazeer et al. 2017). Parameters grow with the number of experts, time with ``experts_per_token`` alone.
Shapes: N tokens, E d_model, X experts, K experts a token, C capacity of an expert.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.feedforward import FeedForward


class MixtureOfExperts(nn.Module):
    """In training, an expert takes at most its capacity of tokens, so that shapes stay fixed; those beyond it skip the
    layer by the residual connection (GShard, Lepikhin et al. 2021). In use nothing is dropped: a token's result does
    not depend on the others.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(config.d_model, config.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(config.experts))
        self.auxiliary: Tensor | None = None  # of the last forward in training: what is added to the loss

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, T, E), real (B, T) False at padding, which no expert sees in training -> (B, T, E)"""
        tokens = x.reshape(-1, x.shape[-1])  # (N, E)
        with torch.autocast(x.device.type, enabled=False):  # a rounded logit would be another choice
            logits = functional.linear(tokens.to(self.router.weight.dtype), self.router.weight).float()  # (N, X)
        gates, chosen = choose(logits, self.config.experts_per_token)  # (N, K) each
        if self.training:
            kept = None if real is None else real.reshape(-1)
            self.auxiliary = self._auxiliary_loss(logits, chosen, kept)
            mixed = self._with_capacity(tokens, gates, chosen, kept)
        else:
            mixed = self._all(tokens, gates, chosen)
        return mixed.view(x.shape)

    def _all(self, tokens: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """Each expert computes the tokens that chose it; an expert that none chose computes nothing."""
        mixed = torch.zeros_like(tokens)
        for index in chosen.unique().tolist():
            rows, rank = (chosen == index).nonzero(as_tuple=True)
            mixed.index_add_(0, rows, self.experts[index](tokens[rows]) * gates[rows, rank, None].to(tokens.dtype))
        return mixed

    def _with_capacity(self, tokens: Tensor, gates: Tensor, chosen: Tensor, real: Tensor | None) -> Tensor:
        """First choices come before second ones, then who stands first; X buffers of C rows whatever was chosen."""
        count, experts = len(tokens), self.config.experts
        share = self.config.expert_capacity * chosen.shape[1] * count / experts
        capacity = math.ceil(share / 4) * 4
        wanted = functional.one_hot(chosen.T.reshape(-1), experts)  # (K N, X)
        if real is not None:
            wanted = wanted * real.repeat(chosen.shape[1])[:, None]
        place = (wanted.cumsum(0) * wanted).sum(1) - 1  # (K N,) in the queue of its expert; -1: padding
        fits = (place >= 0) & (place < capacity)
        source = torch.arange(count, device=tokens.device).repeat(chosen.shape[1])[fits]  # which token
        slot = (chosen.T.reshape(-1) * capacity + place)[fits]  # where in the buffers
        buffers = tokens.new_zeros(experts * capacity, tokens.shape[1]).index_copy(0, slot, tokens[source])
        done = [expert(buffer) for expert, buffer in zip(self.experts, buffers.chunk(experts), strict=True)]
        found = torch.cat(done)[slot] * gates.T.reshape(-1)[fits, None].to(tokens.dtype)
        return found.new_zeros(tokens.shape).index_add(0, source, found)

    def _auxiliary_loss(self, logits: Tensor, chosen: Tensor, real: Tensor | None) -> Tensor:
        if real is not None:
            logits, chosen = logits[real], chosen[real]
        config = self.config
        return config.balance_loss * balance_loss(logits, chosen) + config.router_z_loss * router_z_loss(logits)


def feed_forward(config: ModelConfig) -> nn.Module:
    """The feed-forward part of a layer: one network or a mixture of several."""
    return FeedForward(config) if config.experts == 1 else MixtureOfExperts(config)


def choose(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(N, X) -> gates and ids of the ``count`` best experts, (N, K) each, best first.

    Gates of several sum to 1 (Shazeer 2017: softmax over the best); that of one is its probability among all, without
    which the gate would get no gradient (Switch Transformer, Fedus et al. 2021).
    """
    gates, chosen = logits.softmax(-1).topk(count, dim=-1)
    return (gates if count == 1 else gates / gates.sum(-1, keepdim=True)), chosen


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """X * sum over experts of (share of the choices) * (mean probability): 1 where all are used alike, X where one
    does all (Fedus et al. 2021, equation 4). logits (N, X), chosen (N, K).
    """
    experts = logits.shape[1]
    shares = functional.one_hot(chosen, experts).float().mean((0, 1))
    return experts * (shares * logits.softmax(-1).mean(0)).sum()


def router_z_loss(logits: Tensor) -> Tensor:
    """Mean of (log sum exp of a token's logits) squared (ST-MoE, Zoph et al. 2022, equation 5). logits (N, X)."""
    return logits.logsumexp(-1).square().mean()
