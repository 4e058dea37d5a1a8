"""What is plainly wrong with a translation, found without a reference: loops, clauses that are missing, words left as
they were. BLEU hardly sees them, readers see nothing else.

A bilingual dictionary tells which words have a translation. German is inflected and compounded, so a word counts as
translated where the stem of any of its translations occurs; the check errs on the side of silence.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.guards import around_items, warnings
from training.corpus import CorpusConfig
from training.readers import read

STEM = 4  # letters that have to agree
# A clause is missing where so many words, so long, have translations, and none occurs
CLAUSE_WORDS, CLAUSE_LETTERS = 3, 6
LEAST_LENGTH = 0.7  # a translation with fewer characters than this share of its shortest reference has lost something

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CLAUSE = re.compile(
    r"[.!?;:,–—()\n]|\b(?:and|but|because|although|while|when|if|that|which|who|so|before|after|until"
    r"|und|aber|weil|obwohl|während|wenn|als|dass|so|bevor|nachdem|bis|denn|sondern)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fault:
    kind: str  # REPETITION, COPIED_SOURCE, ITEM_CHANGED, SUSPICIOUS_LENGTH (model.guards), DROPPED, UNTRANSLATED
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


class Lexicon:
    """Words of two languages and the words that stand in their translations."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._words: tuple[defaultdict[str, set[str]], ...] = (defaultdict(set), defaultdict(set))
        for pair in pairs:
            words = [_words(side) for side in pair]
            for own, other in ((0, 1), (1, 0)):
                if len(words[own]) == 1 or (len(words[own]) == 2 and words[own][0] in ("to", "the", "a")):
                    self._words[own][words[own][-1]].update(words[other])

    @staticmethod
    def load(path: str | Path, source: str, target: str) -> Lexicon:
        """A corpus file (TSV, JSONL, Parquet) of the two languages. UserError where it cannot be read."""
        config = CorpusConfig(str(path), source, target)
        lexicon = Lexicon((record.source, record.target) for record in read(config, Path()) if not record.problem)
        if not lexicon._words[0]:
            raise UserError(f"lexicon {path}: it has no entry of one word")
        return lexicon

    def facing(self, sources: Iterable[str]) -> Lexicon:
        """For texts of either of its languages: turned round where more of their words are in its second column."""
        words = [word for text in sources for word in _words(text)]
        first, second = (sum(word in known for word in words) for known in self._words)
        lexicon = Lexicon(())
        lexicon._words = self._words if first >= second else self._words[::-1]
        return lexicon

    def translations(self, word: str) -> set[str]:
        """Of a source word, or of what it may be an inflected form of; empty where unknown."""
        for cut in range(3):
            if len(word) - cut >= STEM and (found := self._words[0].get(word[: len(word) - cut])):
                return found
        return set()

    def is_target(self, word: str) -> bool:
        """Whether the target language has the word, too ("hotel", "in")."""
        return word in self._words[1]


def faults(source: str, hypothesis: str, lexicon: Lexicon | None = None, references: Sequence[str] = ()) -> list[Fault]:
    """``lexicon``: from the language of ``source`` to that of ``hypothesis``. References only tell the length."""
    found = [Fault(warning.code, warning.detail) for warning in warnings(source, hypothesis)]
    shortest = min(map(len, references), default=0)
    if len(hypothesis) < LEAST_LENGTH * shortest:
        found.append(Fault("DROPPED", f"{len(hypothesis)} characters for {shortest}"))
    if lexicon:
        source = " ".join(part for part, is_item in around_items(source) if not is_item)
        found += [Fault("DROPPED", clause) for clause in _missing(source, hypothesis, lexicon)]
        found += [Fault("UNTRANSLATED", word) for word in _untranslated(source, hypothesis, lexicon)]
    return found


def list_faults(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    lexicon: Lexicon | None = None,
) -> list[dict[str, Any]]:
    """An entry for each line (from 1) with a fault, for JSON."""
    return [
        {"line": i, "fault": "; ".join(map(str, found)), "source": source, "hypothesis": hypothesis}
        for i, (source, hypothesis, own) in enumerate(zip(sources, hypotheses, references, strict=True), 1)
        if (found := faults(source, hypothesis, lexicon, own))
    ]


def _missing(source: str, hypothesis: str, lexicon: Lexicon) -> list[str]:
    """Clauses of which no long word has its translation, nor stands there as it is."""
    text = hypothesis.casefold()
    missing = []
    for clause in _CLAUSE.split(source):
        words = [word for word in _words(clause) if len(word) >= CLAUSE_LETTERS]
        known = [found for word in words if (found := lexicon.translations(word))]
        stems = {word[:STEM] for found in (*known, words) for word in found}
        if len(known) >= CLAUSE_WORDS and not any(stem in text for stem in stems):
            missing.append(clause.strip())
    return missing


def _untranslated(source: str, hypothesis: str, lexicon: Lexicon) -> list[str]:
    """Words that stand in the translation as they do in the source, though they have another one. A capital after a
    capital or at the start is taken for a name."""
    kept = set(_words(hypothesis))
    words = _WORD.findall(source)
    found = []
    for before, word in zip(["", *words], words, strict=False):
        plain = word.casefold()
        if len(word) < STEM or plain not in kept or not (word.islower() or before.islower()):
            continue
        translations = lexicon.translations(plain)
        if translations and plain not in translations and not lexicon.is_target(plain):
            found.append(word)
    return list(dict.fromkeys(found))


def _words(text: str) -> Sequence[str]:
    return [word.casefold() for word in _WORD.findall(text)]
