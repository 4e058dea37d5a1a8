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
from training.synthetic import TRANSLATIONS, other_wordings, synthetic_pairs, unknown_sentences, unseen


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


class Repeater:
    """Says the same of every text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Any]:
        return [SimpleNamespace(text=self.text) for _ in texts]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Der Hund schläft gerade.", True),
        ("der Hund schläft", False),  # a reference but for case and punctuation
        ("Ein Hund ist am Schlafen!", False),  # the other one
        ("Das Auto fährt.", False),  # like none
    ],
)
def test_another_wording_is_like_a_reference_but_none(said: str, kept: bool) -> None:
    text = "The dog is asleep."
    known = [(text, "Der Hund schläft."), (text, "Ein Hund ist am Schlafen."), ("A dog.", "Der Hund schläft.")]
    found = list(other_wordings(cast(Translator, Repeater(said)), known, "en", "de"))
    assert found == ([(text, said)] if kept else [])  # "A dog." is too short


def test_no_sentence_of_a_test_appears_on_either_side() -> None:
    found = [("a", "b"), ("a", "b"), ("A test.", "b"), ("a", "EIN TEST")]
    assert list(unseen(found, ["a test", "ein Test!"])) == [("a", "b")]


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


def test_the_command_again(tmp_path: Path) -> None:
    text, more, test, output = (tmp_path / name for name in ("text.tsv", "more.tsv", "test.tsv", "out.tsv"))
    text.write_text("I am tired, you know.\tIch bin müde, weißt du, sehr.\n")
    more.write_text("Tom is a man, a good one.\tTom ist ein Mann, ein guter.\n")

    def made(*options: str | Path) -> list[list[str]]:
        command = [sys.executable, "-m", "training.synthetic", text, more, "--again", *options, "-o", output]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        rows = [line.split("\t") for line in output.read_text().splitlines()]
        assert f"{len(rows)} pairs of 2 known ones" in done.stdout
        return rows

    rows = made()
    corpus = [path.read_text().strip().split("\t") for path in (text, more)]
    assert all(row not in corpus for row in rows)
    assert {source for source, _ in rows} & {source for source, _ in corpus}  # with a new target,
    assert {target for _, target in rows} & {target for _, target in corpus}  # and the other way round
    for side in range(2):
        test.write_text(f"Whatever.\t{rows[0][side]}\n")
        assert made("--without", test, "--without", more) == [
            row
            for row in rows[1:]
            if row[side] != rows[0][side] and row[0] not in corpus[1] and row[1] not in corpus[1]
        ]
