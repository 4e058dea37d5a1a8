from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from model.config import ModelConfig
from model.errors import UserError
from model.transformer import EncoderDecoder
from model.vocabulary import PAD, Vocabulary
from service.cli import main
from training import bench_train
from training.corpus import load_corpora
from training.plain import PlainLoop, PlainModel
from training.recipe import load_recipe


@pytest.fixture
def loop(tiny_recipe: Path, vocabulary: Vocabulary, tmp_path: Path) -> PlainLoop:
    recipe = load_recipe(tiny_recipe, ["model.dropout=0.0", "training.bf16=false"])
    corpora, _ = load_corpora(recipe.corpora, recipe.cleaning, recipe.root, tmp_path)
    return PlainLoop(recipe, corpora, vocabulary)


def test_both_models_have_one_size() -> None:
    for config in (ModelConfig(), ModelConfig(norm_position="post", activation="gelu", encoder_layers=1)):
        with torch.device("meta"):
            sizes = [sum(w.numel() for w in model(config).parameters()) for model in (EncoderDecoder, PlainModel)]
        assert sizes[0] == pytest.approx(sizes[1], rel=2e-3)  # norms and biases apart
    with pytest.raises(UserError, match="swiglu"):
        PlainModel(ModelConfig(activation="swiglu"))


def test_the_plain_model_sees_no_future_and_no_padding(loop: PlainLoop) -> None:
    model = loop.model.eval()
    source, target = torch.tensor([[20, 21, 22]]), torch.tensor([[2, 30, 31, 32]])
    whole = model(source, target)
    torch.testing.assert_close(model(functional.pad(source, (0, 3), value=PAD), target), whole)
    torch.testing.assert_close(model(source, target[:, :2]), whole[:, :2])


def test_the_plain_loop_keeps_its_budget_and_learns(loop: PlainLoop) -> None:
    stream = loop.batches()
    for _ in range(50):
        source, target = next(stream)
        assert len(source) == len(target)
        assert max(source.numel(), target.numel()) <= 256
        assert ((source != PAD).any(1) & (target != PAD).any(1)).all()
    batch = next(stream)
    before = loop.loss(*batch).item()
    assert sum(loop.step() for _ in range(40)) > 1000
    assert loop.loss(*batch).item() < before - 1


@pytest.mark.slow  # three processes import PyTorch
def test_one_run_compares_both(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUICK_SECONDS", "QUICK_WARM_UP"):
        monkeypatch.setattr(bench_train, name, 0.05)
    arguments = ["bench", "train", str(tiny_recipe), "--corpora", str(tmp_path / "kept"), "--quick", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["engine"] for row in report["engines"]] == ["nmt", "plain"]
    for row in report["engines"]:
        assert len(row["rounds"]) == 3 and sorted(row["rounds"])[1] == row["tokens_per_second"] > 0
    speeds = [row["tokens_per_second"] for row in report["engines"]]
    assert report["ratio"] == pytest.approx(speeds[0] / speeds[1])
    assert report["machine"]["processor"] and report["corpora"] == ["train"] and report["batch_tokens"] == 256
    assert list((tmp_path / "kept").glob("train*/pairs.arrow"))


def test_a_streamed_corpus_cannot_be_drawn_from(tiny_recipe: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    streamed = [dataclasses.replace(corpus, streaming=True) for corpus in recipe.corpora]
    corpora, _ = load_corpora(streamed, recipe.cleaning, recipe.root, tmp_path)
    with pytest.raises(UserError, match="streaming = false"):
        PlainLoop(recipe, corpora, vocabulary)
