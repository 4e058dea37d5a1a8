"""The model in the package: it is whole, small enough, and translates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model import Translator, checkpoint
from model.config import SearchConfig
from model.glossary import Glossary
from training.evaluate import quick_bleu
from training.terms import bench_glossary
from training.testset import load_test_set

SHARED = Path(__file__).parents[3] / "shared" / "data" / "eval"


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator.load()


@pytest.mark.parametrize(
    ("source", "target", "text", "right"),
    [
        ("en", "de", "Where is the station?", {"Wo ist der Bahnhof?"}),
        (
            "en",
            "de",
            "I would like a cup of coffee, please.",
            {
                f"Ich {verb} {adverb} eine Tasse Kaffee, bitte."
                for verb in ("hätte", "möchte", "würde")
                for adverb in ("gern", "gerne", "bitte")
            }
            | {"Ich möchte eine Tasse Kaffee, bitte.", "Ich möchte bitte eine Tasse Kaffee."}
            | {f"Ich hätte {gern} eine Tasse Kaffee{end}." for gern in ("gern", "gerne") for end in ("", " bitte")},
        ),
        ("en", "de", "Hello", {"Hallo"}),
        ("de", "en", "Sehr geehrter Herr Müller,", {"Dear Mr. Müller,", "Dear Mr Müller,"}),
        ("de", "en", "Ich habe heute keine Zeit.", {"I don't have time today.", "I have no time today."}),
    ],
)
def test_everyday_sentences(translator: Translator, source: str, target: str, text: str, right: set[str]) -> None:
    assert translator.translate([text], source, target)[0].text in right


@pytest.mark.parametrize(
    ("formality", "text", "right", "wrong"),
    [
        ("formal", "How are you?", {"Sie", "Ihnen"}, {"du", "dir", "euch"}),
        ("informal", "How are you?", {"du", "dir", "euch"}, {"Sie", "Ihnen"}),
        ("formal", "Where is your car?", {"Ihr"}, {"dein"}),
        ("informal", "Where is your car?", {"dein"}, {"Ihr"}),
    ],
)
def test_the_reader_is_addressed_as_asked(
    translator: Translator, formality: str, text: str, right: set[str], wrong: set[str]
) -> None:
    words = set(translator.translate([text], "en", "de", formality=formality)[0].text.strip("?.!").split())
    assert words & right and not words & wrong


def test_text_keeps_its_shape(translator: Translator) -> None:
    text = "  Good morning.  How are you?\n\n\tI am fine.\r\n"
    found = translator.translate([text], "en", "de")[0].text
    assert found.startswith("  ") and found.endswith("\r\n") and ".  " in found and "?\n\n\t" in found


@pytest.mark.parametrize(
    ("source", "text", "numbers"),
    [
        ("de", "Am 24.12.2023 um 18:30 Uhr feiern wir.", ["24.12.2023", "18:30"]),
        ("de", "Geboren am 5.6.1990 in Köln.", ["5.6.1990"]),
        ("de", "Zwischen dem 1.4.2020 und dem 17.5.2020 war geschlossen.", ["1.4.2020", "17.5.2020"]),
        ("de", "In Swasiland leben 245000 Aidswaisen.", ["245000"]),
        ("en", "The train number 1721 leaves at 17:41.", ["1721", "17:41"]),
    ],
)
@pytest.mark.parametrize("beam_size", [1, 5])
def test_dates_and_long_numbers_come_out(
    translator: Translator, source: str, text: str, numbers: list[str], beam_size: int
) -> None:
    target = {"de": "en", "en": "de"}[source]
    (found,) = translator.translate([text], source, target, SearchConfig(beam_size=beam_size))
    assert all(number in found.text for number in numbers), found.text
    assert not found.warnings


@pytest.mark.parametrize("text", ["THE DOOR IS OPEN.", "PLEASE READ THIS BOOK!"])
def test_capitals_are_translated_as_sentences_are(translator: Translator, text: str) -> None:
    capitals, sentence = (t.text for t in translator.translate([text, text.capitalize()], "en", "de"))
    assert capitals == sentence.replace("ß", "ẞ").upper() != text


def test_a_term_in_capitals_stays_as_the_glossary_has_it(translator: Translator) -> None:
    glossary = Glossary.of([("station", "Bahnhof")], ignore_case=True)
    (found,) = translator.translate(["WHERE IS THE STATION?"], "en", "de", glossary=glossary, alignments=True)
    assert "Bahnhof" in found.text and not found.warnings
    link = next(link for link in found.hypotheses[0].alignment if found.text[link.target.start :].startswith("Bahnhof"))
    assert "WHERE IS THE STATION?"[link.source.start : link.source.end] == "STATION?"


def test_it_is_small_and_says_where_it_comes_from() -> None:
    files = list(checkpoint.PRETRAINED.iterdir())
    assert sum(file.stat().st_size for file in files) <= 40_000_000
    card = checkpoint.load(checkpoint.PRETRAINED).card
    assert "tatoeba.org" in card and "CC BY 2.0 FR" in card and "nrefs:" in card and "@" not in card


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the test sets of ../shared/data are not here")
@pytest.mark.parametrize(
    ("name", "least"), [("tatoeba.test.en-de", 51.5), ("tatoeba.test.de-en", 60.5), ("tatoeba.far.en-de", 42.5)]
)
def test_quality_has_a_floor(translator: Translator, name: str, least: float) -> None:
    """200 lines scatter by some points; `nmt evaluate` gives the figures of the model card."""
    source, target = name[-5:].split("-")
    test = load_test_set(SHARED / f"{name}.tsv", source, target)
    chosen = range(0, len(test.sources), len(test.sources) // 200)
    found = translator.translate([test.sources[i] for i in chosen], source, target)
    assert quick_bleu([translation.text for translation in found], [test.references[i] for i in chosen]) >= least


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the test sets of ../shared/data are not here")
def test_the_terms_of_a_glossary_come_out(translator: Translator) -> None:
    """On 200 sentences of each kind (90 scatter by a point), and what comes out is as good as without."""
    test = load_test_set(SHARED / "tatoeba.test.en-de.tsv", "en", "de")
    test = replace(test, sources=test.sources[:1000], references=test.references[:1000])
    rows = bench_glossary(translator, test, 200)["rows"]
    assert [row["sentences"] for row in rows] == [200] * 3
    for row in rows:
        assert row["placed"] >= 0.98
        assert row["warned"] == round((1 - row["placed"]) * row["terms"])  # never silence
        assert row["bleu_with"] >= row["bleu_without"]
