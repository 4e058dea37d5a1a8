from __future__ import annotations

import numpy as np
import pytest

from model.errors import UserError
from training.augment import AugmentationConfig, add_noise, german_formality, join_some

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
