from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import layers
from torch.nn import functional

from model.attention import attention, causal_mask, merge_heads, split_heads


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99)
)
@settings(max_examples=20, deadline=None)
def test_equals_the_librarys_and_the_naive_one(b: int, h: int, t: int, s: int, d: int, seed: int) -> None:
    torch.manual_seed(seed)
    query, key, value = torch.randn(b, h, t, d), torch.randn(b, h, s, d), torch.randn(b, h, s, d)
    mask = torch.rand(b, 1, t, s) < 0.7
    mask[..., 0] = True  # every query sees something
    mixed, weights = attention(query, key, value, mask)
    torch.testing.assert_close(mixed, functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    for i in range(b):
        for j in range(h):
            naive = layers.attention(query[i, j].numpy(), key[i, j].numpy(), value[i, j].numpy(), mask[i, 0].numpy())
            np.testing.assert_allclose(mixed[i, j].numpy(), naive, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(b, h, t))
    assert not weights.masked_select(~mask.expand_as(weights)).any()


def test_without_a_mask_every_key_is_seen() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4)
    torch.testing.assert_close(
        attention(query, key, value)[0], functional.scaled_dot_product_attention(query, key, value)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_query_that_sees_nothing_is_no_nan(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(1, 1, 2, 4, dtype=dtype) for _ in range(3))
    mixed, _ = attention(query, key, value, torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    torch.testing.assert_close(mixed, value.mean(2, keepdim=True).expand_as(mixed), atol=2e-2, rtol=2e-2)


def test_causal_mask() -> None:
    mask = causal_mask(5)
    assert all(mask[t, s].item() == (s <= t) for t in range(5) for s in range(5))


def test_heads_are_split_and_merged_without_loss() -> None:
    x = torch.randn(2, 3, 12)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 3)
    assert torch.equal(heads[1, 2, 0], x[1, 0, 6:9])
    assert torch.equal(merge_heads(heads), x)
