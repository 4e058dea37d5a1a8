"""The mixture of experts against a slow one, and what its losses and its capacity promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.experts import MixtureOfExperts, balance_loss, choose, router_z_loss


def build(experts: int = 4, count: int = 2, **choices: Any) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(
        ModelConfig(d_model=16, num_heads=2, d_ff=24, experts=experts, experts_per_token=count, dropout=0.0, **choices)
    )


def slow(mixture: MixtureOfExperts, x: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Token by token. ``allowed`` (N, K): which choices have room."""
    rows = []
    for n, token in enumerate(x.flatten(0, -2)):
        p = mixture.router(token).softmax(-1)
        best = p.argsort(descending=True)[: mixture.config.experts_per_token]
        weights = p[best] if len(best) == 1 else p[best] / p[best].sum()
        parts = [weights[k] * mixture.experts[int(e)](token[None, None])[0, 0] for k, e in enumerate(best)]
        rows.append(sum(p for k, p in enumerate(parts) if allowed is None or allowed[n, k]) + 0 * token)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_is_the_weighted_sum_of_the_best_experts(count: int) -> None:
    mixture, x = build(count=count).eval(), torch.randn(2, 5, 16)
    torch.testing.assert_close(mixture(x), slow(mixture, x))


@pytest.mark.parametrize("count", [1, 2])
def test_with_room_for_all_training_computes_the_same(count: int) -> None:
    mixture, x = build(count=count, expert_capacity=4.0), torch.randn(2, 6, 16)
    torch.testing.assert_close(mixture.train()(x), mixture.eval()(x))


def test_beyond_its_capacity_an_expert_takes_nothing() -> None:
    """First choices first, then the order of the tokens; padding takes no room and gets nothing."""
    mixture, x = build(expert_capacity=0.5).train(), torch.randn(1, 32, 16)
    real = torch.ones(1, 32, dtype=torch.bool)
    real[0, 3::5] = False
    _, chosen = choose(mixture.router(x[0]), 2)
    room = [8] * 4  # 0.5 * 2 * 32 / 4
    allowed = torch.zeros(32, 2, dtype=torch.bool)
    for k in range(2):
        for n in range(32):
            expert = int(chosen[n, k])
            if real[0, n] and room[expert]:
                room[expert] -= 1
                allowed[n, k] = True
    assert not allowed[real[0]].all()
    torch.testing.assert_close(mixture(x, real), slow(mixture, x, allowed))


def test_only_the_chosen_experts_compute() -> None:
    mixture = build(experts=16, count=2).eval()
    seen: list[int] = []
    for index, expert in enumerate(mixture.experts):
        expert.register_forward_hook(lambda m, i, o, index=index: seen.append(index))
    mixture(torch.randn(1, 1, 16))
    assert len(seen) == 2
    seen.clear()
    mixture(torch.randn(1, 2, 16))
    assert len(seen) <= 4


def test_the_balance_loss_is_one_where_all_are_used_alike_and_the_number_where_one_does_all() -> None:
    even = torch.eye(4).repeat(3, 1) * 5
    assert balance_loss(even, choose(even, 1)[1]).item() == pytest.approx(1.0)
    lonely = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(8, 1)
    assert balance_loss(lonely, choose(lonely, 1)[1]).item() == pytest.approx(4.0)


def test_the_z_loss_is_the_squared_log_of_the_sum() -> None:
    logits = torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    wanted = (torch.log(torch.tensor(2.0)) ** 2 + torch.log(torch.tensor(3.0).exp() + torch.tensor(1.0).exp()) ** 2) / 2
    torch.testing.assert_close(router_z_loss(logits), wanted)


def test_the_auxiliary_loss_leaves_padding_out_and_teaches_the_gate() -> None:
    mixture, x = build(balance_loss=0.5, router_z_loss=0.25).train(), torch.randn(2, 6, 16)
    real = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    mixture(x, real)
    logits = mixture.router(x[real])
    wanted = 0.5 * balance_loss(logits, choose(logits, 2)[1]) + 0.25 * router_z_loss(logits)
    assert mixture.auxiliary is not None
    torch.testing.assert_close(mixture.auxiliary, wanted)
    mixture.auxiliary.backward()
    assert mixture.router.weight.grad is not None and mixture.router.weight.grad.abs().max() > 0


def test_balancing_spreads_the_tokens() -> None:
    """A gate that sends all to one expert learns to use the others from the balance loss alone."""
    mixture, x = build(count=1, balance_loss=1.0, router_z_loss=0.0).train(), torch.randn(1, 256, 16) + 1.0
    with torch.no_grad():
        mixture.router.weight[0].fill_(1.0)

    def largest_share() -> float:
        return torch.bincount(choose(mixture.router(x[0]), 1)[1].flatten(), minlength=4).max().item() / 256

    assert largest_share() > 0.95
    optimizer = torch.optim.Adam([mixture.router.weight], lr=0.02)
    for _ in range(200):
        mixture(x)
        assert mixture.auxiliary is not None
        mixture.auxiliary.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert largest_share() < 0.5


@pytest.mark.parametrize("count", [1, 2])
def test_every_weight_learns_although_an_expert_may_get_no_token(count: int) -> None:
    """Data-parallel training waits for a gradient of every weight."""
    mixture = build(experts=8, count=count).train()
    mixture(torch.randn(1, 2, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in mixture.parameters())
