"""Nouns of a lexicon in the sentences of a corpus, on a grammar small enough to check by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from training.lexicon import common, common_entries
from training.nouns import SENTENCES, in_sentences, kinds


def noun(genus: str, singular: str, plural: str, accusative: str = "", dative: str = "") -> dict[str, Any]:
    return {
        "genus": genus,
        "flexion": {
            "nominativ singular": singular,
            "akkusativ singular": accusative or singular,
            "nominativ plural": plural,
            "dativ plural": dative or plural,
        },
    }


NOUNS = [
    noun("m", "Hund", "Hunde", dative="Hunden"),
    noun("m", "Esel", "Esel", dative="Eseln"),
    noun("f", "Katze", "Katzen"),
    noun("n", "Pferd", "Pferde", dative="Pferden"),
    noun("m", "Affe", "Affen", accusative="Affen"),
    noun("m", "See", "Seen"),
    noun("f", "See", "Seen"),
]


def declined(word: str) -> Sequence[Mapping[str, Any]]:
    return [noun for noun in NOUNS if word in noun["flexion"].values()]


@pytest.mark.parametrize(
    ("english", "german", "kind"),
    [
        ("dog", "Hund", "m"),
        ("house cat", "Katze", "f"),
        ("dogs", "Hunde", "plural"),
        ("cats", "Katzen", "plural, dative alike"),
        ("donkey", "Esel", "m"),
        ("donkeys", "Esel", "plural"),
        ("monkey", "Affe", None),  # den Affen
        ("lake", "See", None),  # of two genders
        ("dogs", "Hunden", None),
        ("to dog", "hund", None),
        ("Dog", "Hund", None),
        ("the old dog", "Hund", None),
    ],
)
def test_which_nouns_are_declined_alike(english: str, german: str, kind: str | None) -> None:
    assert kinds([(english, german)], declined).get((english, german)) == kind


def test_a_noun_takes_the_place_of_another_of_its_kind() -> None:
    known = kinds([("dog", "Hund"), ("donkey", "Esel"), ("horse", "Pferd"), ("cat", "Katze")], declined)
    corpus = [
        ("He has a dog.", "Er hat einen Hund."),
        ("The dog saw my dog.", "Der Hund sah meinen Hund."),  # which one is it?
        ("A hot dog!", "Eine Wurst!"),
        ("I fed the dog-like cat.", "Ich habe die Katze gefüttert."),
    ]
    anchors = {pair: kind for pair, kind in known.items() if pair[0] in ("dog", "cat")}
    new = kinds([("ass", "Esel"), ("cat", "Katze"), ("horse", "Pferd")], declined)
    found = list(in_sentences(new, anchors, corpus, np.random.default_rng(1)))
    assert (
        found
        == [("He has an ass.", "Er hat einen Esel.")] * SENTENCES
        + [("I fed the dog-like cat.", "Ich habe die Katze gefüttert.")] * SENTENCES
    )  # a horse finds no place: no sentence has a neuter noun


def test_common_entries_are_short_and_frequent() -> None:
    assert common("the", "en") > 6 > common("pharmacy", "en") > 3 > common("xqzrk", "en") == common("...", "en") == 0
    entries = [("pharmacy", "Apotheke"), ("xqzrk", "Apotheke"), ("in the old house", "im alten Haus"), ("go", "xqzrk")]
    assert list(common_entries(entries, "en", "de")) == entries[:1]
