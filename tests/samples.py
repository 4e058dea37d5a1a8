"""Made-up sentences of a few known words."""

from __future__ import annotations

import random

EN = "zero one two three four five six seven eight nine".split()
DE = "null eins zwei drei vier fünf sechs sieben acht neun".split()

WORDS = (
    "the a cat dog house station morning where is my coffee please good how are you today der die das Katze Hund Haus "
    "Bahnhof Morgen wo ist mein Kaffee bitte guten wie geht es dir heute ich habe keine Zeit"
).split()


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of 2 to 9 known words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) + rng.choice(".!?") for _ in range(count)]
