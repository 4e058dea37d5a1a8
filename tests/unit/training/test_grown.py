from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.transformer import build
from training.state import grown

SMALL = ModelConfig(
    vocab_size=50, d_model=16, num_heads=2, d_ff=24, encoder_layers=2, decoder_layers=1, dropout=0.0, max_length=32
)


@pytest.mark.parametrize("variant", [{}, {"activation": "swiglu"}, {"experts": 3}])
@pytest.mark.parametrize("growth", [{"d_ff": 72}, {"encoder_layers": 3, "decoder_layers": 2}])
def test_a_grown_model_computes_the_same_and_its_new_weights_learn(
    variant: dict[str, Any], growth: dict[str, Any]
) -> None:
    small = build(replace(SMALL, **variant)).eval()
    large = build(replace(SMALL, **variant, **growth)).eval()
    source, target = torch.randint(4, 50, (3, 7)), torch.randint(4, 50, (3, 5))
    assert not torch.allclose(large(source, target), small(source, target))
    large.load_state_dict(grown(small.state_dict(), large))
    torch.testing.assert_close(large(source, target), small(source, target))
    # the first step teaches the outputs of what is new; from then on the rest learns as well
    optimizer = torch.optim.SGD(large.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        large(source, target).square().sum().backward()
        optimizer.step()
    before = small.state_dict()
    for name, parameter in large.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        if name not in before:
            assert name.endswith("bias") or gradient.abs().sum() > 0, name  # biases of keys have none
        elif name.endswith("inner.weight") and "d_ff" in growth:
            assert gradient[len(before[name]) :].abs().sum() > 0, name


def test_what_is_smaller_stays_as_it_is_to_be_refused() -> None:
    large, small = build(replace(SMALL, d_ff=72, decoder_layers=2)), build(SMALL)
    with pytest.raises(RuntimeError, match="size mismatch"):
        small.load_state_dict(grown(large.state_dict(), small))
