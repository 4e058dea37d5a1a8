from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.attention import causal_mask
from model.config import ModelConfig
from model.transformer import DecoderLayer, DecoderState, EncoderDecoder, EncoderLayer, Packing
from model.vocabulary import BOS, EOS, PAD

VARIANTS = list(
    itertools.product(["sinusoidal", "learned", "rotary"], ["pre", "post"], ["relu", "gelu", "swiglu"], [True, False])
)
variants = pytest.mark.parametrize(("positions", "norm", "activation", "tied"), VARIANTS)
WORD = 4  # the first id that is no special token


def config(**choices: Any) -> ModelConfig:
    small = {"vocab_size": 30, "d_model": 16, "num_heads": 2, "d_ff": 24, "encoder_layers": 2, "decoder_layers": 2}
    return ModelConfig(**(small | {"max_length": 64, "dropout": 0.1} | choices))


def build(positions: str = "rotary", norm: str = "pre", activation: str = "relu", tied: bool = True) -> EncoderDecoder:
    """Random weights, norms and biases too, so that nothing is hidden by a zero or a one."""
    torch.manual_seed(0)
    model = EncoderDecoder(
        config(positions=positions, norm_position=norm, activation=activation, tie_embeddings=tied)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.requires_grad_(False)


def padded(*lengths: int, seed: int = 0) -> Tensor:
    """Random sequences of these lengths, each ending with EOS, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.cat((torch.randint(WORD, 30, (n - 1,), generator=generator), torch.tensor([EOS]))) for n in lengths]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


def step_logits(model: EncoderDecoder, state: DecoderState, tokens: Tensor) -> Tensor:
    """Feed tokens (R, T) one by one -> logits (R, T, V)."""
    return torch.stack([model.decode_step(tokens[:, t], state) for t in range(tokens.shape[1])], dim=1)


# The layers against torch.nn ---------------------------------------------------------------------------------------


def copy_parameters(ours: EncoderLayer | DecoderLayer, theirs: Any, cross: bool) -> None:
    pairs = [
        (theirs.self_attn.in_proj_weight, ours.self_attention.query_key_value.weight),
        (theirs.self_attn.in_proj_bias, ours.self_attention.query_key_value.bias),
        (theirs.self_attn.out_proj.weight, ours.self_attention.output.weight),
        (theirs.self_attn.out_proj.bias, ours.self_attention.output.bias),
        (theirs.linear1.weight, ours.feed_forward.inner.weight),
        (theirs.linear1.bias, ours.feed_forward.inner.bias),
        (theirs.linear2.weight, ours.feed_forward.output.weight),
        (theirs.linear2.bias, ours.feed_forward.output.bias),
    ]
    for i, residual in enumerate(ours.residuals):
        norm = getattr(theirs, f"norm{i + 1}")
        pairs += [(norm.weight, residual.norm.weight), (norm.bias, residual.norm.bias)]
    if cross:
        attention = ours.cross_attention
        pairs += [
            (theirs.multihead_attn.in_proj_weight, torch.cat((attention.query.weight, attention.key_value.weight))),
            (theirs.multihead_attn.in_proj_bias, torch.cat((attention.query.bias, attention.key_value.bias))),
            (theirs.multihead_attn.out_proj.weight, attention.output.weight),
            (theirs.multihead_attn.out_proj.bias, attention.output.bias),
        ]
    assert sum(target.numel() for target, _ in pairs) == sum(p.numel() for p in theirs.parameters())
    with torch.no_grad():
        for target, parameter in pairs:
            target.copy_(parameter)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("training", [False, True])
def test_encoder_layer_equals_torch_nn(norm: str, activation: str, training: bool) -> None:
    torch.manual_seed(0)
    c = config(norm_position=norm, activation=activation, positions="learned", dropout=0.0)
    theirs = nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    ).train(training)
    ours = EncoderLayer(c, rotary=None).train(training)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    copy_parameters(ours, theirs, cross=False)
    x, mask = torch.randn(3, 7, 16), torch.arange(7) < torch.tensor([[7], [4], [1]])
    wanted = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, mask[:, None, None])[mask], wanted[mask], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_decoder_layer_equals_torch_nn(norm: str, activation: str) -> None:
    torch.manual_seed(0)
    c = config(norm_position=norm, activation=activation, positions="learned", dropout=0.0)
    ours = DecoderLayer(c, rotary=None)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    theirs = nn.TransformerDecoderLayer(
        16, 2, 24, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    )
    copy_parameters(ours, theirs, cross=True)
    x, memory = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    memory_mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    wanted = theirs(x, memory, tgt_mask=~causal_mask(5), memory_key_padding_mask=~memory_mask)
    found = ours(x, causal_mask(5), memory, memory_mask[:, None, None])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


# Masks and padding -------------------------------------------------------------------------------------------------


@variants
def test_a_future_token_never_changes_the_past(positions: str, norm: str, activation: str, tied: bool) -> None:
    model = build(positions, norm, activation, tied)
    source, target = padded(6, 4), padded(9, 9, seed=1)
    before = model(source, target)
    changed = target.clone()
    changed[:, 5:] = (changed[:, 5:] - WORD + 7) % 26 + WORD
    after = model(source, changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-3  # and the present does change


@variants
def test_padding_never_changes_a_result(positions: str, norm: str, activation: str, tied: bool) -> None:
    model = build(positions, norm, activation, tied)
    sources, targets = padded(3, 11, 7), padded(8, 2, 5, seed=1)
    together = model.score(sources, targets)
    for row in range(3):
        source, target = sources[row][sources[row] != PAD], targets[row][targets[row] != PAD]
        alone = model.score(source[None], target[None])[0]
        torch.testing.assert_close(together[row, : len(target)], alone, atol=1e-5, rtol=1e-4)
        assert not together[row, len(target) :].any()


@variants
def test_packed_pairs_are_blind_to_each_other(positions: str, norm: str, activation: str, tied: bool) -> None:
    """Rows of (first, second pair) and (third, padding) give each pair the hidden states that it has alone."""
    model = build(positions, norm, activation, tied)
    sizes = (4, 6), (7, 3), (5, 9)
    pairs = [(padded(s, seed=i)[0], padded(t, seed=i + 9)[0]) for i, (s, t) in enumerate(sizes)]
    rows = pairs[:2], pairs[2:]
    ids, numbers, places = (
        [
            pad_sequence([torch.cat([make(n, pair[side]) for n, pair in row]) for row in map(enumerate, rows)], True)
            for side in (0, 1)
        ]
        for make in (lambda n, x: x, lambda n, x: torch.full_like(x, n + 1), lambda n, x: torch.arange(len(x)))
    )
    hidden = model(*ids, Packing(numbers[0], places[0], numbers[1], places[1]))
    for row, number, (source, target) in ((0, 1, pairs[0]), (0, 2, pairs[1]), (1, 1, pairs[2])):
        alone = model(source[None], target[None])[0]
        torch.testing.assert_close(hidden[row][numbers[1][row] == number], alone, atol=1e-5, rtol=1e-4)


def test_score_is_the_log_softmax_of_the_full_forward() -> None:
    model = build()
    source, target = padded(5), padded(4, seed=1)
    logits = model.output(model(source, torch.tensor([[BOS, *target[0, :-1].tolist()]])))[0]
    wanted = torch.stack([logits[t].log_softmax(-1)[token] for t, token in enumerate(target[0])])
    torch.testing.assert_close(model.score(source, target)[0], wanted)


def test_order_matters_to_the_encoder() -> None:
    for positions in ("sinusoidal", "learned", "rotary"):
        memory, _ = build(positions).encode(torch.tensor([[5, 6, 7, EOS], [6, 5, 7, EOS]]))
        assert (memory[0, 0] - memory[1, 1]).abs().max() > 1e-3, positions


# Cached decoding ---------------------------------------------------------------------------------------------------


@variants
def test_a_cached_step_equals_the_full_forward(positions: str, norm: str, activation: str, tied: bool) -> None:
    model = build(positions, norm, activation, tied)
    source, beam = padded(3, 8, 5), 2
    tokens = torch.cat((torch.full((6, 1), BOS), padded(*[40] * 6, seed=2)), dim=1)  # past the first cache's size
    full = model.output(model(source.repeat_interleave(beam, 0), tokens))
    cached = step_logits(model, model.start(*model.encode(source), beam), tokens)
    torch.testing.assert_close(cached, full, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_rows_at_different_positions(positions: str) -> None:
    """A batch that joins another after some steps, and rows that are dropped and reordered, give what each gives
    alone.
    """
    model, beam = build(positions), 2
    first, second = padded(4, 9), padded(12, 3, 6, seed=3)
    tokens_first = torch.cat((torch.full((4, 1), BOS), padded(*[30] * 4, seed=4)), 1)
    tokens_second = torch.cat((torch.full((6, 1), BOS), padded(*[30] * 6, seed=5)), 1)
    full_first = model.output(model(first.repeat_interleave(beam, 0), tokens_first))
    full_second = model.output(model(second.repeat_interleave(beam, 0), tokens_second))

    state = model.start(*model.encode(first), beam)
    step_logits(model, state, tokens_first[:, :18])
    fresh = model.start(*model.encode(second), beam)
    step_logits(model, fresh, tokens_second[:, :2])
    state = DecoderState.join(state, fresh)
    assert state.position.tolist() == [18] * 4 + [2] * 6
    for t in range(3):
        logits = model.decode_step(torch.cat((tokens_first[:, 18 + t], tokens_second[:, 2 + t])), state)
        wanted = torch.cat((full_first[:, 18 + t], full_second[:, 2 + t]))
        torch.testing.assert_close(logits, wanted, atol=2e-5, rtol=1e-4)

    # Sentences 1, 4 and 3 stay, in this order; the rows of the last two change places
    rows, sentences = torch.tensor([2, 3, 9, 8, 7, 6]), torch.tensor([1, 4, 3])
    state = state.select(rows, sentences)
    assert state.source_mask.sum(1).tolist() == [9, 6, 3]
    assert state.source_mask.shape[1] == 9  # no padding beyond the longest that is left
    next_tokens = torch.cat((tokens_first[:, 21], tokens_second[:, 5]))[rows]
    wanted = torch.cat((full_first[:, 21], full_second[:, 5]))[rows]
    torch.testing.assert_close(model.decode_step(next_tokens, state), wanted, atol=2e-5, rtol=1e-4)

    state = state.select(torch.tensor([1, 1, 2, 3, 5, 5]))  # a beam step: rows copied within their sentence
    next_tokens = torch.cat((tokens_first[:, 22], tokens_second[:, 6]))[rows][[1, 1, 2, 3, 5, 5]]
    wanted = torch.cat((full_first[:, 22], full_second[:, 6]))[rows][[1, 1, 2, 3, 5, 5]]
    torch.testing.assert_close(model.decode_step(next_tokens, state), wanted, atol=2e-5, rtol=1e-4)


def test_selecting_nothing_and_joining_it_again() -> None:
    model = build()
    state = model.start(*model.encode(padded(4)), 2)
    empty = state.select(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
    other = model.start(*model.encode(padded(6, seed=1)), 2)
    tokens = torch.full((2,), BOS)
    wanted = model.decode_step(tokens, model.start(*model.encode(padded(6, seed=1)), 2))
    torch.testing.assert_close(model.decode_step(tokens, DecoderState.join(empty, other)), wanted)


# The rest ----------------------------------------------------------------------------------------------------------


def test_tied_embeddings_are_one_matrix() -> None:
    tied, untied = build(tied=True), build(tied=False)
    assert tied.output.weight is tied.source_embedding.tokens.weight is tied.target_embedding.tokens.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 2 * 30 * 16


def test_swiglu_is_about_as_large_as_relu() -> None:
    sizes = [
        sum(p.numel() for p in EncoderLayer(config(activation=a, d_ff=1024), None).feed_forward.parameters())
        for a in ("relu", "swiglu")
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


def test_encoder_and_decoder_depths_are_separate() -> None:
    model = EncoderDecoder(config(encoder_layers=3, decoder_layers=1))
    assert (len(model.encoder_layers), len(model.decoder_layers)) == (3, 1)


def test_dropout_acts_in_training_only() -> None:
    model = build()
    source, target = padded(5), padded(5, seed=1)
    assert torch.equal(model(source, target), model(source, target))
    model.train()
    assert not torch.equal(model(source, target), model(source, target))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    model, source, target = build(), padded(5, 3), padded(6, 4, seed=1)
    wanted = model.score(source, target)
    low = model.to(dtype)
    tolerance = 0.2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(low.score(source, target), wanted, atol=tolerance, rtol=tolerance)
    state = low.start(*low.encode(source), 1)
    assert state.caches[0].keys.dtype == dtype
    assert low.decode_step(torch.tensor([BOS, BOS]), state).dtype == dtype


def test_a_fresh_model_is_not_sure_of_anything() -> None:
    """A guess costs log V = 6.9; one matrix for input and output adds a little. Larger weights: hundreds."""
    torch.manual_seed(0)
    model = EncoderDecoder(ModelConfig(vocab_size=1000, dropout=0.0)).eval()
    target = torch.randint(EOS + 1, 1000, (4, 20))
    assert -model.score(torch.randint(EOS + 1, 1000, (4, 20)), target).mean().item() < 1.7 * math.log(1000)
