"""What happens to a pair on its way into a batch: noise that makes the model robust, and the form of address.

Corpora hold tidy single sentences; users send headlines, chats without capitals and paragraphs. Each change is drawn
with a small probability and keeps the two sides translations of each other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    typos: float = 0.0  # of the source alone: people type in a hurry, and want a proper translation
    names: float = 0.0  # the names of people and places become others: a corpus knows few of them, and those by heart

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
    draw -= config.no_full_stop
    if 0 <= draw < config.typos:
        return mistyped(source, target, rng), target
    return source, target


SLIPS = 10  # words to one with a slip; at least one a sentence
_TYPED = re.compile(r"(?<![\w'@/.#({%<&-])[^\W\d_]{4,}(?![\w@:/}>=-])")  # no part of a URL, a placeholder, a tag
_SPELT_OUT = str.maketrans(dict(zip("äöüßÄÖÜ'’", ("ae", "oe", "ue", "ss", "Ae", "Oe", "Ue", "", ""), strict=True)))


def mistyped(source: str, target: str, rng: np.random.Generator) -> str:
    """The source without apostrophes and with umlauts spelt out, or with letters missing, doubled or swapped inside
    some words; not in those that the target has, too, which are names.
    """
    spelt_out = source.translate(_SPELT_OUT)
    if spelt_out != source and rng.random() < 0.4:
        return spelt_out
    starts = [match.start() for match in _TYPED.finditer(source) if match[0] not in target]
    if not starts:
        return source
    chosen = set(rng.choice(starts, 1 + (len(starts) - 1) // SLIPS, replace=False).tolist())
    return _TYPED.sub(lambda match: _slip(match[0], rng) if match.start() in chosen else match[0], source)


def _slip(word: str, rng: np.random.Generator) -> str:
    at, kind = int(rng.integers(1, len(word) - 1)), rng.integers(3)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    return before + (after if kind == 0 else 2 * letter + after if kind == 1 else after[0] + letter + after[1:])


NAMES = Path(__file__).with_name("names.tsv")  # a kind, then the name in each language of the first line
SURNAMED = 0.2  # of the people who come in
_POSSESSIVE = {"en": "'s", "de": "s"}
_SIBILANT = ("s", "ß", "x", "z")  # no German possessive s after these


class Names:
    """The names of people and places in two languages; none for a language that ``NAMES`` lacks."""

    def __init__(self, source: str, target: str) -> None:
        header, *rows = (line.split("\t") for line in NAMES.read_text(encoding="utf-8").splitlines())
        self.of_kind: dict[str, list[Pair]] = defaultdict(list)
        self.kinds: dict[Pair, str] = {}  # of those that may go: a surname is an ordinary word too often
        if {source, target} <= set(header):
            for row in rows:
                self.of_kind[row[0]].append((row[header.index(source)], row[header.index(target)]))
            self.kinds = {pair: kind for kind, pairs in self.of_kind.items() for pair in pairs if kind != "surname"}
        self.patterns = []  # group 1 is the name, 2 the possessive s
        for side, language in enumerate((source, target)):
            name = "|".join(sorted((re.escape(pair[side]) for pair in self.kinds), reverse=True))
            self.patterns.append(re.compile(rf"\b({name})({_POSSESSIVE.get(language, '(?!)')})?(?!\w)"))

    def exchange(self, source: str, target: str, rng: np.random.Generator) -> Pair:
        """The pair with other names of the same kinds; as it was where its sides do not name the same ones."""
        found = [list(pattern.finditer(text)) for pattern, text in zip(self.patterns, (source, target), strict=True)]
        here, there = (list(dict.fromkeys(match[1] for match in matches)) for matches in found)
        pairs = [(a, b) for a in here for b in there if (a, b) in self.kinds]
        if not pairs or not len(pairs) == len(here) == len(there):
            return source, target
        drawn = [self._draw(self.kinds[pair], rng) for pair in pairs]
        if any(match[2] for matches in found for match in matches) and any(new[1].endswith(_SIBILANT) for new in drawn):
            return source, target
        return self._rename(source, pairs, drawn, 0), self._rename(target, pairs, drawn, 1)

    def _rename(self, text: str, pairs: list[Pair], drawn: list[Pair], side: int) -> str:
        fresh = {old[side]: new[side] for old, new in zip(pairs, drawn, strict=True)}
        return self.patterns[side].sub(lambda match: fresh[match[1]] + (match[2] or ""), text)

    def _draw(self, kind: str, rng: np.random.Generator) -> Pair:
        first = self.of_kind[kind][rng.integers(len(self.of_kind[kind]))]
        if kind not in ("man", "woman") or rng.random() >= SURNAMED:
            return first
        last = self.of_kind["surname"][rng.integers(len(self.of_kind["surname"]))]
        return f"{first[0]} {last[0]}", f"{first[1]} {last[1]}"


names = cache(Names)


def exchange_some(
    pairs: Sequence[Pair], source: str, target: str, probability: float, rng: np.random.Generator
) -> Sequence[Pair]:
    """Some of the pairs, in these languages, with other names (``Names.exchange``)."""
    if not probability:
        return pairs
    known, draws = names(source, target), rng.random(len(pairs)) < probability
    return [known.exchange(*pair, rng) if draw else pair for pair, draw in zip(pairs, draws, strict=True)]


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
