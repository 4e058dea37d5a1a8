"""What languages are called."""

from __future__ import annotations

from babel import Locale, UnknownLocaleError


def name_of(code: str, in_language: str = "en") -> str:
    """ "de" -> "German"; the code itself where the name is not known, in English where ``in_language`` is not."""
    try:
        language = Locale.parse(code, sep="-")
    except (UnknownLocaleError, ValueError):
        return code
    try:
        name = language.get_display_name(Locale.parse(in_language, sep="-"))
    except (UnknownLocaleError, ValueError):
        name = language.get_display_name("en")
    return name or code
