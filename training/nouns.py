"""Rare nouns in common sentences: ``python -m training.nouns LEXICON.tsv CORPUS.tsv... -o OUT.tsv`` (English, German).

A word that a model knows from a dictionary entry alone it seldom uses in a sentence. Here a noun of a sentence and of
its translation gives its place to a noun of the lexicon that German declines alike, so that articles, adjectives and
pronouns stay right (compare Fadaee et al. 2017). What the new sentence says may be odd, the translation is not.

Needs ``pip install wordfreq`` and ``pip install --no-deps german-nouns`` (of what that would bring along, this uses
nothing, and a part of it is at odds with our lxml).
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.lexicon import Pair, common, pairs, write_pairs
from training.script import run

SENTENCES = 8  # for each noun
ANCHOR = 4.0  # how frequent (Zipf scale) the noun of a sentence is at least: its place is then an ordinary one
LONGEST = 16  # words of a sentence
_ENGLISH, _GERMAN = re.compile(r"[a-z]+(?: [a-z]+)?"), re.compile(r"[A-ZÄÖÜ][a-zäöüß]+")

Kind = str  # nouns of a kind can take each other's place


def kinds(lexicon: Iterable[Pair], declined: Callable[[str], Sequence[Mapping[str, Any]]]) -> dict[Pair, Kind]:
    """The nouns among the entries: in the singular by gender, in the plural by whether the dative has a form of its
    own. Nouns that also change in the accusative singular ("den Studenten") are left out. ``declined``: the nouns of
    which a German word is a form, as ``german_nouns`` has them.
    """
    found: dict[Pair, Kind] = {}
    for english, german in lexicon:
        if not _ENGLISH.fullmatch(english) or not _GERMAN.fullmatch(german):
            continue
        looks_plural = english.endswith("s") and not english.endswith(("ss", "us", "is"))
        fitting: set[Kind] = set()
        for noun in declined(german):
            forms = noun.get("flexion", {})
            nominative, accusative = forms.get("nominativ singular"), forms.get("akkusativ singular")
            plural, dative = forms.get("nominativ plural"), forms.get("dativ plural")
            if german == plural and (looks_plural or german != nominative):
                fitting.add("plural, dative alike" if plural == dative else "plural")
            elif german == nominative == accusative and "genus" in noun and not looks_plural:
                fitting.add(noun["genus"])
        if len(fitting) == 1:
            found[english, german] = fitting.pop()
    return found


def in_sentences(
    nouns: dict[Pair, Kind], anchors: dict[Pair, Kind], corpus: Sequence[Pair], rng: np.random.Generator
) -> Iterator[Pair]:
    """``SENTENCES`` pairs for each of the nouns, each made of a pair of the corpus that has an anchor of its kind."""
    by_english = defaultdict(list)
    for (english, german), kind in anchors.items():
        by_english[english].append((german, kind))
    places: dict[Kind, list[tuple[int, Pair]]] = defaultdict(list)
    for i, (source, target) in enumerate(corpus):
        words, there = (re.findall(r"[\w'-]+", side) for side in (source, target))
        if len(words) <= LONGEST:
            for word in words[1:]:  # the first has a capital
                for german, kind in by_english.get(word, ()):
                    if words.count(word) == there.count(german) == 1:
                        places[kind].append((i, (word, german)))
    for noun, kind in nouns.items():
        for _ in range(SENTENCES if places[kind] else 0):
            i, anchor = places[kind][rng.integers(len(places[kind]))]
            source, target = (_replaced(*side) for side in zip(corpus[i], anchor, noun, strict=True))
            n = "n" if noun[0][0] in "aeio" else ""
            yield re.sub(rf"\b([Aa])n? (?={noun[0]}\b)", rf"\1{n} ", source), target


def _replaced(text: str, old: str, new: str) -> str:
    return re.sub(rf"(?<![\w'-]){re.escape(old)}(?![\w'-])", new, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    choice = parser.parse_args()
    from german_nouns.lookup import Nouns  # takes seconds

    nouns = kinds(pairs(choice.lexicon), Nouns().__getitem__)
    anchors = {noun: kind for noun, kind in nouns.items() if " " not in noun[0] and common(noun[0], "en") >= ANCHOR}
    corpus = [pair for path in choice.corpora for pair in pairs(path)]
    found = list(in_sentences(nouns, anchors, corpus, np.random.default_rng(1)))
    write_pairs(choice.output, found)
    print(f"{len(found):,} pairs for {len(nouns):,} nouns are in {choice.output}")


if __name__ == "__main__":
    run(main)
