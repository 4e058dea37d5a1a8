from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from model.config import ModelConfig
from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD, Vocabulary
from training import batches as batches_module
from training.batches import LENGTHS, PACKED, Batch, Mixture
from training.loss import LossModel
from training.trainer import Trainer

WINDOW = 200
Pair = tuple[tuple[int, ...], tuple[int, ...]]


class FakeCorpus:
    """Pairs of many lengths, most with their number in the text; remembers what was taken."""

    def __init__(self, name: str, size: int, weight: float = 1.0, both_ways: bool = False) -> None:
        self.name, self.size, self.weight, self.both_ways = name, size, weight, both_ways
        self.source, self.target = "en", "de"
        self.taken: list[int] = []

    def __len__(self) -> int:
        return self.size

    def pair(self, index: int) -> tuple[str, str]:
        if index % 9 == 0:  # short enough for the smallest bucket
            return self.name, self.name
        rng = np.random.default_rng(index)
        words = f"{self.name} {index} " + "the " * int(rng.integers(0, 12))
        return words, f"{index} {self.name}" + " der" * int(rng.integers(0, 12))

    def take(self, indices: Sequence[int]) -> list[tuple[str, str]]:
        self.taken += indices
        return [self.pair(index) for index in indices]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "WINDOW", WINDOW)


def mixture(vocabulary: Vocabulary, corpora: Sequence[FakeCorpus], **choices: Any) -> Mixture:
    return Mixture(corpora, vocabulary, **({"batch_tokens": 400, "max_tokens": 64, "seed": 3} | choices))


def corpora() -> list[FakeCorpus]:
    return [FakeCorpus("a", 1000, 2.0, both_ways=True), FakeCorpus("b", 100, 1.0)]


def pairs(batch: Batch) -> Iterator[Pair]:
    """The pairs of a batch without padding; rows that only fill the shape are left out."""
    for source, target in zip(batch.source.tolist(), batch.target.tolist(), strict=True):
        ids = tuple(tuple(id for id in row if id != PAD) for row in (source, target))
        if ids[1]:
            yield ids  # type: ignore[misc]


def window(stream: Mixture) -> list[Batch]:
    """All batches of the current window; the stream moves on to the next."""
    batches, drawn, too_long = stream._window(stream.position)
    stream.position = batches_module.Position(stream.position.window + 1, 0, drawn)
    stream.too_long += too_long
    return [stream._batch(*batch) for batch in batches]


def same(a: Batch, b: Batch) -> bool:
    parts = [
        [batch.source, batch.target, batch.target_input, *(vars(batch.packing).values() if batch.packing else [])]
        for batch in (a, b)
    ]
    return all(torch.equal(x, y) for x, y in zip(*parts, strict=True))


@pytest.mark.parametrize("bpe_dropout", [0.0, 0.2])
@pytest.mark.parametrize("stop", [1, 13, 57])
def test_resuming_equals_going_on(vocabulary: Vocabulary, stop: int, bpe_dropout: float) -> None:
    stream = mixture(vocabulary, corpora(), bpe_dropout=bpe_dropout)
    iterator = iter(stream)
    list(islice(iterator, stop))
    state = stream.state()
    assert (stream.position.window > 0) == (stop == 57)  # some of the stops lie in later windows
    wanted = list(islice(iterator, 50))
    resumed = mixture(vocabulary, corpora(), bpe_dropout=bpe_dropout)
    resumed.load_state(state)
    found = list(islice(resumed, 50))
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert resumed.state() == stream.state()


def test_another_seed_gives_other_batches(vocabulary: Vocabulary) -> None:
    first, second = (next(iter(mixture(vocabulary, corpora(), seed=seed))) for seed in (1, 2))
    assert not same(first, second)


def test_every_pair_once_an_epoch(vocabulary: Vocabulary) -> None:
    corpus = FakeCorpus("a", 250)
    stream = mixture(vocabulary, [corpus])
    for _ in range(5):  # 1,000 pairs: four epochs, whose ends fall into the midst of windows
        window(stream)
    epochs = [corpus.taken[i : i + 250] for i in range(0, 1000, 250)]
    assert all(sorted(epoch) == list(range(250)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4  # each in another order


def test_nothing_is_lost(vocabulary: Vocabulary) -> None:
    """The pairs of a window's batches are those drawn, less the too long ones, which are counted."""
    both = corpora()
    stream = mixture(vocabulary, both, max_tokens=20)
    for _ in range(3):
        for corpus in both:
            corpus.taken.clear()
        stream.too_long.clear()
        found: Counter[tuple[str, str]] = Counter()
        for batch in window(stream):
            for source, target in pairs(batch):
                assert source[-1] == target[-1] == EOS
                texts = vocabulary.decode(source), vocabulary.decode(target)
                found[texts[::-1] if source[0] == vocabulary.tag("en") else texts] += 1
        drawn = Counter(corpus.pair(index) for corpus in both for index in corpus.taken)
        assert drawn.total() == WINDOW
        assert found <= drawn
        missing = drawn - found
        assert missing.total() == stream.too_long.total() > 0
        assert all(max(len(vocabulary.encode(side)) for side in pair) + 2 > 20 for pair in missing)


def test_shares_of_the_mixture(vocabulary: Vocabulary) -> None:
    """Twice the weight, twice the pairs; half of the pairs of a corpus that goes both ways are turned."""
    stream = mixture(vocabulary, corpora())
    sources = [source for _ in range(5) for batch in window(stream) for source, _ in pairs(batch)]
    texts = [vocabulary.decode(source).split() for source in sources]
    first = [source for source, words in zip(sources, texts, strict=True) if "a" in words]
    turned = [source for source in first if source[0] == vocabulary.tag("en")]
    assert len(sources) == 5 * WINDOW
    assert len(first) == pytest.approx(5 * WINDOW * 2 / 3, rel=0.1)
    assert len(turned) == pytest.approx(len(first) / 2, rel=0.15)
    assert all(source[0] == vocabulary.tag("de") for source in sources if source not in first)


def test_shapes_and_the_budget(vocabulary: Vocabulary) -> None:
    """Few shapes, full rows, padded tokens of the longer side within the budget."""
    stream = mixture(vocabulary, corpora(), max_tokens=60)
    for _ in range(2):
        shapes = set()
        for batch in window(stream):
            rows, source_length = batch.source.shape
            target_length = batch.target.shape[1]
            assert batch.target.shape[0] == rows
            assert rows * max(source_length, target_length) <= 400
            assert source_length in LENGTHS and target_length in LENGTHS
            assert abs(LENGTHS.index(source_length) - LENGTHS.index(target_length)) <= 1
            assert torch.equal(batch.target_input[:, 1:], batch.target[:, :-1])
            assert (batch.target_input[:, 0] == BOS).all()
            assert (batch.source != PAD).any(1).all()  # every row has something to attend to
            assert batch.tokens == (batch.target != PAD).sum() > 0
            shapes.add((rows, source_length, target_length))
        assert len(shapes) == len({shape[1:] for shape in shapes})  # one number of rows for each shape
        assert len(shapes) <= 3 * len(LENGTHS)


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own(vocabulary: Vocabulary) -> None:
    batch = next(iter(mixture(vocabulary, [FakeCorpus("a", 10)], batch_tokens=1)))
    assert batch.source.shape[0] == 1


def test_a_new_corpus_starts_at_its_beginning(vocabulary: Vocabulary) -> None:
    stream = mixture(vocabulary, corpora()[:1])
    list(islice(stream, 100))
    extended = mixture(vocabulary, [*corpora()[:1], FakeCorpus("new", 5000)])
    extended.load_state(stream.state())
    assert extended.position.drawn.get("new", 0) == 0
    next(iter(extended))
    first = extended.corpora[1].taken
    assert len(first) == len(set(first)) > 0


def test_processes_share_the_stream(vocabulary: Vocabulary) -> None:
    """Two processes take turns: together they have every batch once."""
    whole = list(islice(mixture(vocabulary, corpora()), 40))
    shares = []
    for rank in range(2):
        process = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2, process_index=rank))
        shares.append(list(islice(Trainer._share(process, iter(mixture(vocabulary, corpora()))), 20)))
    woven = [batch for group in zip(*shares, strict=True) for batch in group]
    assert all(same(a, b) for a, b in zip(woven, whole, strict=True))


def unpacked(batch: Batch) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Source, target input and target of each pair in the rows of a batch."""
    assert batch.packing
    for row in range(len(batch.source)):
        places = batch.packing.source_pair[row], batch.packing.target_pair[row]
        for number in range(1, int(places[0].max()) + 1):
            here, there = places[0] == number, places[1] == number
            parts = (batch.source[row][here], batch.target_input[row][there], batch.target[row][there])
            yield tuple(tuple(part.tolist()) for part in parts)  # type: ignore[misc]


def test_packed_rows_hold_the_same_pairs(vocabulary: Vocabulary) -> None:
    """Each pair whole, with its own BOS and positions; one shape; little room left."""
    choices = {"batch_tokens": 4 * PACKED[0], "max_tokens": 100}
    batches = window(mixture(vocabulary, corpora(), pack=True, **choices))
    plain = window(mixture(vocabulary, corpora(), **choices))
    found = Counter(pair for batch in batches for pair in unpacked(batch))
    assert found.total() == WINDOW
    assert {shifted[0] for _, shifted, _ in found} == {BOS}
    assert all(shifted[1:] == target[:-1] for _, shifted, target in found)
    wanted = Counter(pair for batch in plain for pair in pairs(batch))
    assert Counter((source, target) for source, _, target in found.elements()) == wanted
    assert {(batch.source.shape, batch.target.shape) for batch in batches} == {((4, PACKED[0]), (4, PACKED[1]))}
    for batch in batches:
        assert batch.packing and batch.tokens == (batch.packing.target_pair > 0).sum()
        assert torch.equal(batch.packing.source_pair > 0, batch.source != PAD)
        for position, pair in (
            (batch.packing.source_position, batch.packing.source_pair),
            (batch.packing.target_position, batch.packing.target_pair),
        ):
            starts = functional.pad(pair, (1, 0))[:, :-1] != pair
            steps = functional.pad(position, (1, 0))[:, :-1] + 1
            assert torch.equal(position, torch.where(starts | (pair == 0), 0, steps))
    rows = sum(int((batch.source != PAD).any(1).sum()) for batch in batches)
    longer = max(sum(len(pair[side]) for pair in wanted.elements()) / PACKED[side] for side in (0, 1))
    assert rows <= 1.15 * longer


def test_packed_rows_have_the_loss_of_their_pairs(vocabulary: Vocabulary) -> None:
    config = ModelConfig(
        vocab_size=len(vocabulary), d_model=16, d_ff=32, encoder_layers=1, decoder_layers=1, positions="learned"
    )
    model = LossModel(EncoderDecoder(config), smoothing=0.1).eval()
    totals = []
    for pack in (False, True):
        stream = mixture(vocabulary, corpora(), pack=pack, batch_tokens=4 * PACKED[0])
        losses = [model(b.source, b.target_input, b.target, b.packing) for b in window(stream)]
        totals.append(torch.stack([loss for loss, _ in losses]).sum())
        model.zero_grad()
        totals[-1].backward()
        totals += [parameter.grad.clone() for parameter in model.parameters()]
    half = len(totals) // 2
    for packed, plain in zip(totals[half:], totals[:half], strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("pack", [False, True])
def test_windows_prepared_by_other_processes_are_the_same(vocabulary: Vocabulary, pack: bool) -> None:
    choices = {"batch_tokens": 4 * PACKED[0], "bpe_dropout": 0.1, "pack": pack, "max_tokens": 14}
    here = mixture(vocabulary, corpora(), **choices)
    there = mixture(vocabulary, corpora(), processes=2, **choices)
    assert there.processes == 2
    for stream in (here, there):  # a corpus that has left the mixture goes on where it was when it comes back
        stream.load_state({"window": 1, "batch": 2, "drawn": {"a": 70, "gone": 5}})
    count = 3 * len(window(mixture(vocabulary, corpora(), **choices)))
    iterator = iter(there)
    assert all(same(a, b) for a, b in zip(islice(iterator, count), islice(here, count), strict=True))
    assert there.state() == here.state()
    assert there.too_long == here.too_long != Counter()
    assert there.position.window == here.position.window >= 3 and there.position.drawn["gone"] == 5
    iterator.close()  # type: ignore[attr-defined]


def test_a_process_that_dies_costs_no_batch(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, original, prepare = mixture(vocabulary, corpora()), os.getpid(), Mixture._window

    def die(mixture: Mixture, position: Any) -> Any:
        if os.getpid() != original and position.window == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(mixture, position)

    monkeypatch.setattr(Mixture, "_window", die)
    there = mixture(vocabulary, corpora(), processes=2)
    count = 3 * len(window(mixture(vocabulary, corpora())))
    assert all(same(a, b) for a, b in zip(islice(there, count), islice(here, count), strict=True))
    assert there.state() == here.state()
    assert "a process that prepares batches has died" in caplog.text
