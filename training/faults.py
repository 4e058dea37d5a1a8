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
from model.guards import warnings
from training.corpus import CorpusConfig
from training.readers import read

STEM = 4  # letters that have to agree
CLAUSE_WORDS = 3  # a clause is missing where so many words have translations and none of them occurs
LEAST_LENGTH = 0.6  # a translation with fewer characters than this share of the source's has lost something
SHORT = 40  # characters; what is shorter may shrink more

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CLAUSE = re.compile(
    r"[.!?;:,–—()\n]|\b(?:and|but|because|although|while|when|if|that|which|who|so|before|after|until"
    r"|und|aber|weil|obwohl|während|wenn|als|dass|so|bevor|nachdem|bis|denn|sondern)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?…](?=[\s\"'”“»«)]|$)")


@dataclass(frozen=True)
class Fault:
    kind: str  # REPETITION, COPIED_SOURCE, ITEM_CHANGED, SUSPICIOUS_LENGTH (model.guards), DROPPED, UNTRANSLATED
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


class Lexicon:
    """Words of two languages and the stems of their translations."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._stems: tuple[defaultdict[str, set[str]], ...] = (defaultdict(set), defaultdict(set))
        for pair in pairs:
            words = [_words(side) for side in pair]
            for own, other in ((0, 1), (1, 0)):
                if len(words[own]) == 1 or (len(words[own]) == 2 and words[own][0] in ("to", "the", "a")):
                    self._stems[own][words[own][-1]] |= {word[:STEM] for word in words[other]}

    @staticmethod
    def load(path: str | Path, source: str, target: str) -> Lexicon:
        """A corpus file (TSV, JSONL, Parquet), ``source`` first. UserError where it cannot be read."""
        config = CorpusConfig(str(path), source, target)
        lexicon = Lexicon((record.source, record.target) for record in read(config, Path()) if not record.problem)
        if not lexicon._stems[0]:
            raise UserError(f"lexicon {path}: it has no entry of one word")
        return lexicon

    def turned(self) -> Lexicon:
        """For the other direction."""
        lexicon = Lexicon(())
        lexicon._stems = self._stems[::-1]
        return lexicon

    def stems(self, word: str) -> set[str]:
        """Of the translations of a source word, or of what it may be an inflected form of; empty where unknown."""
        for cut in range(3):
            if len(word) - cut >= STEM and (found := self._stems[0].get(word[: len(word) - cut])):
                return found
        return set()

    def is_target(self, word: str) -> bool:
        """Whether the target language has the word, too ("hotel", "in")."""
        return any(len(word) - cut >= 2 and word[: len(word) - cut] in self._stems[1] for cut in range(3))


def faults(source: str, hypothesis: str, lexicon: Lexicon | None = None) -> list[Fault]:
    """``lexicon``: from the language of ``source`` to that of ``hypothesis``."""
    found = [Fault(warning.code, warning.detail) for warning in warnings(source, hypothesis)]
    ends = [len(_SENTENCE_END.findall(text.strip())) for text in (source, hypothesis)]
    if ends[1] < ends[0] - ends[0] // 4:  # a quarter may be joined, or be abbreviations
        found.append(Fault("DROPPED", f"{ends[0]} sentences became {ends[1]}"))
    elif len(source) > SHORT and len(hypothesis) < LEAST_LENGTH * len(source):
        found.append(Fault("DROPPED", f"{len(source)} characters became {len(hypothesis)}"))
    if lexicon:
        found += [Fault("DROPPED", clause) for clause in _missing(source, hypothesis, lexicon)]
        found += [Fault("UNTRANSLATED", word) for word in _untranslated(source, hypothesis, lexicon)]
    return found


def list_faults(
    sources: Sequence[str], hypotheses: Sequence[str], lexicon: Lexicon | None = None
) -> list[dict[str, Any]]:
    """An entry for each line (from 1) with a fault, for JSON."""
    return [
        {"line": i, "fault": "; ".join(map(str, found)), "source": source, "hypothesis": hypothesis}
        for i, (source, hypothesis) in enumerate(zip(sources, hypotheses, strict=True), 1)
        if (found := faults(source, hypothesis, lexicon))
    ]


def _missing(source: str, hypothesis: str, lexicon: Lexicon) -> list[str]:
    """Clauses of which no word with a translation has it."""
    text = hypothesis.casefold()
    missing = []
    for clause in _CLAUSE.split(source):
        known = [stems for word in _words(clause) if len(word) >= STEM and (stems := lexicon.stems(word))]
        named = any(word[:STEM] in text for word in _words(clause) if len(word) >= STEM)  # names, numbers, cognates
        if len(known) >= CLAUSE_WORDS and not named and not any(stem in text for stems in known for stem in stems):
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
        stems = lexicon.stems(plain)
        if stems and plain[:STEM] not in stems and not lexicon.is_target(plain):
            found.append(word)
    return list(dict.fromkeys(found))


def _words(text: str) -> Sequence[str]:
    return [word.casefold() for word in _WORD.findall(text)]
