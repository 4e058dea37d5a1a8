"""What experts take, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.config import ModelConfig
from model.errors import UserError
from model.transformer import build
from model.translator import Translator
from model.vocabulary import Vocabulary
from training.experts import bench, bench_table, draw, expert_use, kind, shares, use_as_dict, use_table
from training.testset import TestSet

TEST = TestSet("t", "en", "de", ("the cat is good.", "where is my dog?"), (("die Katze.",), ("wo ist mein Hund?",)))


def test_kinds_of_pieces(vocabulary: Vocabulary) -> None:
    kinds = [kind(vocabulary, id) for id in vocabulary.source_ids("the cats.", "de")]
    assert kinds[0] == kinds[-1] == "control" and kinds[1] == "beginning" and kinds[-2] == "mark" and "inside" in kinds
    digit = next(i for i in range(len(vocabulary)) if vocabulary.piece(i) == "<0x31>")
    assert kind(vocabulary, digit) == "inside"  # a byte, of whatever character


@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
def test_every_token_is_counted_under_its_language(vocabulary: Vocabulary, architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = architecture == "decoder-only"
    config = ModelConfig(
        vocab_size=len(vocabulary), architecture=architecture, encoder_layers=0 if alone else 1, decoder_layers=1,
        d_model=16, num_heads=2, d_ff=16, max_length=64, experts=4, experts_per_token=2,
    )  # fmt: skip
    use = expert_use(Translator(build(config).eval(), vocabulary, "random"), TEST)
    rows = shares(use)
    found = {(layer, language): count for layer, language, name, count, _ in rows if name == "all"}
    source = 2 * sum(len(vocabulary.source_ids(text, "de")) for text in TEST.sources)
    target = 2 * sum(len(vocabulary.encode(references[0])) + 1 for references in TEST.references)
    first = "decoder 0" if alone else "encoder 0"
    assert found == {(first, "en"): source, ("decoder 0", "de"): target}
    assert all(sum(values) == pytest.approx(1.0) for *_, values in rows)
    assert len(use_table(use).splitlines()) == len(rows) + 1 and json.dumps(use_as_dict(use))
    draw(use, tmp_path / "use.png")
    assert (tmp_path / "use.png").stat().st_size > 5_000


def test_a_model_without_experts_says_so(checkpoint_directory: Path) -> None:
    with pytest.raises(UserError, match="has no mixture of experts"):
        expert_use(Translator.load(checkpoint_directory, dtype="float32"), TEST)


def test_the_benchmark_has_a_row_a_setting() -> None:
    result = bench(experts=(2, 4), tokens=8, rounds=1)
    settings = [(row["experts"], row["experts_per_token"]) for row in result["rows"]]
    assert settings == [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]
    assert len(bench_table(result).splitlines()) == 4
