"""Every architectural choice passes the same tests: it learns to copy, saves, loads, decodes, translates."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import decoding
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from model import checkpoint
from model.config import ModelConfig, SearchConfig
from model.search import search
from model.transformer import DecoderState, Transformer, build
from model.translator import Translator
from model.vocabulary import BOS, EOS, PAD, SEPARATOR, Vocabulary
from training.loss import smoothed_cross_entropy
from training.schedule import learning_rate

DECODER_ONLY = {"architecture": "decoder-only", "encoder_layers": 0, "decoder_layers": 2}
EXPERTS = {"experts": 4, "d_ff": 48}
VARIANTS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "sinusoidal": {"positions": "sinusoidal"},
    "learned": {"positions": "learned"},
    "post": {"norm_position": "post"},
    "rms": {"norm": "rms"},
    "rms-post": {"norm": "rms", "norm_position": "post"},
    "gelu": {"activation": "gelu"},
    "swiglu": {"activation": "swiglu"},
    "one-head": {"num_heads": 1},
    "eight-heads": {"num_heads": 8},
    "untied": {"tie_embeddings": False},
    "experts-top1": {**EXPERTS, "experts_per_token": 1},
    "experts-top2": {**EXPERTS, "experts_per_token": 2},
    "decoder-only": DECODER_ONLY,
    "decoder-only-sinusoidal": {**DECODER_ONLY, "positions": "sinusoidal"},
    "decoder-only-learned-post": {**DECODER_ONLY, "positions": "learned", "norm_position": "post"},
    "decoder-only-experts": {**DECODER_ONLY, **EXPERTS, "norm": "rms", "activation": "swiglu", "tie_embeddings": False},
}
LETTERS = "abcd"
every = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture(scope="module")
def letters() -> Vocabulary:
    """Its texts are words of one letter each."""
    draw = random.Random(0)
    lines = [" ".join(draw.choices(LETTERS, k=4)) for _ in range(200)]
    return Vocabulary.train(lines, 282, ["de", "en"], threads=1)


def config(name: str, vocabulary: Vocabulary) -> ModelConfig:
    small = {"d_model": 32, "num_heads": 2, "d_ff": 64, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    sizes = {"vocab_size": len(vocabulary), "separator": vocabulary.id(SEPARATOR), "max_length": 40}
    return ModelConfig(**{**small, **sizes, **VARIANTS[name]})


def random_model(name: str, vocabulary: Vocabulary) -> Transformer:
    """Random weights, norms and biases too, so that nothing is hidden by a zero or a one."""
    torch.manual_seed(0)
    model = build(config(name, vocabulary)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def sequences(*lengths: int, seed: int = 0) -> Tensor:
    """Random ids, each sequence ending with EOS, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.cat((torch.randint(20, 280, (n - 1,), generator=generator), torch.tensor([EOS]))) for n in lengths]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request: pytest.FixtureRequest, letters: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that learnt to copy up to three letters."""
    torch.manual_seed(1)
    texts = [" ".join(letters) for n in (1, 2, 3) for letters in itertools.product(LETTERS, repeat=n)]
    ids = [(torch.tensor(letters.source_ids(text, "de")), torch.tensor(letters.target_ids(text))) for text in texts]
    sources, targets = (pad_sequence(list(x), batch_first=True, padding_value=PAD) for x in zip(*ids, strict=True))
    model = build(config(request.param, letters)).train()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    average = 1.0
    for step in range(1, 2001):
        rows = torch.randint(len(sources), (32,))
        target = targets[rows]
        hidden = model(sources[rows], pad(target[:, :-1], (1, 0), value=BOS))
        loss = smoothed_cross_entropy(hidden, model.output.weight, target, 0.0)[0] / (target != PAD).sum()
        average = 0.95 * average + 0.05 * loss.item()
        (loss if model.auxiliary_loss() is None else loss + model.auxiliary_loss()).backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 5e-3, 50)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 and average < 0.01:
            with torch.no_grad():
                logits = model.eval().output(model(sources, pad(targets[:, :-1], (1, 0), value=BOS)))
            model.train()
            if bool(((logits.argmax(-1) == targets) | (targets == PAD)).all()):
                break
    path = tmp_path_factory.mktemp("trained") / request.param
    checkpoint.save(path, model.config, model.state_dict(), letters, "# copies\n")
    return path


@pytest.mark.slow
def test_it_copies_without_a_mistake_through_the_translator(trained: Path) -> None:
    translator = Translator.load(trained, dtype="float32")
    texts = [" ".join(random.Random(i).choices(LETTERS, k=i % 3 + 1)) for i in range(60)]
    for beam_size in (1, 3):
        found = translator.translate(texts, "en", "de", SearchConfig(beam_size=beam_size))
        assert [one.text for one in found] == texts


@every
def test_it_saves_and_loads(name: str, letters: Vocabulary, tmp_path: Path) -> None:
    model = random_model(name, letters)
    checkpoint.save(tmp_path / "saved", model.config, model.state_dict(), letters, "")
    loaded = checkpoint.load(tmp_path / "saved")
    assert loaded.config == model.config and dataclasses.asdict(loaded.config) == dataclasses.asdict(model.config)
    again = loaded.model()
    assert type(again) is type(model)
    source, target = sequences(5, 3), sequences(4, 6, seed=1)
    assert torch.equal(again.score(source, target), model.score(source, target))


@every
def test_a_future_token_never_changes_the_past(name: str, letters: Vocabulary) -> None:
    model = random_model(name, letters)
    source, target = sequences(6, 4), sequences(9, 9, seed=1)
    before = model(source, target)
    changed = target.clone()
    changed[:, 5:] = 20 + (changed[:, 5:] + 7) % 260
    after = model(source, changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-3  # and the present does change
    swapped = source.clone()
    swapped[:, 0] += 1
    assert (model(swapped, target) - before).abs().amax(-1).min() > 1e-4  # the source reaches every target token


@every
def test_padding_and_neighbours_never_change_a_result(name: str, letters: Vocabulary) -> None:
    model = random_model(name, letters)
    sources, targets = sequences(3, 11, 7), sequences(8, 2, 5, seed=1)
    together = model.score(sources, targets)
    wider = model.score(pad(sources, (0, 3)), pad(targets, (0, 4)))
    torch.testing.assert_close(wider[:, : targets.shape[1]], together, atol=1e-5, rtol=1e-4)
    for row in range(3):
        source, target = sources[row][sources[row] != PAD], targets[row][targets[row] != PAD]
        alone = model.score(source[None], target[None])[0]
        torch.testing.assert_close(together[row, : len(target)], alone, atol=1e-5, rtol=1e-4)
        assert not together[row, len(target) :].any()


@every
def test_a_cached_step_equals_the_full_forward(name: str, letters: Vocabulary) -> None:
    """Also for a batch that joins another between two steps, and for rows that leave or are copied."""
    model, beam = random_model(name, letters), 2
    first, second = sequences(3, 8, 5), sequences(6, 12, seed=3)
    written_first = torch.cat((torch.full((6, 1), BOS), sequences(*[24] * 6, seed=2)), 1)
    written_second = torch.cat((torch.full((4, 1), BOS), sequences(*[24] * 4, seed=4)), 1)
    full_first = model.output(model(first.repeat_interleave(beam, 0), written_first))
    full_second = model.output(model(second.repeat_interleave(beam, 0), written_second))
    state = model.start(*model.encode(first), beam)
    for t in range(18):
        logits = model.decode_step(written_first[:, t], state)
        torch.testing.assert_close(logits, full_first[:, t], atol=2e-5, rtol=1e-4)
    state = DecoderState.join(state, model.start(*model.encode(second), beam))
    logits = model.decode_step(torch.cat((written_first[:, 18], written_second[:, 0])), state)
    wanted = torch.cat((full_first[:, 18], full_second[:, 0]))
    torch.testing.assert_close(logits, wanted, atol=2e-5, rtol=1e-4)
    rows, sentences = torch.tensor([3, 3, 8, 9]), torch.tensor([1, 4])
    state = state.select(rows, sentences)
    logits = model.decode_step(torch.cat((written_first[:, 19], written_second[:, 1]))[rows], state)
    wanted = torch.cat((full_first[:, 19], full_second[:, 1]))[rows]
    torch.testing.assert_close(logits, wanted, atol=2e-5, rtol=1e-4)


@every
def test_search_equals_the_slow_one(name: str, letters: Vocabulary) -> None:
    model = random_model(name, letters)
    sources = [[*row[row != PAD].tolist()] for row in sequences(4, 9, 6)]
    limits = {"max_length_ratio": 1e-3, "max_length_offset": 8}
    greedy = search(model, sources, SearchConfig(beam_size=1, **limits))  # type: ignore[arg-type]
    assert [list(found[0].ids) for found in greedy] == [decoding.greedy(model, source, 8) for source in sources]
    beams = search(model, sources, SearchConfig(beam_size=3, nbest=3, **limits))  # type: ignore[arg-type]
    for source, found in zip(sources, beams, strict=True):
        wanted = decoding.beam(model, source, 3, 8, 1.0)[:3]
        assert [result.ids for result in found] == [ids for ids, _ in wanted]


def test_the_separator_stands_between_source_and_target(letters: Vocabulary) -> None:
    model = random_model("decoder-only", letters)
    before = model.score(sequences(4), sequences(3, seed=1))
    other = build(dataclasses.replace(model.config, separator=BOS)).eval()
    other.load_state_dict(model.state_dict())
    assert (other.score(sequences(4), sequences(3, seed=1)) - before).abs().max() > 1e-4
