from __future__ import annotations

import pytest
import torch

from model.dropout import POOL_SIZE, Dropout


@pytest.mark.parametrize(
    ("p", "size"),
    [(0.1, 100_000), (0.9, 100_000), (0.1, POOL_SIZE // 2 + 1)],  # the last is too large for the pool
)
def test_keeps_the_right_share_and_scales_it(p: float, size: int) -> None:
    torch.manual_seed(0)
    x = torch.full((size,), 3.0)
    y = Dropout(p)(x)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.006)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 3.0 / (1 - p)))


def test_masks_differ_between_calls_and_repeat_with_the_seed() -> None:
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(7)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(7)
    assert torch.equal(dropout(x), first)
    agreement = (first == second).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.1)  # independent, not shifted copies of one another


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_shape_and_dtype_and_passes_the_masks_gradient(dtype: torch.dtype) -> None:
    x = torch.ones(3, 4, 5, dtype=dtype, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert y.shape == x.shape and y.dtype == dtype
    assert torch.equal(x.grad, y.detach())


def test_does_nothing_in_evaluation_or_at_rate_0() -> None:
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
