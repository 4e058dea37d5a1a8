"""What is wrong with a sentence pair: one reason, or none. Thresholds were chosen by reading what they drop.

The language check drops 55 of 1.36 million human-translated English-German pairs, about a quarter of them rightly (the
others are mostly lists of identifiers and quoted titles). Put in the wrong language on purpose, English, German and
French sides that are long enough to be judged (54 to 87 %) are found in 75 to 98 % of cases in technical text and in
53 to 94 % in short everyday sentences.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from model.config import check

CLEANING_VERSION = 2  # part of the cache key: raise it with every change that alters what is kept

RATIO_SLACK = 20  # characters added to both lengths: short phrases may differ by any factor
LANGUAGE_ODDS = 20  # a side is foreign where another language is this many times as probable as its own
LANGUAGE_WORDS, LANGUAGE_LETTERS = 4, 20  # less than this says nothing about the language
# Beside the two of the pair. More would cost time and invite confusion of neighbours (Danish, Norwegian).
OTHER_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh", "ja", "ar")

# Control, private-use and replacement characters; UTF-8 read as Latin-1 or Windows-1252 ("Ã¼", "â€œ").
_DEBRIS = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff]|[\u00c2\u00c3][\u0080-\u00bf]|\u00c3[\u0152\u0153\u0178\u201e\u2013]|\u00e2\u20ac"
)
# Whole words: not file_names, --options, code::paths or web addresses.
_WORD = re.compile(r"(?:^|(?<=[\s(\"'„“»«¿¡，。、！？]))[^\W\d_]{2,}(?=[\s.,;:!?…)\"'“”»«，。、！？]|$)")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")  # scripts that put no space between words


@dataclass(frozen=True)
class CleaningConfig:
    """Which pairs are dropped. Empty and malformed ones always are."""

    max_characters: int = 1000  # of the longer side
    max_words: int = 200  # of the longer side, by white space
    max_ratio: float = 2.0  # (longer + 20) / (shorter + 20) characters; 3 to 4 where one script is denser (zh, ja)
    duplicates: bool = True  # drop pairs seen before in this or an earlier corpus of the mixture
    identical: bool = True  # drop untranslated sentences (not names, numbers, code or up to three words)
    debris: bool = True  # drop control characters, U+FFFD and mojibake
    wrong_language: bool = True  # drop sides that are clearly in another language

    def __post_init__(self) -> None:
        for name in ("max_characters", "max_words"):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        check(self.max_ratio >= 1.0, f"max_ratio = {self.max_ratio} must be at least 1")


class Cleaner:
    """Judges pairs of one language pair. ``unchecked`` names languages that the language check does not know."""

    def __init__(self, config: CleaningConfig, source: str, target: str) -> None:
        self.config, self.source, self.target = config, source, target
        known = {language.iso_code_639_1.name.lower() for language in Language.all()}
        codes = [code.split("-")[0].lower() for code in (source, target)]
        self.unchecked = [code for code in codes if code not in known] if config.wrong_language else []
        self._codes = codes if config.wrong_language and not self.unchecked else []

    def reason(self, source: str, target: str) -> str | None:
        """Why the pair of normalised texts should be dropped, or None."""
        config = self.config
        shorter, longer = sorted((len(source), len(target)))
        if not shorter:
            return "empty"
        if longer > config.max_characters:
            return "too long"
        if longer > config.max_words and max(source.count(" "), target.count(" ")) >= config.max_words:
            return "too long"
        if config.debris and (_DEBRIS.search(source) or _DEBRIS.search(target)):
            return "debris"
        if longer + RATIO_SLACK > config.max_ratio * (shorter + RATIO_SLACK):
            return "ratio"
        if config.identical and untranslated(source, target):
            return "identical"
        if self._codes and (self._foreign(source, *self._codes) or self._foreign(target, *reversed(self._codes))):
            return "wrong language"
        return None

    def _foreign(self, text: str, own: str, other: str) -> bool:
        """Whether ``text`` is clearly not in ``own``.

        Lower-case words decide: names, titles and technical terms of another language are no reason to doubt a
        sentence. A cheap detector raises the suspicion, an accurate one has to confirm it.
        """
        words = dict.fromkeys(word for word in _WORD.findall(text) if not word[0].isupper())
        sample = " ".join(words)
        if len(sample) < LANGUAGE_LETTERS or (len(words) < LANGUAGE_WORDS and not _UNSPACED.search(sample)):
            return False
        language = _language(own)
        fast, accurate = _detectors(frozenset((own, other)))
        if fast.detect_language_of(sample) in (language, None):
            return False
        confidence = {value.language: value.value for value in accurate.compute_language_confidence_values(sample)}
        return max(confidence.values()) > LANGUAGE_ODDS * confidence[language]


def untranslated(source: str, target: str) -> bool:
    """Equal sides of more than three words, most of them plain lower-case words."""
    if len(source) != len(target) or source.casefold() != target.casefold():
        return False
    words = source.split()
    plain = sum(len(word) > 1 and word.islower() and word.strip(".,;:!?()\"'").isalpha() for word in words)
    return len(words) > 3 and 2 * plain > len(words)


@lru_cache
def _language(code: str) -> Language:
    return Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper()))


@lru_cache
def _detectors(pair: frozenset[str]) -> tuple[LanguageDetector, LanguageDetector]:
    languages = [_language(code) for code in sorted(pair | set(OTHER_LANGUAGES))]
    return (
        LanguageDetectorBuilder.from_languages(*languages).with_low_accuracy_mode().build(),
        LanguageDetectorBuilder.from_languages(*languages).build(),
    )
