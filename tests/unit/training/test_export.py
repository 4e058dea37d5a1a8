"""CTranslate2, an independent engine, with the same weights: the same tokens and the same scores. And checkpoints of a
sixth of the size."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from reference.decoding import next_log_probabilities
from samples import sentences

from model import checkpoint
from model.config import ModelConfig, SearchConfig
from model.errors import CheckpointError, UserError
from model.int8 import quantise
from model.search import SearchPool, SearchResult
from model.transformer import EncoderDecoder
from model.vocabulary import EOS, Vocabulary
from service.cli import main
from training.export import to_ctranslate2, to_int6

ctranslate2 = pytest.importorskip("ctranslate2")

VARIANTS = [
    {"positions": "sinusoidal", "norm_position": "pre", "activation": "relu", "tie_embeddings": False},
    {"positions": "sinusoidal", "norm_position": "post", "activation": "gelu", "tie_embeddings": True},
    {"positions": "learned", "norm_position": "pre", "activation": "gelu", "tie_embeddings": False},
    {"positions": "learned", "norm_position": "post", "activation": "swiglu", "tie_embeddings": True},
    {"positions": "rotary", "norm_position": "pre", "activation": "relu", "tie_embeddings": True},
    {"positions": "rotary", "norm_position": "pre", "activation": "swiglu", "tie_embeddings": False},
    {"positions": "rotary", "norm_position": "post", "activation": "gelu", "tie_embeddings": False},
    {"positions": "rotary", "norm_position": "pre", "norm": "rms", "activation": "relu", "tie_embeddings": True},
]
LONGEST = 12


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: f"{v['positions']}-{v['norm_position']}")
def engines(
    request: pytest.FixtureRequest, vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EncoderDecoder, Any]:
    """Our model, with random weights that make clear choices, and CTranslate2's."""
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=len(vocabulary),
        d_model=32,
        num_heads=2,
        d_ff=64,
        encoder_layers=2,
        decoder_layers=2,
        max_length=64,
        **request.param,
    )
    model = EncoderDecoder(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name:
            parameter.add_(torch.randn_like(parameter) * 0.2)
        elif "tokens" not in name and name != "output.weight":
            parameter.mul_(1.5)
    model.output.weight.mul_(3.0)
    directory = tmp_path_factory.mktemp("export")
    checkpoint.save(directory / "ours", config, model.state_dict(), vocabulary, "")
    to_ctranslate2(directory / "ours", directory / "theirs")
    return model, ctranslate2.Translator(str(directory / "theirs"), compute_type="float32", intra_threads=1)


def pieces(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    return [vocabulary.piece(id) for id in ids]


def test_scores_of_given_targets(engines: tuple[EncoderDecoder, Any], vocabulary: Vocabulary) -> None:
    model, engine = engines
    sources = [vocabulary.source_ids(text, "de") for text in sentences(6, 5)]
    targets = [vocabulary.target_ids(text) for text in sentences(6, 6)]
    found = engine.score_batch(
        [pieces(vocabulary, ids) for ids in sources], [pieces(vocabulary, ids[:-1]) for ids in targets]
    )
    for source, target, result in zip(sources, targets, found, strict=True):
        ours = model.score(torch.tensor([source]), torch.tensor([target]))[0]
        assert result.log_probs == pytest.approx(ours.tolist(), abs=1e-4)


@pytest.mark.parametrize(("beam_size", "penalty"), [(1, 0.0), (4, 0.0), (4, 1.0)])
def test_search(engines: tuple[EncoderDecoder, Any], vocabulary: Vocabulary, beam_size: int, penalty: float) -> None:
    """The best hypothesis of both; endless patience, since CTranslate2 stops by another rule and gives nothing up.

    Nothing is forbidden here: CTranslate2 takes a ban into its probabilities, we leave them as the model's. It ranks
    hypotheses that the length limit cut off among the others, we rank them last: compared is the best that ended.
    """
    model, engine = engines
    sources = [vocabulary.source_ids(text, "de") for text in sentences(8, 5)]
    config = SearchConfig(
        beam_size=beam_size, length_penalty=penalty, max_length_ratio=0.01, max_length_offset=LONGEST, exact=True
    )
    pool = SearchPool(model, config, forbidden=())
    tickets = pool.add(sources)
    ours: dict[int, list[SearchResult]] = {}
    compared = 0
    while len(pool):
        ours |= dict(pool.step())
    theirs = engine.translate_batch(
        [pieces(vocabulary, ids) for ids in sources],
        beam_size=beam_size,
        patience=1 if beam_size == 1 else 100,
        length_penalty=penalty,
        num_hypotheses=beam_size,
        max_decoding_length=LONGEST,
        return_scores=True,
    )
    for ticket, ids, result in zip(tickets, sources, theirs, strict=True):
        best = ours[ticket][0]
        ended = [pair for pair in zip(result.hypotheses, result.scores, strict=True) if len(pair[0]) < LONGEST]
        hypothesis, score = ended[0] if ended else (result.hypotheses[0], result.scores[0])
        if best.cut or ended:  # theirs may list none that ended although ours found one behind those cut off
            assert pieces(vocabulary, list(best.ids)) == hypothesis
            # Neither ends at once; theirs shares out what an end would have had
            at_once = math.log1p(-next_log_probabilities(model, ids, [])[EOS].exp())
            assert score == pytest.approx(best.score - at_once / len(best.token_scores) ** penalty, abs=1e-3)
            compared += 1
    assert compared >= len(sources) // 2


def test_the_vocabulary_lies_beside_the_model(checkpoint_directory: Path, tmp_path: Path) -> None:
    output = to_ctranslate2(checkpoint_directory, tmp_path / "new" / "export")
    assert output == tmp_path / "new" / "export"
    vocabulary = Vocabulary.load(output / "vocabulary.model")
    assert vocabulary.model == checkpoint.load(checkpoint_directory).vocabulary.model
    engine = ctranslate2.Translator(str(output), intra_threads=1)
    source = [vocabulary.piece(id) for id in vocabulary.source_ids("wo ist die Katze?", "en")]
    (result,) = engine.translate_batch([source], max_decoding_length=5)
    assert EOS not in map(vocabulary.id, result.hypotheses[0])


def test_a_small_checkpoint_holds_the_nearest_integers(checkpoint_directory: Path, tmp_path: Path) -> None:
    """Through the command line, with a card of its own; what is there already is never replaced."""
    small, card = tmp_path / "small", tmp_path / "card.md"
    card.write_text("# Small ä\n", encoding="utf-8")
    arguments = ["export", "--to", "int6", str(small), "--checkpoint", str(checkpoint_directory), "--card", str(card)]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    loaded, before = checkpoint.load(small), checkpoint.load(checkpoint_directory)
    assert loaded.card == "# Small ä\n" and loaded.config == before.config
    for name, weight in before.weights.items():
        if weight.ndim > 1:
            assert torch.equal(quantise(loaded.weights[name], 31)[0], quantise(weight, 31)[0])
    assert CliRunner().invoke(main, arguments).exit_code == 2
    with pytest.raises(UserError, match="exists already"):
        to_int6(checkpoint_directory, tmp_path)
    card.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cannot read the model card .*UTF-8"):
        to_int6(checkpoint_directory, tmp_path / "other", card)


def test_bad_input_is_one_clear_line(
    checkpoint_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="exists already"):
        to_ctranslate2(checkpoint_directory, tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        to_ctranslate2(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match="pip install ctranslate2"):
        to_ctranslate2(checkpoint_directory, tmp_path / "out")


def test_a_full_disk_leaves_nothing_behind(
    checkpoint_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        to_ctranslate2(checkpoint_directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()
