from __future__ import annotations

import pytest
import torch

from model.config import ModelConfig
from model.dropout import POOL_SIZE, Dropout
from model.transformer import EncoderDecoder


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


def test_dropout_falls_on_every_place_that_the_configuration_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings, attention weights, inner feed-forward, each residual branch; by the shapes that it sees."""
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(Dropout, "forward", lambda self, x: (seen.append(tuple(x.shape)), x)[1])
    config = ModelConfig(vocab_size=30, d_model=16, num_heads=2, d_ff=24, encoder_layers=1, decoder_layers=1)
    EncoderDecoder(config).train()(torch.full((3, 7), 5), torch.full((3, 5), 5))
    wide, written = (3, 7, 16), (3, 5, 16)
    assert sorted(seen) == sorted([
        wide, (3, 2, 7, 7), wide, (3, 7, 24), wide,  # embedding, weights, branch, inner, branch
        written, (3, 2, 5, 5), written, (3, 2, 5, 7), written, (3, 5, 24), written,
    ])  # fmt: skip
