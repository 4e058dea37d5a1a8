from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import layers
from torch import nn

from model.config import ModelConfig
from model.embedding import Embedding, Rotary, sinusoidal_table

SMALL = {"vocab_size": 20, "d_model": 8, "num_heads": 2, "d_ff": 16, "max_length": 600, "dropout": 0.0}


def test_sinusoidal_table_equals_the_formula() -> None:
    table = sinusoidal_table(600, 8)
    wanted = [[layers.sinusoid(p, i, 8) for i in range(8)] for p in range(600)]
    np.testing.assert_allclose(table.numpy(), np.array(wanted), atol=5e-5)  # float32 angles up to 600


@given(st.integers(0, 500), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rotary_equals_complex_multiplication(position: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 2, 3, 6)
    turned = Rotary(600, 6)(x, torch.tensor([position]))
    for head in range(2):
        for t in range(3):
            wanted = layers.rotate(x[0, head, t].numpy(), position + t)
            np.testing.assert_allclose(turned[0, head, t].numpy(), wanted, atol=2e-4)


@given(st.integers(0, 250), st.integers(0, 250), st.integers(0, 250))
@settings(max_examples=30, deadline=None)
def test_rotary_products_depend_on_the_distance_only(first: int, second: int, shift: int) -> None:
    torch.manual_seed(first)
    rotary, query, key = Rotary(600, 16), torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(i: int, j: int) -> float:
        return float((rotary(query, torch.tensor([i])) * rotary(key, torch.tensor([j]))).sum())

    assert product(first, second) == pytest.approx(product(first + shift, second + shift), abs=2e-3)


def test_rotary_keeps_lengths_and_leaves_position_0_alone() -> None:
    x = torch.randn(2, 2, 5, 8)
    turned = Rotary(10, 8)(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_rows_may_start_anywhere(positions: str) -> None:
    """A token at position p gets the same vector whether it came with the whole sequence or alone."""
    torch.manual_seed(0)
    config = ModelConfig(positions=positions, **SMALL)
    embedding = Embedding(config, nn.Embedding(20, 8))
    tokens = torch.randint(20, (3, 9))
    whole = embedding(tokens)
    start = torch.tensor([0, 4, 8])
    alone = embedding(tokens.gather(1, start[:, None]), start)
    torch.testing.assert_close(alone[:, 0], whole[torch.arange(3), start])
    table = embedding.positions
    wanted = embedding.tokens(tokens) * 8**0.5 + (0 if table is None else table[:9])
    torch.testing.assert_close(whole, wanted)
    assert isinstance(table, nn.Parameter) == (positions == "learned")
