"""Quality guards: what can be seen to be wrong with the translation of a sentence, from the two texts alone.

Pure functions on (source, hypothesis). A ``Translator`` asks them about every sentence: where its best hypothesis is
doubtful it looks for a clean one among all hypotheses of the beam, and what cannot be helped is a warning. Items that
are no language (URLs, e-mail addresses, placeholders, tags, emoji) must come out as often as they went in, character
for character: where no hypothesis has them, the sentence is translated in parts around them. Numbers must keep their
digits; their separators may change, since "3.5" is "3,5" in German, and so may the clock: "2:40 pm" is "14:40", "20
Uhr" is "8:00 p.m."
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass

LOOP_WORDS = 12  # the longest phrase that is looked for in a loop
LOOP_TIMES = {1: 4, 2: 3}  # so many times in a row is a loop, by words of the phrase; longer phrases: twice
LENGTH_SLACK, LENGTH_RATIO = 20, 2.5  # suspicious: (longer + slack) / (shorter + slack) characters above the ratio
COPY_WORDS, COPY_SHARE = 4, 0.8  # a copy: more than this share of at least so many different words is the source's

# Emoji, arrows, technical and geometric signs, numbers in circles
EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
SMALL = "¼-¾²³¹⁰-⁹⁻⅐-⅞"  # fractions and exponents
CURRENCY = "¥₠-₫₭-⃀"  # that is neither $, £ nor €
# Of a text without an end, each alternative looks at a character a bounded number of times
_ITEM = re.compile(
    r"(?i:https?://|ftp://|www\.)[^\s<>\"']*[\w/=&#%~+-]"  # URL, without the full stop that ends the sentence
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"  # e-mail address
    r"|\$?\{\{?[\w.:-]*\}\}?"  # {name}, {0}, {}, {{name}}, ${name}
    r"|%(?:\(\w+\)|\d{1,3}\$)?[-+#0]{0,3}\d{0,3}(?:\.\d{1,3})?[sdiufxXgGeEc@](?!\w)"  # %s, %(name)d, %1$s, %.2f
    r"|</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>"  # <b>, </b>, <a href="...">, <br/>
    f"|[{EMOJI}][{EMOJI}\u200d\ufe0f]*"  # with its skin tones, joiners and variation selectors
    f"|[0-9#*]\ufe0f?\u20e3|[{SMALL}]+|[{CURRENCY}]"  # a digit on a key of a telephone
)
_MAYBE_ITEM = re.compile(rf"[{{%<@{EMOJI}{SMALL}{CURRENCY}\u20e3]|://|www\.", re.IGNORECASE)  # none of these, no item
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d(?:(?:[\d.,:]|[ \xa0\u202f](?=\d{3}\b))*\d)?")  # 7; 3.5; 2:40; 1,000; 1 000
_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")
_FULL_HOUR = re.compile(r"\A(\d{1,2}):00\Z")
_AFTERNOON = re.compile(r"(?<![\d:.,])(1[01]|0?[1-9])((?::\d\d)?)\s*p\.?m\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_LOOP_IN_WORD = re.compile(r"([^\W\d_]{1,30}?)\1{4,}")  # "hahahahaha", and loops in scripts without spaces


@dataclass(frozen=True)
class QualityWarning:
    """``code``: a TranslationWarning.Code of the service's contract; ``detail``: the words concerned."""

    code: str
    detail: str = ""


def warnings(source: str, hypothesis: str) -> tuple[QualityWarning, ...]:
    """Everything that is doubtful about a hypothesis for one source sentence; usually nothing."""
    found = [QualityWarning("ITEM_CHANGED", item) for item in changed_items(source, hypothesis)]
    if loop := repetition(source, hypothesis):
        found.append(QualityWarning("REPETITION", loop))
    if is_copy(source, hypothesis):
        found.append(QualityWarning("COPIED_SOURCE"))
    if is_odd_length(source, hypothesis):
        found.append(QualityWarning("SUSPICIOUS_LENGTH", f"{len(source)} characters became {len(hypothesis)}"))
    return tuple(found)


def changed_items(source: str, hypothesis: str) -> list[str]:
    """Items that are missing or multiplied, numbers whose digits are missing, and bytes that make no character."""
    items = dict.fromkeys((*_items(source), "\ufffd"))
    changed = [item for item in items if source.count(item) != hypothesis.count(item)]
    if not _DIGIT.search(source):
        return changed
    source, hypothesis = _ITEM.sub(" ", source), _ITEM.sub(" ", hypothesis)
    other = _AFTERNOON.sub(_in_24_hours, source), hypothesis
    if other[0] == source:  # the other language may be the one with a "pm"
        other = source, _AFTERNOON.sub(_in_24_hours, hypothesis)
    return changed + min(_lost_numbers(source, hypothesis), _lost_numbers(*other), key=len)


def _items(text: str) -> list[str]:
    return _ITEM.findall(text) if _MAYBE_ITEM.search(text) else []


def _in_24_hours(clock: re.Match[str]) -> str:
    return f"{int(clock[1]) + 12}{clock[2]}"


def _numbers(text: str) -> list[str]:
    """A date is three numbers: what parts them, and their order, changes."""
    found = _NUMBER.findall(text)
    return [one for number in found for one in (number.split(".") if _DATE.fullmatch(number) else [number])]


def _lost_numbers(source: str, hypothesis: str) -> list[str]:
    left, lost = Counter(map(_digits, _numbers(hypothesis))), []
    for number in _numbers(source):
        left[_digits(number)] -= 1
        if left[_digits(number)] < 0:
            lost.append(number)
    return lost


def around_items(text: str) -> list[tuple[str, bool]]:
    """The text in parts that join to it: (part, whether it is an item that must stay as it is). No number is."""
    parts, start = [], 0
    for match in _ITEM.finditer(text):
        parts += [(text[start : match.start()], False), (match[0], True)]
        start = match.end()
    return [part for part in [*parts, (text[start:], False)] if part[0]]


def repetition(source: str, hypothesis: str) -> str:
    """The phrase that the hypothesis repeats in a loop; "" without one, or where the source repeats itself, too."""
    found = _loop(hypothesis)
    return found if found and not _loop(source) else ""


def is_copy(source: str, hypothesis: str) -> bool:
    """Whether the words of the hypothesis are nearly all the source's. Short ones may be names."""
    words = [[word for word in _words(text) if len(word) > 1] for text in (source, hypothesis)]
    different = [set(some) for some in words]
    enough = COPY_SHARE * min(map(len, words))
    if min(map(len, different)) < COPY_WORDS or sum(word in different[0] for word in words[1]) <= enough:
        return False
    return (Counter(words[0]) & Counter(words[1])).total() > enough


def is_odd_length(source: str, hypothesis: str) -> bool:
    """Whether one is far longer than the other."""
    shorter, longer = sorted((len(source.strip()), len(hypothesis.strip())))
    return longer + LENGTH_SLACK > LENGTH_RATIO * (shorter + LENGTH_SLACK)


def _loop(text: str) -> str:
    if match := _LOOP_IN_WORD.search(text):
        return match[1]
    words = _words(text)
    if len(set(words)) == len(words):
        return ""
    for size in range(1, min(LOOP_WORDS, len(words) // 2) + 1):
        needed = size * (LOOP_TIMES.get(size, 2) - 1)  # so many words in a row equal the one a phrase before
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run == needed:
                return " ".join(words[i - size + 1 : i + 1])
    return ""


@functools.lru_cache(256)  # a source has several hypotheses, each looked at by several guards
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall((_ITEM.sub(" ", text) if _MAYBE_ITEM.search(text) else text).casefold()))


def _digits(number: str) -> str:
    """Without the zeros that a date or a clock may have or not: 05, 7:00."""
    digits = "".join(str(int(c)) for c in _FULL_HOUR.sub(r"\1", number) if c.isdecimal())  # full-width ones, too
    return digits[1:] if len(digits) == 2 and digits[0] == "0" else digits
