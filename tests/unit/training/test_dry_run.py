from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.config import ModelConfig
from model.errors import UserError
from model.transformer import EncoderDecoder
from model.vocabulary import Vocabulary
from service.cli import main
from training import dry_run
from training.dry_run import activations, forward_flops, plan
from training.recipe import load_recipe

RECIPES = Path(dry_run.__file__).parent / "recipes"


def test_flops_of_a_token_are_two_a_weight_and_its_attention() -> None:
    config = ModelConfig(vocab_size=1000, d_model=128, d_ff=512, encoder_layers=3, decoder_layers=2)
    with torch.device("meta"):
        model = EncoderDecoder(config)
    products = sum(w.numel() for name, w in model.named_parameters() if w.dim() == 2)
    attention = 4 * dry_run.LENGTH * 128 * (3 + 2 * 2)
    assert forward_flops(config) == 2 * products + attention  # the one matrix of both embeddings is the output's


def test_a_run_is_steps_times_batches(tiny_recipe: Path) -> None:
    one = plan(load_recipe(tiny_recipe))
    two = plan(load_recipe(tiny_recipe, ["training.accumulate=3"]), processes=2)
    assert one.steps == 3 and one.batch == 256 and two.batch == 6 * one.batch
    assert one.target_tokens == 3 * 256 * dry_run.FILLED
    assert two.flops == 6 * one.flops
    assert plan(load_recipe(tiny_recipe, ["training.r_drop=1.0"])).flops == 2 * one.flops
    assert one.state_bytes == 20 * one.parameters
    assert one.corpora[0].startswith("train (0.0 MiB")


def test_the_vocabulary_is_the_one_that_the_run_will_have(tiny_recipe: Path, checkpoint_directory: Path) -> None:
    own = plan(load_recipe(tiny_recipe)).parameters
    given = plan(load_recipe(tiny_recipe, [f"vocabulary.path={checkpoint_directory / 'vocabulary.model'}"])).parameters
    started = load_recipe(tiny_recipe, [f"training.initial={checkpoint_directory}"])
    sizes = len(Vocabulary.load(checkpoint_directory / "vocabulary.model")), started.vocabulary.size
    assert plan(started).parameters == given == own + (sizes[0] - sizes[1]) * started.model.d_model != own


def test_activations_are_counted_on_the_model_itself() -> None:
    sizes = []
    for layers in (1, 3):
        model = EncoderDecoder(ModelConfig(vocab_size=50, encoder_layers=layers, decoder_layers=1, dropout=0.0))
        sizes.append(activations(model, bf16=False)[0])
    # A layer keeps at least its three normed inputs, queries, keys, values, inner activation and two branches: 11 x 256
    assert sizes[1] - sizes[0] > 2 * 4 * 10 * 256
    assert sizes[1] < 3 * sizes[0]


def test_a_step_is_never_shorter_than_its_overheads(tiny_recipe: Path) -> None:
    found = plan(load_recipe(tiny_recipe))
    for gpu in dry_run.GPUS:
        assert found.hours(gpu) * 3600 / found.steps > 1e-4  # a tiny model: launching kernels takes the time


@pytest.mark.parametrize(("name", "millions"), [("wmt14-base", 65), ("wmt14-big", 213)])
def test_the_recipes_for_many_gpus_have_the_size_of_the_paper(name: str, millions: int) -> None:
    """Vaswani et al. 2017, table 3."""
    recipe = load_recipe(RECIPES / f"{name}.toml")
    with torch.device("meta"):
        model = EncoderDecoder(dataclasses.replace(recipe.model, vocab_size=recipe.vocabulary.size))
    assert sum(w.numel() for w in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.04)


def test_a_recipe_for_many_gpus_is_planned_without_a_network() -> None:
    result = CliRunner().invoke(main, ["train", str(RECIPES / "wmt14-base.toml"), "--dry-run", "--processes", "8"])
    assert result.exit_code == 0, result.output
    for words in ("hub, streamed, not contacted", "100,000 of 25,000 tokens", "GiB a process", "FLOPs", "8 A100"):
        assert words in result.stdout


def test_what_is_missing_is_known_beforehand(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    corpus, test = recipe.corpora[0], recipe.tests[0]
    with pytest.raises(UserError, match="no such file"):
        plan(dataclasses.replace(recipe, corpora=(dataclasses.replace(corpus, path="none.tsv"),)))
    with pytest.raises(UserError, match=r"test set 'none\.tsv'"):
        plan(dataclasses.replace(recipe, tests=(dataclasses.replace(test, test="none.tsv"),)))


def test_a_run_without_a_folder_is_refused(tiny_recipe: Path) -> None:
    result = CliRunner().invoke(main, ["train", str(tiny_recipe)])
    assert result.exit_code == 2 and "add --out DIR, or --dry-run" in result.output
