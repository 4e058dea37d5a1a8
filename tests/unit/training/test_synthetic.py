"""Pairs made by a model: which sentences are taken, and which translations stay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from model.config import SearchConfig
from model.translator import Translator
from training.synthetic import TRANSLATIONS, synthetic_pairs, unknown_sentences


@pytest.mark.parametrize(
    ("texts", "known", "fresh"),
    [
        (["A cat.", "A dog."], ["a cat!"], ["A dog."]),
        (["A cat.", "A  CAT", "A cart."], [], ["A cat.", "A cart."]),
        (["...", "", "é"], ["É?"], []),
    ],
)
def test_sentences_are_taken_once_and_only_unknown_ones(texts: list[str], known: list[str], fresh: list[str]) -> None:
    assert unknown_sentences(texts, known) == fresh


class Dictionary:
    """Knows one sentence by heart, and mistakes another for it."""

    BACK: ClassVar = {
        "der Hund schläft": "the dog sleeps",
        "ein Hund schläft": "a dog sleeps",
        "der Hund bellt": "the dog barks",
    }
    THERE: ClassVar = {
        "the dog sleeps": ["der Hund schläft", "ein Hund schläft", "ein Auto"],
        "a car": ["der Hund bellt"],
    }

    def translate(self, texts: Sequence[str], source: str, target: str, search: SearchConfig) -> list[Any]:
        if (source, target) == ("en", "de"):
            assert search.nbest == TRANSLATIONS
            return [self._translation(self.THERE[text][: search.nbest]) for text in texts]
        assert (source, target) == ("de", "en")
        return [self._translation([self.BACK[text]]) for text in texts]

    def _translation(self, hypotheses: list[str]) -> Any:
        return SimpleNamespace(text=hypotheses[0], hypotheses=[SimpleNamespace(text=text) for text in hypotheses])


def test_a_translation_stays_that_leads_back() -> None:
    found = synthetic_pairs(cast(Translator, Dictionary()), ["the dog sleeps", "a car"], "en", "de")
    assert list(found) == [("the dog sleeps", "der Hund schläft"), ("the dog sleeps", "ein Hund schläft")]


def test_the_command_with_the_shipped_model(tmp_path: Path) -> None:
    text, known, output = tmp_path / "text.tsv", tmp_path / "known.tsv", tmp_path / "new" / "out.tsv"
    text.write_text("The dog is asleep.\tLe chien dort.\nI am tired.\tJe suis fatigué.\nXqz vrrk blorp.\tXqz.\n")
    known.write_text("I am tired!\tIch bin müde!\n")
    command = [sys.executable, "-m", "training.synthetic", str(text), str(known), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert {source for source, _ in rows} - {"Xqz vrrk blorp."} == {"The dog is asleep."}
    assert any("schläft" in target for _, target in rows)
    assert f"{len(rows)} pairs of" in done.stdout and "of 2 sentences" in done.stdout
