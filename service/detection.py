"""In which language a text is written: lingua, offline, among a few widely read languages and those of the models."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from lingua import IsoCode639_1, LanguageDetector, LanguageDetectorBuilder

# More would cost memory and invite confusion of neighbours (Danish, Norwegian) in short texts.
COMMON = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh", "ja", "ar")
CHARACTERS = 1000  # of a text that are looked at: enough to be sure, and the cost is bounded
SURE = 0.0001  # below this confidence a language is not worth a mention


def detect(text: str, languages: Collection[str], only: bool = False) -> list[tuple[str, float]]:
    """(language, confidence 0 to 1), likeliest first; empty where nothing can be said, as of "123".

    ``languages``: codes such as "de-AT" to choose from, beside the common ones unless ``only``.
    """
    codes = tuple(sorted({*languages, *(() if only else COMMON)}))
    by_base = {code.split("-")[0].lower(): code for code in codes}
    detector = _detector(tuple(base for base in by_base if hasattr(IsoCode639_1, base.upper())))
    begin = next((place for place, character in enumerate(text) if character.isalpha()), None)
    if detector is None or begin is None:
        return []
    values = detector.compute_language_confidence_values(text[begin : begin + CHARACTERS])
    found = [(by_base[value.language.iso_code_639_1.name.lower()], value.value) for value in values]
    return [(code, confidence) for code, confidence in found if confidence >= SURE]


@lru_cache(maxsize=8)
def _detector(bases: tuple[str, ...]) -> LanguageDetector | None:
    if len(bases) < 2:  # lingua wants a choice
        return None
    return LanguageDetectorBuilder.from_iso_codes_639_1(*(getattr(IsoCode639_1, b.upper()) for b in bases)).build()
