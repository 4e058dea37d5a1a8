"""Text to segments: sentences to translate, and everything between them kept verbatim.

``"".join(s.text for s in split(text, ...)) == text`` for every ``str``, lone surrogates and NUL included.

Verbatim (``translate=False``), adjacent stretches merged into one segment:
  * white space around sentences, line breaks of every kind, runs of 3 or more white-space characters (columns);
  * control characters (tab, NUL, ...), but for most that ``normalise`` repairs, and lone surrogates wherever they
    stand: a tab parts two cells of a table;
  * list and quote markers at the start of a line: ``- * + > # 1) (1) a) [x]`` and ``1.`` (see ``_marker_end``);
  * emoji, invisible marks (BOM, direction) and private-use characters at the edges of a sentence;
  * what has no letter, except a decimal number ("3.5" is "3,5" in German): ``---``, ``…?``, ``42``, ``12:30``;
  * a lone URL or e-mail address; and a single character that is over the limit by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from unicodedata import category
from unicodedata import normalize as unicode_normalize

import sentencex

from model.guards import around_items

BLOCK = 10_000  # characters given to sentencex at once: it is quadratic in unclosed quotation marks

# Of the controls from 80 to 9f those that are none in Windows-1252 (``_REPAIRS``), and 85, a line break, too
_BREAK = re.compile(r"((?:[\x00-\x1f\x7f\x81\x85\x8d\x8f\x90\x9d\u2028\u2029\ud800-\udfff]|\s{3,})+)")
_LINE_BREAK = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARKER = re.compile(r"\s*(?:(?:[-*+>•‣◦▪●○–—]+|#{1,6}|\(?(?:\d{1,3}|[a-z])\)|\[[ xX]\])\s+(?=\S))*")
_NUMBER = re.compile(r"(\d{1,3})\.\s+(?=(\w*))")
_NUMBERED = re.compile(rf"(?:^|{_LINE_BREAK.pattern})[ \t]*{_NUMBER.pattern}")
_ADDRESS = re.compile(r"(?i:https?://|ftp://|www\.)\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_DECIMAL = re.compile(r"\d[.,]\d")
# Letters, marks and punctuation from Greek on, but for the Latin ones among them
_OTHER = "\u0370-\u1cff\u1f00-\u1fff\u2c00-\u2c5f\u2d00-\u2dff\u2e80-\ua71f\ua800-\uab2f\uab70-\ud7ff"
_OTHER += "\uf900-\ufaff\ufb13-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00020000-\U0003ffff"
OTHER_SCRIPT = re.compile(rf"([{_OTHER}](?:[{_OTHER}\s,.'’-]*[{_OTHER}])?[\s,;:.!?)\]…]*)")
_CLOSERS = "\"'”’“‘»«›‹)]}…"
_CLAUSE = re.compile(rf"[;:,–—!?…{re.escape(_CLOSERS)}]+(?=\s)|[、，；：。！？）」』]+")
_SPACE = re.compile(r"\s+")

# Languages that write "3." for "third": there a number with a dot starts neither a list item nor ends a sentence.
_ORDINAL_DOT = re.compile("de|lb|da|nb|nn|no|fi|et|lv|cs|sk|sl|hr|bs|sr|pl|hu|is|fo|tr")
# A capital after a German "3." or "Abb." is nearly always its noun, unless it is one of these (as first words go).
_GERMAN_OPENER = re.compile(
    "D(?:er|ie|as|e[mns]|ies(?:e[rs]?)?|u|ann|a|ort|anach|aher|och|enn|eine?)|Eine?[nmr]?|Er|Sie|Es|Ich|Wir|Ihr|Man"
    "|[MS]eine?|Unsere?|(?:Jed|Kein)e[rs]?|Alle|I[nm]|A[mnu]f?|Aus|Bei|Beim|Mit|Nach|Vo[nmr]|Zu[mr]?|Für|Um|Und|Aber"
    "|Oder|Hier|Jetzt|Heute|Gestern|Nun|Wenn|Wie|Was|Wer|Wo|Wann|Warum|Weil|Als|Ob|Obwohl|Nicht|So|Auch|Ja|Nein|Bitte"
)
_GERMAN_MONTH = re.compile("Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember")
# Abbreviations that sentencex 1.0 takes for the end of a sentence.
_ABBREVIATION = {
    "en": re.compile(r"\b(?:Ms|Mx|Cpt|Ft|Ste|Figs?|Eq|Vol|Ch|Eds|Apt|approx|incl|max|tel)\.\s*$"),
    "de": re.compile(
        r"\b(?:Fa|Fam|Gebr|Hbf|Bhf|Tsd|Stk|Pkt|Bez|Inh|Jg|Kto|Präs|Red|Verf|Ziff|insb|einschl|ehem|engl|frz|griech"
        r"|lat|röm|allg|bes|dt|gem|max|mind|verh|vorm|Frl|Hrn|Dipl|Nrn|Tel|Abs|Abb|Anm|Aufl|Bde?|Bsp|inkl|exkl"
        r"|zzgl|Jhd?|Kap|Hrsg|[Hh]l|Abt|geb|gest|Okt|Dez|rer|nat|jur|phil)\.\s*$"
    ),
}
_ORDINAL_END = re.compile(r"(?:^|[\s(/–-])\d{1,3}\.\s*$")
_QUOTED_END = re.compile(r"""(?:[.!?…,]["'”’“‘»«›‹)\]]|["'”’“‘»«›‹)\]][.!?…])\s*$""")


# Soft hyphen, zero-width space, word joiner and byte order mark go; ligatures (of PDF files), full-width letters and
# digits and the hyphen that does not break become what a keyboard writes; Windows-1252 taken for Latin-1 is put right
# (as in HTML): "\x84" is a quotation mark.
_REPAIRS: dict[int, str | None] = dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF))
_REPAIRS |= {code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)}
_TYPED = (0x2011, *range(0xFB00, 0xFB07), *range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
_REPAIRS |= {code: unicode_normalize("NFKC", chr(code)).replace("\u2010", "-") for code in _TYPED}


@dataclass(frozen=True)
class Segment:
    text: str
    translate: bool


def split(
    text: str, language: str, length: Callable[[str], int], limit: int, only_latin: bool = False
) -> list[Segment]:
    """Cut ``text`` into segments whose texts join to it again; the module says what is verbatim.

    A translated segment has no white space at its edges and ``length(segment.text) <= limit``; ``length`` counts the
    caller's units (SentencePiece pieces) and is called on about three times ``len(text)`` characters in all.
    ``language`` is the code of the text ("de", "de-AT"); one that sentencex does not know gets general rules.
    ``only_latin``: words in other scripts are verbatim, with the punctuation behind them.
    Raises ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit = {limit} is below 1")
    segments: list[Segment] = []
    pieces = _pieces(text, re.split("[-_]", language.lower())[0], length, limit, only_latin)
    for translate, group in groupby(pieces, key=lambda piece: piece.translate):
        run = list(group)
        segments += run if translate else [Segment("".join(piece.text for piece in run), False)]
    return [segment for segment in segments if segment.text]


def _pieces(text: str, language: str, length: Callable[[str], int], limit: int, only_latin: bool) -> Iterator[Segment]:
    at_line_start, items = True, _items(text, language)
    for index, chunk in enumerate(_BREAK.split(text)):  # chunk, break, chunk, ..., chunk
        if index % 2:
            at_line_start = at_line_start or bool(_LINE_BREAK.search(chunk))
            yield Segment(chunk, False)
        elif chunk:
            start = _marker_end(chunk, language, items) if at_line_start else 0
            at_line_start = False
            yield Segment(chunk[:start], False)
            for sentence in _sentences(chunk[start:], language):
                for number, part in enumerate(OTHER_SCRIPT.split(sentence) if only_latin else [sentence]):
                    yield from [Segment(part, False)] if number % 2 else _fit(part, length, limit)


def _items(text: str, language: str) -> frozenset[int]:
    """The numbers that count the lines of a German list: another line has the next or the one before."""
    if language != "de":
        return frozenset()
    numbers = {int(match[1]) for match in _NUMBERED.finditer(text) if not _GERMAN_MONTH.fullmatch(match[2])}
    return frozenset(number for number in numbers if {number - 1, number + 1} & numbers)


def _marker_end(line: str, language: str, items: frozenset[int]) -> int:
    """Where the list markers that start the line end; 0 without any.

    "1. Butter" is an item in English, but in German it may be an ordinal ("3. Oktober"): a marker there only in a list
    (``items``) or before a word that no ordinal precedes ("1. Die Butter"), and never in the other languages with such
    ordinals.
    """
    match = _MARKER.match(line)
    end = match.end() if match else 0
    number = _NUMBER.match(line, end)
    if number:
        in_list = int(number[1]) in items and not _GERMAN_MONTH.fullmatch(number[2])
        opener = language == "de" and _GERMAN_OPENER.fullmatch(number[2])
        if in_list or opener or not _ORDINAL_DOT.fullmatch(language):
            end = number.end()
    return end


def _sentences(line: str, language: str) -> Iterator[str]:
    """The sentences of a line, white space included; they join to the line."""
    start = position = 0
    before = ""
    # sentencex panics on some multi-byte white space and does not know that "3.\xa0Oktober" is "3. Oktober": it sees
    # plain spaces, one for one, and only the places of its cuts are used.
    for piece in _blockwise(re.sub(r"\s", " ", line), language):
        if before and not _belongs(before, piece, language):
            yield line[start:position]
            start = position
        before = piece
        position += len(piece)
    yield line[start:]


def _blockwise(line: str, language: str) -> Iterator[str]:
    start = 0
    while start < len(line):
        block = line[start : start + BLOCK]
        try:
            pieces = sentencex.segment(language, block)
        except BaseException as error:  # a Rust panic arrives as a BaseException of no importable type
            if type(error).__name__ != "PanicException":
                raise
            pieces = [block]
        if "".join(pieces) != block:
            pieces = [block]
        if start + BLOCK < len(line) and len(pieces[-1]) < BLOCK // 2:
            pieces.pop()  # its end was cut off: it comes first in the next block
        yield from pieces
        start += sum(map(len, pieces))


def _belongs(before: str, after: str, language: str) -> bool:
    """Whether sentencex cut wrongly between these two."""
    before, after = before[-40:], after[:40]
    if not before[-1].isspace() and not after[0].isspace():  # "Hello.World": only scripts without spaces end so
        last = before.rstrip(_CLOSERS)[-1:]
        return last.isascii() or not category(last).startswith("P")
    word = re.match(r"\w*", after.lstrip())[0]  # type: ignore[index]
    if word[:1].islower() and _QUOTED_END.search(before):  # "Really?" she asked.
        return True
    if language == "de" and _GERMAN_OPENER.fullmatch(word):
        return False
    if _ORDINAL_DOT.fullmatch(language) and word and _ORDINAL_END.search(before):
        return True
    abbreviation = _ABBREVIATION.get(language)
    return bool(abbreviation and abbreviation.search(before))


def _fit(text: str, length: Callable[[str], int], limit: int) -> Iterator[Segment]:
    """The text as verbatim edges around translated segments within the limit."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while start < end and _is_edge(text[end - 1]):
        end -= 1
    core = text[start:end]
    yield Segment(text[:start], False)
    if not _is_translatable(core):
        yield Segment(core, False)
    elif (units := length(core)) <= limit:
        yield Segment(core, True)
    elif len(core) == 1:
        yield Segment(core, False)
    else:
        for part in _parts(core, units, limit):
            yield from _fit(part, length, limit)
    yield Segment(text[end:], False)


def _is_edge(character: str) -> bool:
    return (
        character.isspace()
        or category(character) in ("So", "Cf", "Co")
        or "\ufe00" <= character <= "\ufe0f"  # variation selectors and skin tones belong to emoji
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _is_translatable(core: str) -> bool:
    if not any(map(str.isalpha, core)):
        return bool(_DECIMAL.search(core))
    return not _ADDRESS.fullmatch(core)


def _parts(text: str, units: int, limit: int) -> Iterator[str]:
    """Balanced parts, cut at clauses, else at white space, else between characters.

    Sizes are estimated from the characters, so the cost is linear; ``_fit`` cuts again what is still over the limit.
    """
    count = min(len(text), int(units / (0.8 * limit)) + 1)  # 0.8 leaves room to look for a good place
    slack = min(0.6, max(0.25, limit * count / units - 1))
    start = 0
    for left in range(count, 1, -1):
        size = (len(text) - start) / left
        target = start + max(1, round(size))
        low, high = max(start + 1, int(target - slack * size)), min(len(text) - 1, int(target + slack * size))
        cut = _best_cut(text, low, target, high)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _best_cut(text: str, low: int, target: int, high: int) -> int:
    for pattern in (_CLAUSE, _SPACE):
        ends = [match.end() for match in pattern.finditer(text, low, high)]
        if ends:
            return min(ends, key=lambda end: abs(end - target))
    near = sorted(range(low, high + 1), key=lambda place: abs(place - target))
    return next((place for place in near if not _is_joined(text[place - 1], text[place])), target)


def _is_joined(left: str, right: str) -> bool:
    """Whether a cut between the two would part a base from its marks. (A parted emoji is verbatim: it joins again.)"""
    return "\u200d" in (left, right) or category(right).startswith("M")


def normalise(text: str) -> str:
    """What the model reads of a sentence, in training and in use: NFC, invisible characters removed, every run of
    white space one space, none at the ends. Idempotent.
    """
    if not text.isascii():
        text = unicode_normalize("NFC", text.translate(_REPAIRS))
    return " ".join(text.split())


def is_capitals(text: str) -> bool:
    """Whether a text of several words is all in capitals: a heading, a warning, a shout, but no abbreviation. Items
    (placeholders, addresses, ...) do not count, and the two below leave them as they are."""
    words = " ".join(part for part, is_item in around_items(text) if not is_item)
    return words.isupper() and len(re.findall(r"[^\W\d_]{2,}", words)) > 1


def without_capitals(text: str) -> str:
    """What ``is_capitals`` as a sentence: models know little of capitals, which fall into rare pieces."""
    first = next((i for i, c in enumerate(text) if c.isalpha()), 0)
    small = _outside_items(text, lambda part: re.sub(r"\bi\b", "I", part.lower()))
    return text[: first + 1] + small[first + 1 :]


def in_capitals(text: str) -> str:
    """Every character in capitals, one for one: places in the text stay, "ß" becomes "ẞ"."""
    return _outside_items(
        text, lambda part: "".join(c.upper() if len(c.upper()) == 1 else c.replace("ß", "ẞ") for c in part)
    )


def _outside_items(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if is_item else change(part) for part, is_item in around_items(text))
