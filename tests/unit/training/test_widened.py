from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.config import ModelConfig
from model.transformer import build
from training.trainer import widened

NARROW = ModelConfig(
    vocab_size=50, d_model=16, num_heads=2, d_ff=24, encoder_layers=2, decoder_layers=1, dropout=0.0, max_length=32
)


@pytest.mark.parametrize("more", [{}, {"activation": "swiglu"}, {"experts": 3}])
def test_a_widened_model_computes_the_same_and_uses_the_new_units(more: dict[str, object]) -> None:
    narrow = build(replace(NARROW, **more)).eval()
    wide = build(replace(NARROW, d_ff=72, **more)).eval()
    source, target = torch.randint(4, 50, (3, 7)), torch.randint(4, 50, (3, 5))
    assert not torch.allclose(wide(source, target), narrow(source, target))
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    torch.testing.assert_close(wide(source, target), narrow(source, target))
    # one step teaches the new units' outputs; from then on the units themselves learn
    optimizer = torch.optim.SGD(wide.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        wide(source, target).square().sum().backward()
        optimizer.step()
    inner = "experts.0.inner" if "experts" in more else "inner"
    gradient = wide.get_parameter(f"decoder_layers.0.feed_forward.{inner}.weight").grad
    assert gradient is not None and gradient[24:].abs().sum() > 0


def test_what_is_narrower_stays_as_it_is_to_be_refused() -> None:
    wide, narrow = build(replace(NARROW, d_ff=72)), build(NARROW)
    with pytest.raises(RuntimeError, match="size mismatch"):
        narrow.load_state_dict(widened(wide.state_dict(), narrow))
