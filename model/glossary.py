"""Glossaries: terms whose translation is given.

A term is found where its words stand in a sentence, as whole words, whatever white space is between them; of terms
that overlap, the one that begins first, of those that begin together, the longest. Only what is written in the
glossary is found: "houses" is not "house". What the model reads has the translation in the place of the term (it
copies what it reads in the target language), and the search makes sure that it comes out, letter by letter.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from model.config import SearchConfig, check
from model.errors import UserError
from model.guards import around_items
from model.segment import normalise

TERM_CHARACTERS = 200  # of a term: far below what the model reads at once
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class Term:
    source: str
    target: str


@dataclass(frozen=True)
class Match:
    """A term in a text, from ``start`` to ``end``."""

    start: int
    end: int
    term: Term


@dataclass(frozen=True)
class Glossary:
    """``ignore_case``: a term is also found in another case than written here. Terms that are not in ``terms`` are
    looked for in ``base`` (with the same ``ignore_case``), if there is one. Raises UserError where a term is empty, too
    long or has two translations.
    """

    terms: tuple[Term, ...]
    ignore_case: bool = False
    base: Glossary | None = None

    def __post_init__(self) -> None:
        first: dict[Tokens, Term] = {}
        for number, term in enumerate(self.terms, start=1):
            for name, text in (("source", term.source), ("target", term.target)):
                check(bool(_TOKEN.search(text)), f"term {number}: the {name} term is empty")
                long = f"the {name} term has {len(text)} characters, the limit is {TERM_CHARACTERS}"
                check(len(text) <= TERM_CHARACTERS, f"term {number}: {long}")
            known = first.setdefault(self._words(term.source), term)
            check(known.target == term.target, f"term {number}: '{term.source}' has two translations")

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], ignore_case: bool = False, base: Glossary | None = None) -> Glossary:
        """Of (source term, target term)."""
        terms = (Term(normalise(source), normalise(target)) for source, target in pairs)
        return cls(tuple(terms), ignore_case, base)

    @classmethod
    def load(cls, path: str | Path, ignore_case: bool = False) -> Glossary:
        """From a file of UTF-8, a term a line: source term, tab, target term; blank lines are skipped."""
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UserError(f"cannot read the glossary {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"glossary {path}: byte {error.start + 1} is not valid UTF-8") from None
        pairs = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                columns = line.rstrip("\r").split("\t")
                check(len(columns) == 2, f"glossary {path}, line {number}: {len(columns)} columns, not 2 (tab between)")
                pairs.append((columns[0], columns[1]))
        check(bool(pairs), f"glossary {path}: it holds no term")
        try:
            return cls.of(pairs, ignore_case)
        except UserError as error:
            raise UserError(f"glossary {path}: {error}") from None

    @cached_property
    def digest(self) -> str:
        """Tells a glossary from another."""
        return hashlib.sha256(repr((self.terms, self.ignore_case, self.base)).encode()).hexdigest()

    def find(self, text: str) -> list[Match]:
        """The terms in a text, in order; they do not overlap."""
        tokens = list(_TOKEN.finditer(text))
        words = self._words(text)
        matches, at = [], 0
        while at < len(words):
            # Of equal length the first, of this glossary
            length, term = max(self._here(words, at), key=lambda found: found[0], default=(1, None))
            if term:
                matches.append(Match(tokens[at].start(), tokens[at + length - 1].end(), term))
            at += length
        return matches

    def read(self, text: str) -> tuple[str, tuple[Match, ...]]:
        """What the model is to read of a sentence, and the terms that are found in it, once it is normalised."""
        text = normalise(text)
        matches: list[Match] = []
        at = 0
        for part, is_item in around_items(text):  # a URL stays as it is
            found = [] if is_item else self.find(part)
            matches += (replace(match, start=at + match.start, end=at + match.end) for match in found)
            at += len(part)
        return replaced(text, matches), tuple(matches)

    def candidates(self, text: str) -> list[Term]:
        """Every term whose words stand in a text, overlapping or not."""
        words = self._words(normalise(text))
        return list(dict.fromkeys(term for at in range(len(words)) for _, term in self._here(words, at)))

    def _here(self, words: Tokens, at: int) -> Iterator[tuple[int, Term]]:
        """The terms that begin at a word, and of how many words."""
        for length, terms in self._index.get(words[at], {}).items():
            if term := terms.get(words[at : at + length]):
                yield length, term
        if self.base:
            yield from self.base._here(words, at)

    @cached_property
    def in_any_case(self) -> Glossary:
        return replace(self, ignore_case=True)

    @cached_property
    def _index(self) -> dict[str, dict[int, dict[Tokens, Term]]]:
        """By the first word, the number of words, and all words."""
        index: dict[str, dict[int, dict[Tokens, Term]]] = {}
        for term in self.terms:
            key = self._words(term.source)
            index.setdefault(key[0], {}).setdefault(len(key), {}).setdefault(key, term)
        return index

    def _words(self, text: str) -> Tokens:
        words = _TOKEN.findall(text)
        return tuple(word.casefold() for word in words) if self.ignore_case else tuple(words)


def check_glossary(glossary: object) -> None:
    """UserError for what is no Glossary, such as a dict of terms."""
    advice = "give a Glossary, such as Glossary.of({'house': 'Haus'}.items())"
    check(isinstance(glossary, Glossary), f"glossary is of type {type(glossary).__name__}: {advice}")


def check_search(search: SearchConfig) -> None:
    """UserError for a search that cannot place terms."""
    check(not search.sampling, "a glossary cannot be followed with sampling; leave out one of the two")


def replaced(text: str, matches: Iterable[Match]) -> str:
    """The text with the translation in the place of each term."""
    parts, end = [], 0
    for match in matches:
        parts += [text[end : match.start], match.term.target]
        end = match.end
    return "".join((*parts, text[end:]))


def origins(text: str, matches: Sequence[Match]) -> list[tuple[int, int]]:
    """For each word of the text with its terms replaced: the first and the last word of the text that it comes from.
    Words are what white space parts."""
    places, end = [], 0  # of each character of the new text, in the old one
    for match in matches:
        places += [(i, i) for i in range(end, match.start)] + [(match.start, match.end - 1)] * len(match.term.target)
        end = match.end
    places += [(i, i) for i in range(end, len(text))]
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    words = re.finditer(r"\S+", replaced(text, matches))
    ends = ((places[word.start()][0], places[word.end() - 1][1]) for word in words)
    return [(bisect_right(starts, first) - 1, bisect_right(starts, last) - 1) for first, last in ends]


def not_placed(terms: Iterable[Term], translation: str) -> list[Term]:
    """The terms that stand less often in the translation than in the list, each once."""
    terms = list(terms)
    wanted = Counter(term.target for term in terms)
    there = occurrences(wanted, translation)
    return [term for term in dict.fromkeys(terms) if there[term.target] < wanted[term.target]]


def occurrences(targets: Iterable[str], text: str) -> Counter[str]:
    """How often each term stands in a text as words of its own; where terms overlap, the longest counts."""
    patterns = []
    for target in sorted(set(targets), key=len, reverse=True):
        before, after = r"(?<![^\W_])" * target[0].isalnum(), r"(?![^\W_])" * target[-1].isalnum()
        patterns.append(before + re.escape(target) + after)
    return Counter(re.findall("|".join(patterns), normalise(text)) if patterns else ())
