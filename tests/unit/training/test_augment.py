from __future__ import annotations

import numpy as np
import pytest

from model.errors import UserError
from training.augment import NAMES, AugmentationConfig, add_noise, german_formality, join_some, mistyped, names

PAIRS = [(f"source {i}.", f"target {i}.") for i in range(200)]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_joining_keeps_every_pair_once_and_in_order(probability: float) -> None:
    joined = join_some(PAIRS, probability, rng())
    for side in (0, 1):
        assert " ".join(pair[side] for pair in joined) == " ".join(pair[side] for pair in PAIRS)
    assert all(source.replace("source", "target") == target for source, target in joined)
    assert len(joined) == {0.0: 200, 1.0: 100}.get(probability, len(joined))
    assert max(source.count("source") for source, _ in joined) <= 2


def test_noise_comes_as_often_as_asked_and_changes_both_sides_alike() -> None:
    config, random = AugmentationConfig(lower_case=0.2, upper_case=0.1, no_full_stop=0.3), rng()
    noisy = [add_noise("A Cat.", "Die Katze.", config, random) for _ in range(4000)]
    shares = {pair: noisy.count(pair) / 4000 for pair in set(noisy)}
    assert shares == pytest.approx(
        {
            ("a cat.", "Die Katze."): 0.2,
            ("A CAT.", "DIE KATZE."): 0.1,
            ("A Cat", "Die Katze"): 0.3,
            ("A Cat.", "Die Katze."): 0.4,
        },
        abs=0.03,
    )


def test_noise_leaves_alone_what_it_would_break() -> None:
    assert add_noise("Street", "Straße", AugmentationConfig(upper_case=1.0), rng()) == ("Street", "Straße")
    assert add_noise("Why?", "Warum.", AugmentationConfig(no_full_stop=1.0), rng()) == ("Why?", "Warum.")
    assert add_noise("x.", "y.", AugmentationConfig(), rng()) == ("x.", "y.")


def test_typing_errors() -> None:
    random = rng()
    found = {mistyped("Das schöne Wetter!", "What nice weather!", random) for _ in range(300)}
    assert "Das schoene Wetter!" in found  # umlauts spelt out
    assert {"Das schne Wetter!", "Das schööne Wetter!", "Das shcöne Wetter!"} <= found  # missing, doubled, swapped
    assert "Das schöne Wettr!" in found
    assert {text.split()[0] for text in found} == {"Das"}  # too short a word
    assert {len(text.split()) for text in found} == {3} and {text[-1] for text in found} == {"!"}
    assert {mistyped("I can't.", "Kann nicht.", random) for _ in range(50)} == {"I cant.", "I can't."}


def test_typing_errors_leave_alone_what_is_copied() -> None:
    source = "Berlin {name} https://example.org/page %(total)s <strong> &nbsp; mail@example.org #holiday"
    assert {mistyped(source, "Berlin ...", rng()) for _ in range(20)} == {source}


def test_typing_errors_come_as_often_as_asked_and_into_the_source_alone() -> None:
    config, random = AugmentationConfig(no_full_stop=0.5, typos=0.3), rng()
    noisy = [add_noise("Horses.", "Pferde!", config, random) for _ in range(4000)]
    assert {target for _, target in noisy} == {"Pferde!"}
    assert np.mean([source != "Horses." for source, _ in noisy]) == pytest.approx(0.3, abs=0.03)


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"join = 1.5 must lie in \[0, 1\]"):
        AugmentationConfig(join=1.5)


@pytest.mark.parametrize(
    ("german", "english", "form"),
    [
        ("Wie geht es Ihnen?", "How are you?", "formal"),
        ("Sie sind zu spät.", "You are late.", "formal"),
        ("Ist das Ihr Hund?", "Is this your dog?", "formal"),
        ("Wie geht es dir?", "How are you?", "informal"),
        ("Du bist zu spät.", "You are late.", "informal"),
        ("Ihr seid zu spät.", "You are late.", "informal"),
        ("Ich habe euch gesehen.", "I saw you.", "informal"),
        ("Deine Mutter rief an.", "Your mother called.", "informal"),
        ("Sie ist zu spät.", "She is late.", "default"),
        ("Sie sind zu spät.", "They are late.", "default"),
        ("Ihr Hund bellt.", "Her dog barks.", "default"),
        ("Ich sah, dass sie ihr Buch las.", "I saw her read her book.", "default"),
        ("Es regnet.", "It is raining.", "default"),
        ("Er sagte zu Ihnen: Du irrst dich.", 'He said to you: "You are wrong."', "default"),
    ],
)
def test_the_form_of_address_of_german(german: str, english: str, form: str) -> None:
    assert german_formality(german, english) == form


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Tom met Mary in Boston.", "Tom hat Maria in Boston getroffen."),
        ("Tom's house is in Australia.", "Toms Haus ist in Australien."),
        ("Does Tom like New York? Tom?", "Mag Tom New York? Tom?"),
    ],
)
def test_names_become_others_of_their_kind_on_both_sides(source: str, target: str) -> None:
    known, random = names("en", "de"), rng()
    drawn = [known.exchange(source, target, random) for _ in range(200)]
    assert len(set(drawn)) > 100
    for a, b in drawn:
        here, there = (
            [m[1] for m in pattern.finditer(side)] for pattern, side in zip(known.patterns, (a, b), strict=True)
        )
        assert {(x, y) for x in here for y in there} & known.kinds.keys()
        assert "Australi" not in a or "Australien" in b
        assert known.exchange(a, b, random) != (a, b) or "'s" in a  # what came in can be found again
    assert any(" Özdemir" in a and " Özdemir" in b for a, b in drawn)  # a surname comes with some


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Tom is here.", "Er ist hier."),
        ("He is here.", "Tom ist hier."),
        ("Tom saw John.", "Tom sah ihn."),
        ("Tom's here.", "Thomas ist hier."),  # not the same name
        ("A tomcat in Bostonia.", "Ein Tomcat in Bostonia."),
        ("Mr. White is white.", "Herr White ist weiß."),  # a surname stays
    ],
)
def test_pairs_that_do_not_name_the_same_stay(source: str, target: str) -> None:
    assert names("en", "de").exchange(source, target, rng()) == (source, target)
    assert names("en", "fr").exchange("Tom.", "Tom.", rng()) == ("Tom.", "Tom.")  # the list has no French


def test_the_list_of_names() -> None:
    header, *rows = (line.split("\t") for line in NAMES.read_text(encoding="utf-8").splitlines())
    assert header == ["kind", "en", "de"] and len(rows) > 300
    assert all(len(row) == 3 and all(part == part.strip() and part for part in row) for row in rows)
    kinds: dict[str, set[str]] = {}
    for kind, english, _ in rows:
        kinds.setdefault(english, set()).add(kind)
    assert all(len(found) == 1 for found in kinds.values())  # "Jordan", a man and a country, cannot be told apart
