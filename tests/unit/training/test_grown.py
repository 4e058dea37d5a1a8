from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.config import ModelConfig
from model.errors import UserError
from model.transformer import Transformer, build
from training import state
from training.state import grown

SMALL = ModelConfig(
    vocab_size=50, d_model=16, num_heads=2, d_ff=24, encoder_layers=2, decoder_layers=1, dropout=0.0, max_length=32
)


def saved(model: Transformer) -> Checkpoint:
    """What a checkpoint of the model would hold; no vocabulary."""
    return Checkpoint(model.config, model.state_dict(), None, "run", "", "")  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [{}, {"activation": "swiglu"}, {"experts": 3}])
@pytest.mark.parametrize("growth", [{"d_ff": 72}, {"encoder_layers": 3, "decoder_layers": 2}])
def test_a_grown_model_computes_the_same_and_its_new_weights_learn(
    variant: dict[str, Any], growth: dict[str, Any]
) -> None:
    small = build(replace(SMALL, **variant)).eval()
    large = build(replace(SMALL, **variant, **growth)).eval()
    source, target = torch.randint(4, 50, (3, 7)), torch.randint(4, 50, (3, 5))
    assert not torch.allclose(large(source, target), small(source, target))
    large.load_state_dict(grown(saved(small), large))
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


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"experts": 3},
        {"norm": "rms", "activation": "swiglu", "positions": "learned"},
        {"tie_embeddings": False, "positions": "rotary"},
        {"architecture": "decoder-only", "encoder_layers": 0, "decoder_layers": 2},
    ],
)
def test_a_wider_model_computes_the_same_until_its_new_dimensions_are_written(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = build(replace(SMALL, **variant)).eval()
    large = build(replace(SMALL, **variant, d_model=40, num_heads=5, d_ff=30)).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, parameter in small.named_parameters():  # what comes into the stream first has no mean either
            if "embedding" in name:
                parameter -= parameter.mean(-1, keepdim=True)
    source, target = torch.randint(4, 50, (3, 7)), torch.randint(4, 50, (3, 5))
    wanted = small.output(small(source, target))
    large.load_state_dict(grown(saved(small), large))
    assert 0.001 < (large.output(large(source, target)) - wanted).std() < 0.5 * wanted.std()
    monkeypatch.setattr(state, "NEW_DIMENSIONS", 0.0)
    large.load_state_dict(grown(saved(small), large))
    torch.testing.assert_close(large.output(large(source, target)), wanted, rtol=1e-3, atol=1e-3)


def test_what_is_smaller_stays_as_it_is_to_be_refused() -> None:
    large, small = build(replace(SMALL, d_ff=72, decoder_layers=2)), build(SMALL)
    with pytest.raises(RuntimeError, match="size mismatch"):
        small.load_state_dict(grown(saved(large), small))


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"architecture": "decoder-only", "encoder_layers": 0}, "architecture is encoder-decoder"),
        ({}, {"d_model": 32}, "head_size is 8, not 16"),
        ({}, {"num_heads": 4}, "head_size is 8, not 4"),
        ({"norm_position": "post"}, {"d_model": 24, "num_heads": 3}, "takes pre-norm"),
        ({"positions": "sinusoidal"}, {"d_model": 24, "num_heads": 3}, "not sinusoidal"),
        ({"positions": "learned"}, {"d_model": 24, "num_heads": 3, "positions": "rotary"}, "positions is learned"),
    ],
)
def test_what_cannot_grow_is_named(before: dict[str, Any], after: dict[str, Any], named: str) -> None:
    small = build(replace(SMALL, **before))
    with pytest.raises(UserError, match=named):
        grown(saved(small), build(replace(SMALL, **(before | after))))
