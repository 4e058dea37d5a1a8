from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest
import safetensors
from click.testing import CliRunner

from model.errors import UserError
from training.recipe import load_recipe
from training.reproduce import main, reproduce
from training.testset import load_test_set


def test_from_corpus_to_scores_of_two_seeds(tiny_recipe: Path, tmp_path: Path) -> None:
    arguments = [str(tiny_recipe), "--out", str(tmp_path), "--seeds", "3,4", "--json"]
    arguments += ["--set", "training.average_checkpoints=1", "--set", "training.validate_steps=2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    rows = {(row["test"], row["metric"], row["checkpoint"]): row for row in report["rows"]}
    metrics = [("test en-de", "BLEU"), ("test en-de", "BLEU-moses"), ("test de-en", "BLEU")]
    assert set(rows) == {(*key, checkpoint) for key in metrics for checkpoint in ("best", "averaged")}
    for row in rows.values():
        assert len(row["scores"]) == 2 and row["mean"] == statistics.mean(row["scores"])
        assert row["deviation"] == statistics.stdev(row["scores"])
    assert "tok:moses" in report["signatures"]["BLEU-moses"]
    weights = [(tmp_path / f"seed-{seed}" / "best" / "model.safetensors").read_bytes() for seed in (3, 4)]
    assert weights[0] != weights[1]
    again = reproduce(tiny_recipe, tmp_path, [3], arguments[7::2], print)  # trained already: only scored
    assert [row["scores"] for row in again["rows"]] == [row["scores"][:1] for row in report["rows"]]


def test_what_is_stopped_goes_on_and_nothing_is_scored_before(tiny_recipe: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def stop() -> None:  # as soon as it trains
        while not (tmp_path / "seed-3" / "log.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(UserError, match="trained seed 3; the same command goes on"):
        reproduce(tiny_recipe, tmp_path, [3, 4], ["training.max_steps=100000", "training.log_steps=1"], lines.append)
    assert len(lines) == 1 and not (tmp_path / "seed-4").exists()
    assert reproduce(tiny_recipe, tmp_path, [3], [f"training.max_steps={steps_of(tmp_path / 'seed-3')}"], print)["rows"]


def steps_of(folder: Path) -> int:
    with safetensors.safe_open(folder / "state.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def test_what_a_user_can_do_wrong(tiny_recipe: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(main, [str(tiny_recipe), "--out", str(tmp_path), "--seeds", "a"]).exit_code == 2
    result = CliRunner().invoke(main, [str(tmp_path / "none.toml"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "none.toml" in result.output
    with pytest.raises(UserError, match="compares two draws of dropout"):
        load_recipe(tiny_recipe, ["training.r_drop=5.0", "model.dropout=0.0"])
    several = tmp_path / "several.tsv"
    several.write_text("a\tb\tc\n")
    with pytest.raises(UserError, match="several references"):
        load_test_set(several, "en", "de").turned()


def test_a_test_set_turned_round_twice_is_itself(tiny_recipe: Path) -> None:
    test = load_test_set(tiny_recipe.parent / "test.tsv", "en", "de")
    turned = test.turned()
    assert (turned.source, turned.target) == ("de", "en")
    assert turned.sources == tuple(reference for (reference,) in test.references)
    assert turned.turned() == test
    assert load_test_set(tiny_recipe.parent / "test.tsv", "de", "en", turned=True) == turned
