"""Recipes that are based on others, and their comparison."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from samples import DE, EN

from model.config import SearchConfig
from model.errors import UserError
from model.transformer import build
from training import story
from training.compare import Run, by_length, compare, differences, draw_lengths, table, write
from training.recipe import load_recipe
from training.testset import TestSet

STORY = Path(story.__file__).parent / "recipes" / "story"
BASE = """
[model]
d_model = 16
num_heads = 2
d_ff = 16
encoder_layers = 1
decoder_layers = 1
max_length = 64
[vocabulary]
size = 340
[cleaning]
wrong_language = false
[training]
max_steps = 3
max_tokens = 40
batch_tokens = 256
bf16 = false
log_steps = 1
[[corpus]]
path = "train.tsv"
source = "en"
target = "de"
"""


def test_a_recipe_holds_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "middle.toml").write_text('base = "../base.toml"\n[model]\nnorm = "rms"\n')
    (tmp_path / "deep" / "top.toml").write_text('base = "middle.toml"\n[training]\nmax_steps = 9\n')
    base, top = load_recipe(tmp_path / "base.toml"), load_recipe(tmp_path / "deep" / "top.toml", ["model.d_ff=8"])
    assert (top.model.norm, top.model.d_model, top.model.d_ff) == ("rms", 16, 8)
    assert (top.training.max_steps, top.training.max_tokens, top.name) == (9, 40, "top")
    assert top.corpora == base.corpora and top.root.resolve() == tmp_path
    (tmp_path / "loop.toml").write_text('base = "loop.toml"\n')
    with pytest.raises(UserError, match="is based on itself"):
        load_recipe(tmp_path / "loop.toml")
    (tmp_path / "lost.toml").write_text('base = "nowhere.toml"\n')
    with pytest.raises(UserError, match=r"nowhere\.toml: No such file"):
        load_recipe(tmp_path / "lost.toml")


def test_the_recipes_of_the_story_cover_every_choice_at_equal_size() -> None:
    recipes = {path.stem: load_recipe(path) for path in STORY.glob("*.toml")}
    models = {name: recipe.model for name, recipe in recipes.items()}
    assert {m.positions for m in models.values()} == {"rotary", "sinusoidal", "learned"}
    assert {m.activation for m in models.values()} == {"relu", "gelu", "swiglu"}
    assert {(m.norm_position, m.norm) for m in models.values()} == {("pre", "layer"), ("post", "layer"), ("pre", "rms")}
    assert {m.num_heads for m in models.values()} == {1, 4, 8}
    assert {m.experts for m in models.values()} == {1, 4} and "decoder-only" in {
        m.architecture for m in models.values()
    }

    def size(name: str) -> int:
        model = build(models[name])
        return sum(p.numel() for key, p in model.named_parameters() if "positions" not in key)

    for name in models:
        if not name.startswith("experts"):
            assert size(name) == pytest.approx(size("base"), rel=0.01), name
    for recipe in recipes.values():
        assert recipe.training.max_steps == recipes["base"].training.max_steps


def run(recipe: str, seed: int, bleu: float, **choices: Any) -> Run:
    defaults = {"model.positions": "rotary", "model.norm": "layer", "model.experts": 1}
    defaults |= {"training.max_tokens": 64, "training.seed": seed}
    return Run(
        recipe, seed, "", defaults | choices, 1000, 2_000_000, 3000.4, 60.0, 500.0, bleu, bleu, 1.5, "sig",
        {"1-8": {"sentences": 3, "bleu": bleu + 1}, "9-12": {"sentences": 2, "bleu": bleu - 1}},
    )  # fmt: skip


TEST = TestSet("t", "en", "de", ("a", "b"), (("c",), ("d",)))


def test_the_table_has_a_row_a_recipe_over_its_seeds(tmp_path: Path) -> None:
    runs = [
        run("base", 1, 20.0),
        run("base", 2, 22.0),
        run("rms", 1, 30.0, **{"model.norm": "rms"}),
        run("rms", 2, 31.0, **{"model.norm": "rms"}),
        run("short", 1, 5.0, **{"training.max_tokens": 16, "model.positions": "learned"}),
    ]
    assert differences(runs) == {"base": "–", "rms": "norm = rms", "short": "positions = learned, max_tokens = 16"}
    text = table(runs, TEST, SearchConfig())
    assert "| base | – | 1,000 | 2.00 M | 3,000 | 500 | 21.0 ± 1.5 | 20.0, 22.0 |" in text
    assert "| rms | norm = rms | 1,000 | 2.00 M | 3,000 | 500 | 30.5 ± 1.5 | 30.0, 31.0 |" in text
    assert "| recipe | longest trained | 1-8 (3) | 9-12 (2) |" in text
    assert "| short | 16 | 6.0 | 4.0 |" in text
    write(runs, tmp_path, TEST, SearchConfig(), tmp_path / "results.md")
    assert "](results-bleu.png)" in (tmp_path / "results.md").read_text(encoding="utf-8")
    for name in ("bleu", "lengths"):
        assert (tmp_path / f"results-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_lengths(runs[:4], tmp_path / "none.png")  # no other positions, no picture


def test_bleu_by_length_sees_each_sentence_once() -> None:
    test = TestSet("t", "en", "de", tuple("abcd"), (("one two three four",),) * 4)
    texts = ["one two three four", "x", "one two three four", "y"]
    found = by_length(texts, test, [3, 9, 8, 50])
    assert {name: int(values["sentences"]) for name, values in found.items()} == {"1-8": 2, "9-12": 1, "over 32": 1}
    assert found["1-8"]["bleu"] == pytest.approx(100.0) and found["9-12"]["bleu"] < 1


@pytest.mark.slow
def test_a_run_is_trained_once_and_scored(tmp_path: Path) -> None:
    draw = random.Random(0)
    numbers = [[draw.randrange(10) for _ in range(draw.randint(2, 8))] for _ in range(600)]
    pairs = [(" ".join(EN[d] for d in digits), " ".join(DE[d] for d in digits)) for digits in numbers]
    (tmp_path / "train.tsv").write_text("".join(f"{en}\t{de}\n" for en, de in pairs[20:]), encoding="utf-8")
    test = TestSet("numbers", "en", "de", tuple(en for en, _ in pairs[:20]), tuple((de,) for _, de in pairs[:20]))
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "experts.toml").write_text('base = "base.toml"\n[model]\nexperts = 2\n')
    paths, out, search = [tmp_path / "experts.toml"], tmp_path / "runs", SearchConfig(beam_size=1)
    lines: list[str] = []
    (one,) = runs = compare(paths, out, test, [1], search, [], lines.append)
    assert (one.recipe, one.seed) == ("experts", 1) and len(lines) == 1
    assert one.peak_mb > 50 and one.tokens > 0 and one.tokens_per_second > 0 and "bs:1000" in one.signature
    folder = out / "experts.seed1"
    assert len((folder / "hypotheses.txt").read_text(encoding="utf-8").splitlines()) == 20
    log = (folder / "train.log").read_bytes()
    assert compare(paths, out, test, [1], search, [], lines.append) == runs
    assert (folder / "train.log").read_bytes() == log  # it did not run again
    with pytest.raises(UserError, match="holds a run of other settings"):
        compare(paths, out, test, [1], search, ["training.max_steps=4"], lines.append)
    write(runs, out, test, search, tmp_path / "results.md")
    assert (tmp_path / "results-experts.png").stat().st_size > 5_000  # what its experts take


# The pictures ------------------------------------------------------------------------------------------------------


def test_gradients_vanish_without_residual_connections() -> None:
    with_path = story.gradient_norms(story.ResidualAlone, "pre", depth=12)
    neither = story.gradient_norms(story.Neither, "pre", depth=12)
    assert with_path[0] / with_path[-1] > 0.5
    assert neither[0] / neither[-1] < 1e-3


def test_every_picture_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_directory: Path) -> None:
    story.draw_positions(tmp_path / "positions.png")
    story.draw_activations(tmp_path / "activations.png")
    for name in ("positions", "activations"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
