"""Quality guards: what can be seen to be wrong with the translation of a sentence, from the two texts alone.

Pure functions on (source, hypothesis). A ``Translator`` asks them about every sentence: where its best hypothesis is
doubtful it looks for a clean one among all hypotheses of the beam, and what cannot be helped is a warning. Items that
are no language (URLs, e-mail addresses, placeholders, tags, code, emoji) must come out as often as they went in,
character for character: where no hypothesis has them, the sentence is translated in parts around them. Numbers must
keep their value; their separators may change, since "3.5" is "3,5" in German, and so may the clock: "2:40 pm" is
"14:40", "20 Uhr" is "8:00 p.m.". Amounts must keep their currency.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

DECIMAL_COMMA = frozenset("da de el es hr id it nl pt ro sl sr sv tr vi".split())  # and a full stop between thousands
DECIMAL_POINT = frozenset("en he ja ko th zh".split())  # and a comma between thousands
LOOP_WORDS = 12  # the longest phrase that is looked for in a loop
LOOP_TIMES = {1: 4, 2: 3}  # so many times in a row is a loop, by words of the phrase; longer phrases: twice
LENGTH_SLACK, LENGTH_RATIO = 20, 2.5  # suspicious: (longer + slack) / (shorter + slack) characters above the ratio
COPY_WORDS, COPY_SHARE = 4, 0.8  # a copy: more than this share of at least so many different words is the source's

# Emoji, arrows, technical and geometric signs, numbers in circles
EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
SMALL = "¼-¾²³¹⁰-⁹⁻⅐-⅞"  # fractions and exponents
CURRENCY = "¥₠-₫₭-⃀"  # that is neither $, £ nor €
SIGNS = "∀-∑∓-⋿¶¿†‡‰№"  # of mathematics (but for the minus) and of print
# Of a text without an end, each alternative looks at a character a bounded number of times
_ITEM = re.compile(
    r"(?i:https?://|ftp://|www\.)[^\s<>\"']*[\w/=&#%~+-]"  # URL, without the full stop that ends the sentence
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"  # e-mail address
    r"|\{\{[^{}\n]{1,80}\}\}|\{%[^{}\n]{1,80}%\}|<%[^<>\n]{1,80}%>"  # {{ user.name|upper }}, {% if x %}, <%= name %>
    r"|\$?\{\{?[\w.:-]*\}\}?"  # {name}, {0}, {}, ${name}
    # %s, %(name)d, %1$s, %.2f, %zu
    r"|%(?:\(\w+\)|\d{1,3}\$)?[-+#0]{0,3}\d{0,3}(?:\.\d{1,3})?(?:hh?|ll?|[zjtL])?[sdiufxXgGeEc@](?!\w)"
    r"|`[^`\n]{1,100}`"  # code
    r"|(?<!\w)#(?=\w*[^\W\d])\w{2,60}"  # hashtag
    r"|</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>"  # <b>, </b>, <a href="...">, <br/>
    f"|[{EMOJI}][{EMOJI}\u200d\ufe0f]*"  # with its skin tones, joiners and variation selectors
    f"|[0-9#*]\ufe0f?\u20e3|[{SMALL}]+|[{CURRENCY}{SIGNS}]"  # a digit on a key of a telephone
)
# without any of these, no item
_MAYBE_ITEM = re.compile(rf"[{{%<@`#{EMOJI}{SMALL}{CURRENCY}{SIGNS}\u20e3]|://|www\.", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
# 1 000 and 1 000 000,50; 7; 3.5; 2:40; 1,000
_NUMBER = re.compile(r"(?<!\d)\d{1,3}(?:[ \xa0\u202f]\d{3})+(?!\d)(?:[.,]\d+)?|\d(?:[\d.,:]*\d)?")
_SEPARATOR = re.compile("[.,:]")
_SWAPPED = str.maketrans(".,", ",.")
_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")
# 24.12.2023, am 24.12.; and what models make of the points: 24:12:2023, 24,12, 24th12th2023
_DAY = re.compile(
    r"((?i:\b(?:am|vom|zum|de[mnrs])\s+))?(?<![\d.,:/-])(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\.(\d{4})?"
    r"(?![.,:]*\d)(?!\s*Uhr)"
)
_POINT = "(?:(?:st|nd|rd|th)[.,:]?|[.,:])"
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")
_WHOLE = re.compile(rf"(?<![\w.,:])(?:{_DATE.pattern}|(?:1[3-9]|2[0-4]):\d\d|\d{{3,}})(?![.,:]?\w)")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")  # 192.168.0.1
_AFTERNOON = re.compile(r"(?<![\d:.,])(1[01]|0?[1-9])((?::\d\d)?)\s*p\.?m\b", re.IGNORECASE)
_SHARED = re.compile(
    r"(?<![\d:.,])(\d{1,2}(?::\d\d)?)(?=\s*(?:to|and|until|till|or|-|–)\s*\d{1,2}(?::\d\d)?\s*p\.?m\b)", re.IGNORECASE
)
# Words that say which half of the day a clock of twelve hours means
_LATE = re.compile(r"\b(?:evening|afternoon|(?:to)?night|\w*abends?|\w*nachmittags?|nachts?)\b", re.IGNORECASE)
_SMALL = re.compile(f"[{SMALL}]+")
_QUOTE = re.compile('["“”„«»]')
# A currency: its sign at a number, or its name behind one; and what it may be in the translation
_CURRENCIES = {
    sign: (
        re.compile(rf"{re.escape(sign)}\s?\d|\d\s?{re.escape(sign)}|\d\s(?:{names})\b", re.I),
        re.compile(rf"{re.escape(sign)}|(?:{names})", re.I),
    )
    for sign, names in (("€", "euros?|EUR"), ("$", "[\\w-]*dollars?|USD"), ("£", "pounds?|pfund|GBP"))
}
_WORD = re.compile(r"[^\W\d_]+")
_MARKS = re.compile(r"(?<![!?])[!?]++(?=[\s\"“”„«»)\]]*$)")
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
    """Items that are missing, multiplied or made up, numbers whose value is missing, currencies and quotation marks
    that are lost, and bytes that make no character."""
    before, after = Counter(_items(source)), Counter(_items(hypothesis))
    made_up = [item for item in after if item not in before and not _SMALL.fullmatch(item)]  # "half" may be "½"
    changed = [item for item in before if before[item] != after[item]] or made_up
    changed += ["\ufffd"] * (source.count("\ufffd") != hypothesis.count("\ufffd"))
    source, hypothesis = _without_items(source), _without_items(hypothesis)
    quotes = [len(_QUOTE.findall(text)) for text in (source, hypothesis)]
    changed += ['"'] * (quotes[0] > 0 and quotes[0] % 2 == 0 and quotes[1] % 2 == 1)
    if not _DIGIT.search(source):
        return changed
    changed += [
        sign for sign, (amount, there) in _CURRENCIES.items() if amount.search(source) and not there.search(hypothesis)
    ]
    return changed + min((_lost_numbers(*texts) for texts in _clocks(source, hypothesis)), key=len)


def needed(source: str, lost: Collection[str]) -> list[str]:
    """The numbers among what was ``lost`` (details of ITEM_CHANGED) that a target must hold just as the source has
    them: dates, clocks of the afternoon, whole numbers of three digits and more. Shorter ones may become words, or
    "14.000" of "14 thousand", and other clocks the afternoon's."""
    found = _WHOLE.findall(_without_items(source))
    # Of a date, the month may have become a word
    return [one for one in found if any(part in lost for part in _numbers(one)[::2])]


def _items(text: str) -> list[str]:
    return _ITEM.findall(text) if _MAYBE_ITEM.search(text) else []


def _without_items(text: str) -> str:
    return _ITEM.sub(" ", text) if _MAYBE_ITEM.search(text) else text


def _clocks(source: str, hypothesis: str) -> list[tuple[str, str]]:
    """The two texts with the same hours a day, in each way that they may be meant."""
    late = [_AFTERNOON.search(text) is not None for text in (source, hypothesis)]
    if late[0] == late[1]:
        return [(source, hypothesis)]
    twelve, other = (source, hypothesis) if late[0] else (hypothesis, source)
    whole = [_AFTERNOON.sub(_in_24_hours, text) for text in (twelve, _SHARED.sub(r"\1 pm", twelve))]
    if _LATE.search(other):  # "8 Uhr abends"
        whole.append(twelve)
    return [(one, other) if late[0] else (other, one) for one in whole]


def _in_24_hours(clock: re.Match[str]) -> str:
    return f"{int(clock[1]) + 12}{clock[2]}"


def _numbers(text: str) -> list[str]:
    """A date is three numbers: what parts them, and their order, changes."""
    found = _NUMBER.findall(text)
    return [one for number in found for one in (number.split(".") if _DATE.fullmatch(number) else [number])]


def _lost_numbers(source: str, hypothesis: str) -> list[str]:
    left, lost = [_values(number) for number in _numbers(hypothesis)], []
    for number in _numbers(source):
        values = _values(number)
        found = next((i for i, others in enumerate(left) if values & others), None)
        if found is None:
            lost.append(number)
        else:
            del left[found]
    return lost


@functools.lru_cache(1024)
def _values(number: str) -> frozenset[str]:
    """What a number may be: 1,299 is 1299 or 1.299, 9:00 is 9 or 9.00. Of what is no number (1.2.3), its digits."""
    number = "".join(str(int(c)) if c.isdecimal() else c for c in number if not c.isspace())  # full-width ones, too
    if clock := _CLOCK.fullmatch(number):
        hour, minute = str(int(clock[1])), clock[2]
        return frozenset({f"{hour}.{minute}", hour} if minute == "00" else {f"{hour}.{minute}"})
    first, *groups = re.split("[.,:]", number)
    if not groups:
        return frozenset({str(int(first)) if len(first) == 2 else first})
    digits, kinds, values = "".join((first, *groups)), [c for c in number if not c.isdecimal()], set()
    if ":" in kinds:
        return frozenset({digits})
    if _is_grouped(first, groups) and len(set(kinds)) == 1:
        values.add(digits)
    if len(groups) == 1 or (_is_grouped(first, groups[:-1]) and len(set(kinds[:-1])) == 1 and kinds[-1] != kinds[0]):
        values.add("".join((first, *groups[:-1])).lstrip("0") + "." + groups[-1])
    return frozenset(values or {digits})


def _is_grouped(first: str, groups: Sequence[str]) -> bool:
    return 1 <= len(first) <= 3 and all(len(group) == 3 for group in groups)


def localised(source: str, hypothesis: str, languages: tuple[str, str]) -> str:
    """The hypothesis with the separators of its language in the numbers that have several, digit for digit as in the
    source, and with the points of its dates: models mix up 1,299.99 and 1.299,99, 24.12.2023 and 24:12:2023.
    ``languages``: source and target; others than those known here are let be."""
    points = ["," if one in DECIMAL_COMMA else r"\." if one in DECIMAL_POINT else "" for one in languages]
    if not _DIGIT.search(source) or not all(points) or points[0] == points[1]:
        return hypothesis
    point, group = points
    if point == ",":  # elsewhere it may be 4.4
        hypothesis = _dated(source, hypothesis)
    wanted = {
        _SEPARATOR.sub("_", number): number.translate(_SWAPPED)
        for number in re.findall(rf"(?<![\d.,])\d{{1,3}}(?:{group}\d{{3}})+(?:{point}\d+)?(?![\d.,]*\d)", source)
        if len(_SEPARATOR.findall(number)) > 1 and not _ADDRESS.fullmatch(number)
    }
    if not wanted:
        return hypothesis
    return _NUMBER.sub(lambda number: wanted.get(_SEPARATOR.sub("_", number[0]), number[0]), hypothesis)


def _dated(source: str, hypothesis: str) -> str:
    for introduced, day, month, year in _DAY.findall(source):
        if year:
            end = rf"{_POINT}{year}(?!\d)"
        elif introduced:  # it might be a clock
            end = r"(?:st|nd|rd|th)?(?![.,:]?\w)(?!\s*(?:[ap]\.?m\b|o'clock))"
        else:
            continue
        mixed = rf"(?<![\d.,:])(?<!\bat ){day}{_POINT}{month}{end}"
        hypothesis = re.sub(mixed, f"{day}.{month}" + f".{year}" * bool(year), hypothesis, count=1)
    return hypothesis


def emphasised(source: str, hypothesis: str) -> str:
    """The hypothesis with as many marks at its end as the source: models are not sure about "!!!" and "?!"."""
    marks, theirs = _MARKS.search(source), _MARKS.search(hypothesis)
    if not marks or not theirs or len(marks[0]) == len(theirs[0]) == 1:
        return hypothesis
    return hypothesis[: theirs.start()] + marks[0] + hypothesis[theirs.end() :]


def around_items(text: str) -> list[tuple[str, bool]]:
    """The text in parts that join to it: (part, whether it is an item that must stay as it is). No number is."""
    if not _MAYBE_ITEM.search(text):
        return [(text, False)] if text else []
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
    return tuple(_WORD.findall(_without_items(text).casefold()))
