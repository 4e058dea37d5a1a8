"""The 8-bit kernels against PyTorch with the same weights. Skipped where they cannot run."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model.config import ModelConfig, SearchConfig
from model.decoder import Decoder, TorchDecoder
from model.int8 import CPU_FLAGS, Int8Model, library, unsupported
from model.machine import cpu_flags
from model.search import SearchPool, SearchResult
from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD, UNK

FORBIDDEN = (PAD, UNK, BOS, 7)


def build(positions: str = "rotary", vocab_size: int = 150, tie: bool = True, heads: int = 2) -> EncoderDecoder:
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=vocab_size,
        d_model=128,
        num_heads=heads,
        d_ff=192,
        encoder_layers=2,
        decoder_layers=2,
        positions=positions,
        tie_embeddings=tie,
        max_length=200,
    )
    model = EncoderDecoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.03)
    return model


needs_kernels = pytest.mark.skipif(bool(unsupported(build())), reason=unsupported(build()) or "-")


@pytest.mark.skipif(not cpu_flags() >= CPU_FLAGS, reason="this CPU has no AVX-512 VNNI")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which builds the kernels")
def test_where_the_kernels_can_be_built_they_are() -> None:
    """Else all that follows would be skipped, and nobody would notice."""
    assert library() is not None


def sources(count: int, longest: int = 40, vocab_size: int = 150) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[*rng.integers(EOS + 1, vocab_size, size=rng.integers(1, longest)).tolist(), EOS] for _ in range(count)]


def run(model: EncoderDecoder, decoder: Decoder, batch: list[list[int]], config: SearchConfig) -> list[SearchResult]:
    pool = SearchPool(model, config, FORBIDDEN, decoder)
    order = {ticket: i for i, ticket in enumerate(pool.add(batch))}
    results: dict[int, SearchResult] = {}
    while len(pool):
        results |= {order[ticket]: found[0] for ticket, found in pool.step()}
    return [results[i] for i in range(len(batch))]


@needs_kernels
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "learned"])
@pytest.mark.parametrize(("tie", "heads"), [(True, 4), (False, 2)])
def test_steps_with_forced_tokens_are_near_to_pytorch(positions: str, tie: bool, heads: int) -> None:
    """Rows part and meet again: each step's choice of parents is random."""
    model, beam, rng = build(positions, tie=tie, heads=heads), 3, np.random.default_rng(2)
    batch = sources(30, longest=70)
    exact, quick = TorchDecoder(model, beam, FORBIDDEN), Int8Model(model, FORBIDDEN).decoder(beam)
    for decoder in (exact, quick):
        decoder.add(batch, [30] * len(batch))
    tokens = np.full((len(batch), beam), BOS)
    for step in range(25):
        wanted, likeliest = exact.step(tokens, 12)
        found, ids = quick.step(tokens, 150)
        near = np.take_along_axis(found, np.argsort(ids, axis=2), 2)  # by token; the forbidden ones are missing
        values = np.full((*tokens.shape, 150), -np.inf)
        np.put_along_axis(values, ids, found, 2)
        assert near.shape == values.shape
        assert np.abs(np.take_along_axis(values, likeliest, 2) - wanted).max() < 0.15
        assert np.abs(np.take_along_axis(values, likeliest, 2) - wanted).mean() < 0.02
        parents = rng.integers(0, beam, size=tokens.shape)
        tokens = rng.integers(EOS + 1, 150, size=tokens.shape)
        exact.choose(parents)
        quick.choose(parents)
        if step == 10:
            kept = np.arange(len(batch))[1::2]
            exact.keep(kept)
            quick.keep(kept)
            tokens = tokens[kept]


@needs_kernels
@pytest.mark.parametrize("vocab_size", [64, 70, 150, 200])
def test_candidates_are_sorted_and_probabilities_sum_to_one(vocab_size: int) -> None:
    model = build(vocab_size=vocab_size)
    decoder = Int8Model(model, ()).decoder(2)
    decoder.add(sources(5, vocab_size=vocab_size), [9] * 5)
    values, ids = decoder.step(np.array([[BOS, -1]] * 5), 1000)
    assert values.shape == (5, 2, vocab_size)
    assert (np.diff(values[:, 0], axis=1) <= 0).all()
    assert np.exp(values[:, 0].astype(np.float64)).sum(1) == pytest.approx(np.ones(5), abs=1e-4)
    assert all(sorted(row) == list(range(vocab_size)) for row in ids[:, 0].tolist())
    assert (values[:, 1] == -np.inf).all()  # a row that does not matter


@needs_kernels
def test_forbidden_tokens_keep_their_probability_but_are_no_candidates() -> None:
    model, batch = build(), sources(4)
    free, banned = Int8Model(model, ()).decoder(1), Int8Model(model, FORBIDDEN).decoder(1)
    for decoder in (free, banned):
        decoder.add(batch, [9] * 4)
    values, ids = free.step(np.full((4, 1), BOS), 150)
    other, found = banned.step(np.full((4, 1), BOS), 146)
    keep = ~np.isin(ids, FORBIDDEN)
    assert other.ravel().tolist() == values[keep].tolist()
    assert found.ravel().tolist() == ids[keep].tolist()


@needs_kernels
@pytest.mark.parametrize("vocab_size", [70, 150])
def test_wanted_tokens_have_the_same_probability_as_among_the_likeliest(vocab_size: int) -> None:
    """Bit by bit, also those that are forbidden; PyTorch answers alike."""
    model, batch, rng = build(vocab_size=vocab_size), sources(5, vocab_size=vocab_size), np.random.default_rng(0)
    wanted = rng.integers(-1, vocab_size, size=(5, 2, 7))
    exact, quick = TorchDecoder(model, 2, ()), Int8Model(model, ()).decoder(2)
    for decoder in (exact, quick):
        decoder.add(batch, [9] * 5)
    values, ids = quick.step(np.full((5, 2), BOS), vocab_size, wanted)
    near, same = exact.step(np.full((5, 2), BOS), 3, wanted)
    assert (ids[:, :, vocab_size:] == wanted).all() and (same[:, :, 3:] == wanted).all()
    for place in np.ndindex(5, 2):
        known = dict(zip(ids[place][:vocab_size].tolist(), values[place][:vocab_size].tolist(), strict=True))
        assert values[place][vocab_size:].tolist() == [known.get(token, -np.inf) for token in wanted[place].tolist()]
    there = wanted >= 0
    assert np.abs(values[:, :, vocab_size:][there] - near[:, :, 3:][there]).max() < 0.15


@needs_kernels
@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_translation_does_not_depend_on_its_neighbours_bit_by_bit(beam_size: int) -> None:
    model, config = build(), SearchConfig(beam_size=beam_size)
    quick = Int8Model(model, FORBIDDEN)
    batch = sources(40)
    together = run(model, quick.decoder(beam_size), batch, config)
    assert together == [run(model, quick.decoder(beam_size), [source], config)[0] for source in batch]
    assert together == run(model, quick.decoder(beam_size), batch[::-1], config)[::-1]


@needs_kernels
@pytest.mark.parametrize("beam_size", [1, 5])
def test_nor_on_the_number_of_threads(beam_size: int) -> None:
    """Callers at the same time, too: one of them gets the threads, the others do without."""
    model, config, batch = build(), SearchConfig(beam_size=beam_size), sources(60)
    quick = Int8Model(model, FORBIDDEN)
    alone = run(model, quick.decoder(beam_size), batch, config)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with ThreadPoolExecutor(3) as executor:
            futures = [executor.submit(run, model, quick.decoder(beam_size), batch, config) for _ in range(6)]
            assert all(future.result() == alone for future in futures)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("beam_size", [1, 4])
def test_joining_a_running_pool_changes_nothing(beam_size: int) -> None:
    model, config = build(), SearchConfig(beam_size=beam_size)
    quick = Int8Model(model, FORBIDDEN)
    batch = sorted(sources(30), key=len, reverse=True)  # the long ones leave last, the short ones come last
    pool = SearchPool(model, config, FORBIDDEN, quick.decoder(beam_size))
    results: dict[int, SearchResult] = {}
    for source in batch:
        pool.add([source])
        results |= {ticket: found[0] for ticket, found in pool.step()}
    while len(pool):
        results |= {ticket: found[0] for ticket, found in pool.step()}
    assert [results[i] for i in range(30)] == run(model, quick.decoder(beam_size), batch, config)


@needs_kernels
def test_the_tightest_limit_still_leaves_one_token() -> None:
    model, config = build(), SearchConfig(beam_size=3, max_length_ratio=1e-3, max_length_offset=0)
    found = run(model, Int8Model(model, FORBIDDEN).decoder(3), sources(4), config)
    assert [len(result.token_scores) for result in found] == [1] * 4


def test_says_what_it_cannot_run() -> None:
    config = ModelConfig(vocab_size=50, d_model=48, num_heads=2, d_ff=64, encoder_layers=1, decoder_layers=1)
    model = EncoderDecoder(config)
    assert unsupported(model)
    with pytest.raises(ValueError):
        Int8Model(model, ())
