"""Required phrases: against exhaustive search, and what must hold of every target."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from reference import decoding
from test_search import build, drain, exactly, ids, same, source

from model.config import SearchConfig
from model.constraints import amid
from model.search import SearchPool, SearchResult
from model.transformer import EncoderDecoder
from model.vocabulary import EOS, Edges, Phrase

A, B, C = EOS + 1, EOS + 2, EOS + 3
FREE = Edges(np.zeros(64, dtype=bool), np.zeros(64, dtype=bool))  # no piece lies within a word


def phrases(*tokens: Sequence[int]) -> tuple[Phrase, ...]:
    return tuple((tuple(phrase),) for phrase in tokens)


def find(
    model: EncoderDecoder,
    sentences: Sequence[Sequence[int]],
    required: Sequence[Sequence[Phrase]],
    config: SearchConfig,
    edges: Edges = FREE,
) -> list[list[SearchResult]]:
    pool = SearchPool(model, config, edges=edges)
    tickets = pool.add(sentences, required)
    results = drain(pool)
    return [results[ticket] for ticket in tickets]


def holds(target: Sequence[int], needed: Sequence[Sequence[int]]) -> bool:
    """Whether all stand in the target, none over another."""
    if not needed:
        return True
    first, rest = needed[0], needed[1:]
    size = len(first)
    return any(
        list(target[i : i + size]) == list(first) and holds([*target[:i], -1, *target[i + size :]], rest)
        for i in range(len(target) - size + 1)
    )


@pytest.mark.parametrize(
    "needed",
    [[(A,)], [(A, B)], [(A,), (B,)], [(A,), (A,)], [(A, A, B)], [(A,), (A, B)], [(B,), (A, A)]],
    ids=str,
)
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_a_wide_beam_equals_exhaustive_search(needed: list[tuple[int, ...]], penalty: float, seed: int) -> None:
    length, model = 5, build(B + 1, seed)
    sentence = source(seed, 4, B + 1)
    everything = decoding.exhaustive(model, sentence, length, penalty)
    wanted = [found for found in everything if len(found[0]) < length and holds(found[0], needed)]
    assert wanted
    more = sum(map(len, needed))  # which the search allows for by itself
    config = exactly(length - more, beam_size=64, nbest=len(wanted), length_penalty=penalty)
    (found,) = find(model, [sentence], [phrases(*needed)], config)
    ended = [result for result in found if not result.cut]
    assert ids(ended) == [one for one, _ in wanted]
    assert [result.score for result in ended] == pytest.approx([score for _, score in wanted], abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 4, 24])
def test_every_target_holds_its_phrases(beam_size: int) -> None:
    """However unlikely they are; in a narrow beam, as far as it ended before its limit."""
    rng, model = random.Random(beam_size), build(30, 1)
    sentences = [source(seed, rng.randint(1, 12), 30) for seed in range(30)]
    needed = [
        [tuple(rng.choices(range(EOS + 1, 30), k=rng.randint(1, 5))) for _ in range(rng.randint(0, 3))]
        for _ in sentences
    ]
    required = [phrases(*each) for each in needed]
    found = find(model, sentences, required, SearchConfig(beam_size=beam_size))
    for sentence, results, each, asked in zip(sentences, found, needed, required, strict=True):
        wide = 3 * (len(each) + 1) + amid(asked) <= beam_size
        assert holds(results[0].ids, each) or (results[0].cut and not wide)
        assert len(results[0].ids) <= 1.5 * len(sentence) + 10 + sum(map(len, each))


def test_a_phrase_stands_as_words_of_its_own() -> None:
    """Tokens from 20 on begin within a word, odd ones end within one; a phrase may have a form for either place."""
    inside, odd = np.arange(30) >= 20, np.arange(30) % 2 == 1
    rng, model = random.Random(0), build(30, 2, sharpness=0.5)
    sentences = [source(seed, 8, 30) for seed in range(40)]
    needed: list[Phrase] = [
        ((rng.randint(4, 19), end), (rng.randint(20, 29), end)) for end in rng.choices(range(4, 30), k=40)
    ]
    required = [[phrase] for phrase in needed]
    seen = set()
    for (best, *_), phrase in zip(
        find(model, sentences, required, SearchConfig(beam_size=8), Edges(inside, odd)), needed, strict=True
    ):
        target = [*best.ids, EOS]
        places = [
            (form, bool(inside[form[0]]))
            for i, form in product(range(len(target) - 2), phrase)
            if tuple(target[i : i + 2]) == form
            and not inside[target[i + 2]]
            and not (inside[form[0]] and (i == 0 or odd[target[i - 1]]))
        ]
        assert places
        seen |= {within for _, within in places}
    assert seen == {True, False}  # either form has its uses


CONFIG = exactly(18, beam_size=4)


def test_neighbours_change_nothing() -> None:
    """With phrases and without, together, in another order, joining late."""
    model = build(12, 3)
    sentences = [source(seed, length, 12) for seed, length in ((0, 9), (1, 3), (2, 14), (3, 5), (4, 1), (5, 7))]
    required = [phrases((A, B)), (), phrases((C,), (C,)), (), phrases((B, B, B)), phrases((A,), (B, C))]
    alone = [find(model, [sentence], [each], CONFIG)[0] for sentence, each in zip(sentences, required, strict=True)]
    for found, again, one in zip(
        find(model, sentences, required, CONFIG),
        find(model, sentences[::-1], required[::-1], CONFIG)[::-1],
        alone,
        strict=True,
    ):
        same(found, one)
        same(again, one)
    pool = SearchPool(model, CONFIG, edges=FREE)
    results: dict[int, list[SearchResult]] = {}
    tickets = []
    for sentence, each in zip(sentences, required, strict=True):
        tickets += pool.add([sentence], [each])
        results |= dict(pool.step())
    results |= drain(pool)
    for ticket, one in zip(tickets, alone, strict=True):
        same(results[ticket], one)
    assert not pool.constraints


def test_an_unlikely_phrase_of_many_pieces_does_not_wait_for_the_end() -> None:
    """Each of its tokens is worth e to the -20 or so: the search still puts it where it costs least, and once."""
    model = build(30, 1, sharpness=4.0)
    phrase = phrases(range(10, 18))
    wide = SearchConfig(beam_size=6 + amid(phrase))
    for seed in range(5):
        (found,) = find(model, [source(seed, 10, 30)], [phrase], wide)
        assert found[0].cut or holds(found[0].ids, [range(10, 18)])
