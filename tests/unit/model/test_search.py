from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from reference import decoding

from model.config import ModelConfig, SearchConfig
from model.decoder import TorchDecoder
from model.search import GAP, SearchPool, SearchResult, search
from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD, UNK

PENALTIES = [0.0, 0.6, 1.0, 2.0]


def build(vocab_size: int, seed: int, sharpness: float = 2.0, positions: str = "rotary") -> EncoderDecoder:
    """Random weights, with outputs sharp enough that choices are clear and an end that comes now and then."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=vocab_size,
        d_model=16,
        num_heads=2,
        d_ff=24,
        encoder_layers=1,
        decoder_layers=2,
        positions=positions,
        tie_embeddings=False,
        max_length=64,
    )
    model = EncoderDecoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    model.output.weight.mul_(sharpness)
    return model


def source(seed: int, length: int, vocab_size: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [*torch.randint(EOS + 1, vocab_size, (length - 1,), generator=generator).tolist(), EOS]


def exactly(max_length: int, **choices: float) -> SearchConfig:
    """At most ``max_length`` tokens, whatever the length of the source; nothing is given up early."""
    return SearchConfig(max_length_ratio=1e-3, max_length_offset=max_length, exact=True, **choices)  # type: ignore[arg-type]


def ids(results: Sequence[SearchResult]) -> list[tuple[int, ...]]:
    return [result.ids for result in results]


def same(found: Sequence[SearchResult], wanted: Sequence[SearchResult]) -> None:
    assert ids(found) == ids(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        assert a.token_scores == pytest.approx(b.token_scores, abs=1e-4)


def drain(pool: SearchPool) -> dict[int, list[SearchResult]]:
    results: dict[int, list[SearchResult]] = {}
    while len(pool):
        results |= dict(pool.step())
    return results


# Beam search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("words", "max_length"), [(3, 3), (2, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_equals_exhaustive_search(words: int, max_length: int, penalty: float, seed: int) -> None:
    model = build(EOS + 1 + words, seed)
    sentence = source(seed, 4, EOS + 1 + words)
    wanted = decoding.exhaustive(model, sentence, max_length, penalty)[:10]
    found = search(model, [sentence], exactly(max_length, beam_size=64, nbest=10, length_penalty=penalty))[0]
    assert ids(found) == [ids for ids, _ in wanted]
    assert [result.score for result in found] == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beam_size", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_stopping_early_loses_nothing(beam_size: int, penalty: float, seed: int) -> None:
    """The n best equal those of a search that always runs on to the longest length."""
    model, sentence = build(12, seed), source(seed, 5, 12)
    wanted = decoding.beam(model, sentence, beam_size, 10, penalty)[:beam_size]
    found = search(model, [sentence], exactly(10, beam_size=beam_size, nbest=beam_size, length_penalty=penalty))[0]
    assert ids(found) == [ids for ids, _ in wanted]
    assert [result.score for result in found] == pytest.approx([score for _, score in wanted], abs=1e-4)


def build_ending() -> EncoderDecoder:
    """EOS, at 0, towers over the other logits."""
    model = build(12, 0)
    model.output.weight[EOS] = 0.0
    model.decoder_norm.bias.add_(model.output.weight.mean(0) * -50)
    return model


@pytest.mark.parametrize("config", [
    SearchConfig(beam_size=1),
    SearchConfig(beam_size=4, nbest=4),
    SearchConfig(beam_size=4, nbest=4, length_penalty=0.0, exact=True),
    SearchConfig(beam_size=1, sampling=True, nbest=4),
])  # fmt: skip
def test_no_target_is_empty(config: SearchConfig) -> None:
    for found in search(build_ending(), [source(0, 5, 12), source(1, 1, 12)], config):
        assert len(found) == config.nbest
        assert all(result.ids and EOS not in result.ids for result in found)


def test_it_does_stop_early() -> None:
    model, sentence = build_ending(), source(0, 5, 12)
    pool = SearchPool(model, exactly(50, beam_size=4, length_penalty=0.0))
    pool.add([sentence])
    steps = 0
    while len(pool):
        pool.step()
        steps += 1
    assert steps < 10


class Scripted:
    """A decoder whose next tokens are written down: each row's only choices, by the last token."""

    def __init__(self, following: dict[int, list[tuple[int, float]]]) -> None:
        self.following = following

    def add(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None: ...

    def step(self, tokens: np.ndarray, candidates: int, wanted: None = None) -> tuple[np.ndarray, np.ndarray]:
        values = np.full((*tokens.shape, candidates), -np.inf, dtype=np.float32)
        found = np.zeros(values.shape, dtype=np.int32)
        for place, token in np.ndenumerate(tokens):
            for i, (following, value) in enumerate(self.following.get(int(token), [])):
                values[(*place, i)], found[(*place, i)] = value, following
        return values, found

    def choose(self, parents: np.ndarray) -> None: ...

    def keep(self, sentences: np.ndarray) -> None: ...


@pytest.mark.parametrize(("nbest", "behind", "exact", "kept"), [
    (1, GAP + 0.1, False, 1),
    (1, GAP - 0.1, False, 2),
    (1, GAP + 0.1, True, 2),
    (2, GAP + 0.1, False, 2),  # the second of two wanted has nobody to be behind
])  # fmt: skip
def test_what_is_far_behind_the_nth_best_is_given_up(nbest: int, behind: float, exact: bool, kept: int) -> None:
    decoder = Scripted({BOS: [(4, -0.1), (5, -0.1 - behind)]})
    config = SearchConfig(beam_size=2, nbest=nbest, exact=exact)
    pool = SearchPool(build(12, 0), config, decoder=decoder)
    pool.add([[4, EOS]])
    pool.step()
    assert (pool.totals > -np.inf).sum() == kept


@pytest.mark.parametrize(("total", "free_tokens", "wins"), [(-7.3, 3, True), (-11.6, 13, False)])
def test_what_needs_many_tokens_more_to_catch_up_is_given_up(total: float, free_tokens: int, wins: bool) -> None:
    """One hypothesis ends at once, with -1.5 a token. The other has a worse sum and a long way to go, at no cost."""
    first = 10  # of its tokens, which count upwards
    following = {BOS: [(4, -1.5), (first, -1.6)], 4: [(EOS, -1.5)], first: [(first + 1, total + 1.6)]}
    following |= {first + i: [(first + i + 1, 0.0)] for i in range(1, free_tokens)}
    following[first + free_tokens] = [(EOS, 0.0)]
    found = {}
    for exact in (False, True):
        config = SearchConfig(beam_size=2, exact=exact, max_length_offset=100)
        pool = SearchPool(build(64, 0), config, decoder=Scripted(following))
        pool.add([[4, EOS]])
        found[exact] = drain(pool)[0][0].ids
    assert found[True][0] == first
    assert found[False][0] == (first if wins else 4)


@pytest.mark.parametrize("seed", range(10))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    """Whatever the length penalty: where the end is the likeliest token, the search ends."""
    model, sentence = build(12, seed), source(seed, 5, 12)
    found = search(model, [sentence], exactly(12, beam_size=1, length_penalty=PENALTIES[seed % 4]))[0]
    assert [list(result.ids) for result in found] == [decoding.greedy(model, sentence, 12)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_scores_are_the_models(penalty: float) -> None:
    model = build(12, 1)
    sentences = [source(seed, 6, 12) for seed in range(6)]
    for sentence, found in zip(
        sentences, search(model, sentences, exactly(8, beam_size=4, nbest=4, length_penalty=penalty)), strict=True
    ):
        assert len(found) == 4
        assert [result.score for result in found] == sorted((result.score for result in found), reverse=True)
        assert len(set(ids(found))) == 4
        for result in found:
            target = [*result.ids, EOS][: len(result.token_scores)]  # no EOS where the length cut it short
            scores = model.score(torch.tensor([sentence]), torch.tensor([target]))[0]
            assert list(result.token_scores) == pytest.approx(scores.tolist(), abs=1e-4)
            assert result.score == pytest.approx(sum(result.token_scores) / len(target) ** penalty)
            assert len(target) <= 8


@pytest.mark.parametrize("sampling", [False, True])
def test_forbidden_ids_never_appear(sampling: bool) -> None:
    model = build(9, 2)
    model.output.weight[[PAD, UNK, BOS, 5]] *= 20  # the likeliest by far, were they allowed
    config = exactly(6, beam_size=1 if sampling else 8, nbest=8, sampling=sampling)
    pool = SearchPool(model, config, forbidden=(PAD, UNK, BOS, 5))
    pool.add([source(seed, 5, 9) for seed in range(5)])
    for found in drain(pool).values():
        assert len(found) == 8
        assert not {PAD, UNK, BOS, 5, EOS} & {id for result in found for id in result.ids}
        assert all(result.score > float("-inf") for result in found)


def test_nothing_need_be_forbidden() -> None:
    model = build(9, 2)
    pool = SearchPool(model, exactly(4, beam_size=3), forbidden=())
    pool.add([source(0, 5, 9)])
    assert drain(pool)[0]


@pytest.mark.parametrize(("length", "wanted"), [(4, 2 * 4 + 3), (40, 63)])
def test_longest_length(length: int, wanted: int) -> None:
    """ratio * source + offset, and never more than the model has positions for."""
    model = build(12, 0)
    model.output.weight[EOS] = 0.0
    model.decoder_norm.bias.add_(model.output.weight.mean(0) * 50)  # never ends by itself
    config = SearchConfig(beam_size=2, max_length_ratio=2.0, max_length_offset=3)
    (found,) = search(model, [source(0, length, 12)], config)[0]
    assert len(found.ids) == len(found.token_scores) == wanted


# The pool ----------------------------------------------------------------------------------------------------------

CONFIGS = [
    exactly(18, beam_size=1),
    exactly(18, beam_size=4, nbest=2),
    exactly(18, beam_size=4, nbest=4, length_penalty=0.0),
    exactly(18, beam_size=1, nbest=3, sampling=True),
]
MIXED = [(0, 9), (1, 3), (2, 14), (3, 5), (4, 1), (5, 7), (6, 30)]  # seed, length


@pytest.mark.parametrize(
    ("config", "positions"),
    [*((config, "rotary") for config in CONFIGS), (CONFIGS[1], "sinusoidal"), (CONFIGS[1], "learned")],
)
def test_a_batch_equals_one_by_one(config: SearchConfig, positions: str) -> None:
    model = build(12, 3, positions=positions)
    sentences = [source(seed, length, 12) for seed, length in MIXED]
    together = search(model, sentences, config)
    turned = search(model, sentences[::-1], config)[::-1]
    for sentence, found, again in zip(sentences, together, turned, strict=True):
        alone = search(model, [sentence], config)[0]
        same(found, alone)
        same(again, alone)


@pytest.mark.parametrize("config", CONFIGS)
def test_joining_at_any_time_and_dropping_others_changes_nothing(config: SearchConfig) -> None:
    model = build(12, 3)
    sentences = [source(seed, length, 12) for seed, length in MIXED]
    pool = SearchPool(model, config)
    assert pool.add([]) == []
    tickets = pool.add(sentences[:3])
    results: dict[int, list[SearchResult]] = {}
    for sentence in sentences[3:]:
        for _ in range(2):
            results |= dict(pool.step()) if len(pool) else {}
        tickets += pool.add([sentence])
    victims = {tickets[0], tickets[5]} - results.keys()
    before = len(pool)
    pool.drop(victims | {999})
    assert len(pool) == before - len(victims)
    assert isinstance(pool.decoder, TorchDecoder) and pool.decoder.state is not None
    assert len(pool.decoder.state.position) == len(pool) * pool.beam  # its rows are free again
    results |= drain(pool)
    assert results.keys() == set(tickets) - victims
    for ticket, found in results.items():
        same(found, search(model, [sentences[tickets.index(ticket)]], config)[0])


def test_dropping_everything_leaves_a_usable_pool() -> None:
    model, config = build(12, 3), exactly(9, beam_size=3)
    pool = SearchPool(model, config)
    pool.drop({1, 2})  # nothing there yet
    tickets = pool.add([source(0, 5, 12), source(1, 8, 12)])
    pool.step()
    pool.drop(set(tickets))
    assert len(pool) == 0
    (ticket,) = pool.add([source(2, 6, 12)])
    assert ticket not in tickets
    same(drain(pool)[ticket], search(model, [source(2, 6, 12)], config)[0])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_tightest_limit_still_leaves_one_token(beam_size: int) -> None:
    config = SearchConfig(beam_size=beam_size, max_length_ratio=1e-3, max_length_offset=0)
    (found,) = search(build(12, 3), [source(0, 5, 12)], config)[0]
    assert len(found.token_scores) == 1


# Sampling ----------------------------------------------------------------------------------------------------------


def test_sampling_is_deterministic_by_seed() -> None:
    model, sentence = build(12, 4, sharpness=1.0), source(0, 5, 12)

    def draw(seed: int) -> list[tuple[int, ...]]:
        return ids(search(model, [sentence], exactly(8, beam_size=1, nbest=5, sampling=True, seed=seed))[0])

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(set(draw(1))) > 1  # the hypotheses of one sentence are drawn independently


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 0), (1.0, 3), (1.5, 2)])
def test_sampling_follows_the_models_distribution(temperature: float, top_k: int) -> None:
    """Chi-square of 3,200 draws of two tokens against softmax(logits / temperature) over the k likeliest."""
    model, sentence = build(8, 5, sharpness=0.5), source(0, 5, 8)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(50):
        config = exactly(2, beam_size=1, nbest=64, sampling=True, seed=seed, temperature=temperature, top_k=top_k)
        counts.update(ids(search(model, [sentence], config)[0]))

    def distribution(prefix: list[int]) -> torch.Tensor:
        scores = decoding.next_log_probabilities(model, sentence, prefix)
        scores[decoding.forbidden(prefix)] = -torch.inf
        if top_k:
            scores[scores < scores.topk(top_k).values[-1]] = -torch.inf
        return (scores / temperature).softmax(-1)

    expected: dict[tuple[int, ...], float] = {}
    first = distribution([])
    for a in range(EOS + 1, 8):
        second = distribution([a])
        expected[(a,)] = float(first[a] * second[EOS])
        expected |= {(a, b): float(first[a] * second[b]) for b in range(EOS + 1, 8)}
    expected = {outcome: 3200 * p for outcome, p in expected.items() if p > 0}
    assert sum(counts.values()) == 3200
    assert counts.keys() <= expected.keys()  # nothing outside the k likeliest
    common = {outcome: mean for outcome, mean in expected.items() if mean >= 5}
    chi_square = sum((counts[outcome] - mean) ** 2 / mean for outcome, mean in common.items())
    freedom = len(common) - 1
    assert chi_square < freedom + 4 * (2 * max(1, freedom)) ** 0.5, (chi_square, freedom)


def test_a_cold_or_narrow_draw_is_greedy() -> None:
    model, sentence = build(12, 6), source(0, 5, 12)
    greedy = search(model, [sentence], exactly(10, beam_size=1))[0]
    for choices in ({"temperature": 1e-3}, {"top_k": 1}):
        same(search(model, [sentence], exactly(10, beam_size=1, sampling=True, **choices))[0], greedy)
