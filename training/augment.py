"""What happens to a pair on its way into a batch: noise that makes the model robust, and the form of address.

Corpora hold tidy single sentences; users send headlines, chats without capitals and paragraphs. Each change is drawn
with a small probability and keeps the two sides translations of each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.config import check

Pair = tuple[str, str]


@dataclass(frozen=True)
class AugmentationConfig:
    """Probabilities, a pair."""

    join: float = 0.0  # two pairs become one: teaches length, and that a text may hold several sentences
    lower_case: float = 0.0  # of the source alone: people type so, and want a proper translation
    upper_case: float = 0.0  # of both sides
    no_full_stop: float = 0.0  # neither side ends with one

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check(0.0 <= value <= 1.0, f"{name} = {value} must lie in [0, 1]")


def join_some(pairs: Sequence[Pair], probability: float, rng: np.random.Generator) -> list[Pair]:
    """Join pairs with their successors; what is joined once is left alone."""
    joined: list[Pair] = []
    draws = rng.random(len(pairs)) < probability
    i = 0
    while i < len(pairs):
        if draws[i] and i + 1 < len(pairs):
            joined.append((f"{pairs[i][0]} {pairs[i + 1][0]}", f"{pairs[i][1]} {pairs[i + 1][1]}"))
            i += 2
        else:
            joined.append(pairs[i])
            i += 1
    return joined


def add_noise(source: str, target: str, config: AugmentationConfig, rng: np.random.Generator) -> Pair:
    """At most one of the changes, each with its own probability."""
    draw = rng.random()
    if draw < config.lower_case:
        return source.lower(), target
    draw -= config.lower_case
    if draw < config.upper_case and "ß" not in source + target:  # "STRASSE" has no way back
        return source.upper(), target.upper()
    draw -= config.upper_case
    if draw < config.no_full_stop and source.endswith(".") and target.endswith("."):
        return source.rstrip("."), target.rstrip(".")
    return source, target


# German: "Sie" and its forms are an address where a capital is not owed to the start of a sentence; there, and for
# "ihr" (also "her", "their"), the English side decides.
_FORMAL = re.compile(r"(?<=[\w,;)–-] )(?:Sie|Ihnen|Ihre?[mnrs]?)\b")
_FORMAL_FIRST = re.compile(r"\bSie\b|\b(?:Ihnen|Ihre?[mnrs]?)\b(?! [a-zäöü]*[dt]\b)")  # not "Ihr seid"
_INFORMAL = re.compile(r"\b(?:du|dich|dir|deine?[mnrs]?|euch|euer|eure[mnrs]?)\b", re.IGNORECASE)
_INFORMAL_PLURAL = re.compile(r"\bihr\b", re.IGNORECASE)
_YOU = re.compile(r"\b(?:you|your|yours|yourself|yourselves)\b", re.IGNORECASE)
_THEM = re.compile(r"\b(?:she|her|hers|herself|they|them|their|theirs|themselves)\b", re.IGNORECASE)


def german_formality(german: str, english: str) -> str:
    """The form of address that a German sentence uses: "formal" (Sie), "informal" (du, ihr), or "default" where it
    uses none, both, or one that cannot be told.
    """
    to_you = bool(_YOU.search(english)) and not _THEM.search(english)
    formal = bool(_FORMAL.search(german)) or (to_you and bool(_FORMAL_FIRST.search(german)))
    informal = bool(_INFORMAL.search(german)) or (to_you and not formal and bool(_INFORMAL_PLURAL.search(german)))
    if formal == informal:
        return "default"
    return "formal" if formal else "informal"


FORMALITY_RULES = {"de": german_formality}  # a target language: (target, source) -> form of address
