"""R-Drop as the trainer uses it: both draws of dropout are of the same sentences, and its loss is the paper's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reference import losses

from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD
from training.loss import LossModel, smoothed_cross_entropy

SOURCE = torch.tensor([[20, 21, EOS, PAD], [22, 23, 24, EOS]])
TARGET = torch.tensor([[30, 31, EOS], [32, EOS, PAD]])
SHIFTED = torch.tensor([[BOS, 30, 31], [BOS, 32, EOS]])


def with_dropout(model: EncoderDecoder, dropout: float) -> EncoderDecoder:
    other = EncoderDecoder(dataclasses.replace(model.config, dropout=dropout))
    other.load_state_dict(model.state_dict())
    return other.train()


def test_without_dropout_it_is_the_plain_loss(tiny_model: EncoderDecoder) -> None:
    model = with_dropout(tiny_model, 0.0)
    plain = LossModel(model, 0.1)(SOURCE, SHIFTED, TARGET)
    twice = LossModel(model, 0.1, r_drop=5.0)(SOURCE, SHIFTED, TARGET)
    torch.testing.assert_close(twice, plain)


def test_loss_is_half_of_equation_4(tiny_model: EncoderDecoder) -> None:
    model = with_dropout(tiny_model, 0.3)
    torch.manual_seed(5)
    loss, nll = LossModel(model, 0.1, r_drop=2.0)(SOURCE, SHIFTED, TARGET)
    torch.manual_seed(5)
    hidden = model(SOURCE.repeat(2, 1), SHIFTED.repeat(2, 1))
    draws = [smoothed_cross_entropy(half, model.output.weight, TARGET, 0.1) for half in hidden.chunk(2)]
    first, second = (half.flatten(0, 1) for half in hidden.chunk(2))
    divergence = losses.divergence(first, second, model.output.weight, TARGET.flatten(), PAD)
    assert divergence > 0
    whole = draws[0][0] + draws[1][0] + 2.0 / 2 * divergence  # alpha / 2 * (KL + KL)
    assert loss.item() == pytest.approx(whole.item() / 2, rel=1e-5)
    assert nll.item() == pytest.approx((draws[0][1] + draws[1][1]).item() / 2, rel=1e-5)
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
