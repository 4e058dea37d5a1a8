from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from model.config import ModelConfig, SearchConfig, from_dict
from model.errors import UserError


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"d_model": -1}, "d_model"),
        ({"encoder_layers": 0}, "encoder_layers"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"max_length": 0}, "max_length"),
        ({"d_model": 10, "num_heads": 4}, "multiple of num_heads"),
        ({"architecture": "encoder"}, "encoder-decoder, decoder-only"),
        ({"architecture": "decoder-only"}, "encoder_layers = 6 must be 0"),
        ({"norm": "batch"}, "layer, rms"),
        ({"experts": 0}, "experts"),
        ({"experts": 4, "experts_per_token": 5}, r"1\.\.experts = 4"),
        ({"expert_capacity": 0.0}, "expert_capacity"),
        ({"balance_loss": -0.1}, "balance_loss"),
        ({"router_z_loss": float("nan")}, "router_z_loss"),
        ({"separator": 8000}, "separator = 8000"),
        ({"norm_position": "middle"}, "pre, post"),
        ({"positions": "none"}, "sinusoidal, learned, rotary"),
        ({"activation": "tanh"}, "relu, gelu, swiglu"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
        ({"d_model": 12, "num_heads": 4, "positions": "rotary"}, "even width, not 3"),
        ({"d_model": 9, "num_heads": 3, "positions": "sinusoidal"}, "even width, not 9"),
    ],
)
def test_an_impossible_model_is_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ModelConfig(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"beam_size": 0}, "beam_size"),
        ({"beam_size": 65}, "1..64"),
        ({"nbest": 0}, "nbest"),
        ({"beam_size": 2, "nbest": 3}, "beam_size of at least 3"),
        ({"length_penalty": -0.1}, "length_penalty"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"max_length_ratio": 0.0}, "max_length_ratio"),
        ({"max_length_offset": -1}, "max_length_offset"),
        ({"sampling": True, "beam_size": 1, "temperature": 0.0}, "temperature"),
        ({"sampling": True, "beam_size": 1, "temperature": 1e-38}, "temperature"),
        ({"sampling": True, "beam_size": 1, "seed": -1}, r"seed = -1 must lie in 0\.\.2\^63 - 1"),
        ({"sampling": True, "beam_size": 1, "seed": 2**63}, "seed = 9223372036854775808 must"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 2**31}, "top_k"),
        ({"sampling": True, "beam_size": 5}, "beam_size must be 1"),
    ],
)
def test_an_impossible_search_is_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SearchConfig(**values)


def test_odd_widths_are_fine_with_learned_positions() -> None:
    assert ModelConfig(d_model=9, num_heads=3, positions="learned").head_size == 3


def test_sampling_may_return_more_than_its_beam() -> None:
    assert SearchConfig(sampling=True, beam_size=1, nbest=10).nbest == 10


@pytest.mark.parametrize("config", [ModelConfig(d_model=64, dropout=0), SearchConfig(nbest=3)])
def test_from_dict_round_trip(config: Any) -> None:
    assert from_dict(type(config), dataclasses.asdict(config), "here") == config


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"recipe\.toml \[model\]: unknown key 'dmodel'; did you mean 'd_model'\?"):
        from_dict(ModelConfig, {"dmodel": 3}, "recipe.toml [model]")
    with pytest.raises(UserError, match="known keys: architecture, vocab_size"):
        from_dict(ModelConfig, {"zzz": 3}, "recipe.toml [model]")


@pytest.mark.parametrize(
    "values", [{"d_model": "256"}, {"d_model": 256.0}, {"d_model": True}, {"tie_embeddings": 1}, {"positions": 3}]
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_key(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(values))):
        from_dict(ModelConfig, values, "here")
