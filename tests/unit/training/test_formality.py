from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.errors import UserError
from service.cli import main
from training.formality import evaluate_formality, label, score
from training.testset import TestSet

FORMAL = "[F]Haben Sie[/F] [F]Ihren[/F] Hund dabei, fragt er [F]Sie[/F]."
INFORMAL = "[F]Hast du[/F] [F]deinen[/F] Hund dabei, fragt er [F]dich[/F]."


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        ("Haben Sie einen Hund?", "formal"),
        ("Sie haben den Hund dabei.", "formal"),  # the words of a phrase in any order
        ("Ist das Ihren Hund wert?", "formal"),
        ("Hast du einen Hund?", "informal"),
        ("Haben Sie deinen Hund?", "both"),
        ("Ein Hund ist dabei.", "neither"),
        ("Hast einen Hund, du?", "neither"),  # half a phrase; "du?" is another word
        ("hast du einen Hund?", "neither"),  # case counts
    ],
)
def test_the_marked_phrases_decide(hypothesis: str, expected: str) -> None:
    assert label(hypothesis, FORMAL, INFORMAL) == expected


def test_accuracy_is_of_those_that_can_be_told() -> None:
    hypotheses = ["Haben Sie ihn?", "Hast du ihn?", "Sie haben Ihren Hund", "Haben Sie deinen", "Ein Hund"]
    found = score("formal", hypotheses, [(FORMAL, INFORMAL)] * 5)
    assert (found.formal, found.informal, found.both, found.neither) == (2, 1, 1, 1)
    assert found.accuracy == pytest.approx(2 / 3)
    assert score("informal", hypotheses, [(FORMAL, INFORMAL)] * 5).accuracy == pytest.approx(1 / 3)
    assert score("default", hypotheses, [(FORMAL, INFORMAL)] * 5).accuracy is None
    assert score("formal", ["Ein Hund"], [(FORMAL, INFORMAL)]).accuracy is None


def test_bleu_is_against_the_form_asked_for_without_marks() -> None:
    formal = "Haben Sie Ihren Hund dabei, fragt er Sie."
    assert score("formal", [formal], [(FORMAL, INFORMAL)]).bleu == pytest.approx(100.0)
    assert score("informal", [formal], [(FORMAL, INFORMAL)]).bleu < 60
    assert score("default", [formal], [(FORMAL, INFORMAL)]).bleu == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("references", "message"),
    [([("nur eine",)], "line 1: 1 references"), ([("keine Marken", "auch nicht")], r"no word is marked \[F\]")],
)
def test_another_test_set_is_refused(references: list[tuple[str, ...]], message: str) -> None:
    test = TestSet("toy", "en", "de", ("a",), tuple(references))
    with pytest.raises(UserError, match=message):
        evaluate_formality(None, test)  # type: ignore[arg-type]


def test_the_command_scores_every_form_that_the_model_has(checkpoint_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "form.tsv"
    path.write_text("Where is your dog?\tWo ist [F]Ihr[/F] Hund?\tWo ist [F]dein[/F] Hund?\n", encoding="utf-8")
    arguments = ["evaluate", "--formality", "--test", str(path), "--from", "en", "--to", "de", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    scores = {one["asked"]: one for one in json.loads(result.stdout)["scores"]}
    assert list(scores) == ["default", "formal", "informal"]
    assert scores["formal"]["accuracy"] == scores["informal"]["accuracy"] == 1.0
    result = CliRunner().invoke(main, [*arguments, "--checkpoint", str(checkpoint_directory)])
    assert result.exit_code == 2 and "formality" in result.output
