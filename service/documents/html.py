"""HTML: the text between block elements, with inline elements kept around the right words.

The standard library's tokenizer says where each token begins; what lies between two such places is copied as it is,
so that a page without a change is the same bytes, whatever its state. Not translated: scripts, styles, code, <pre>,
<svg>, comments, and what translate="no" or class="notranslate" excludes. Translated, too: the attributes alt, title,
placeholder and aria-label, the label of a button, description and title among <meta>, where they are quoted.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import accumulate, pairwise
from typing import BinaryIO

from service.documents.inline import FIXED, MARK, TEXT, Piece, Unit
from service.documents.record import Options, Record, document

INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite data del dfn em font i img ins label mark q s small span strike strong sub sup"
    " time tt u wbr code kbd samp var".split()
)
CODE = frozenset("code kbd samp var".split())
SKIPPED = frozenset("script style pre textarea svg math template object".split()) | CODE
BLOCKS = frozenset(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form h1 h2 h3"
    " h4 h5 h6 header hgroup hr main menu nav ol p pre search section table ul".split()
)
# Elements whose end tag may be left out, or is forgotten: the start tags that end them, unless within one of these
IMPLIED_END = {
    "p": (BLOCKS, frozenset("button object template textarea svg math".split())),
    "li": (frozenset(["li"]), frozenset(["ul", "ol", "menu"])),
    **dict.fromkeys(["dt", "dd"], (frozenset(["dt", "dd"]), frozenset(["dl"]))),
    **dict.fromkeys(["td", "th"], (frozenset(["td", "th", "tr", "tbody", "tfoot"]), frozenset(["table"]))),
    "tr": (frozenset(["tr", "tbody", "tfoot"]), frozenset(["table"])),
    **dict.fromkeys(["thead", "tbody", "tfoot"], (frozenset(["tbody", "tfoot"]), frozenset(["table"]))),
    "option": (frozenset(["option", "optgroup"]), frozenset(["select"])),
    "optgroup": (frozenset(["optgroup"]), frozenset(["select"])),
    **dict.fromkeys(["rt", "rp"], (frozenset(["rt", "rp"]), frozenset(["ruby"]))),
    **dict.fromkeys(CODE, (frozenset[str](), frozenset[str]())),
}
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
ATTRIBUTES = frozenset(["alt", "title", "placeholder", "aria-label"])
_ATTRIBUTE = re.compile(r"""\s([\w:-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
# Templates, addresses. One that is never closed is looked at as far as the next that begins
_KEPT = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}|\{%(?:(?!\{%).)*?%\}|https?://[^\s<]*[^\s<.,;:!?)]", re.DOTALL)
_COMMENT_END, _CDATA_END, _IF_END = (re.compile(end) for end in (r"--\s*>", r"\]\s*\]\s*>", r"\]\s*>"))
_BLANK = " \t\n\r\f"
_SPACE = re.compile(f"[{_BLANK}]+")


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    return document(file, lambda text: parse(text, options.source))


def parse(text: str, language: str) -> Iterator[str | Unit]:
    """What is copied and what is translated, in order; joined, it is the text."""
    pieces: list[Piece] = []  # of the unit that is open
    for raw, piece in _tokens(text):
        if piece:
            pieces.append(piece)
            continue
        yield from _unit(pieces, language)
        yield raw
        pieces = []
    yield from _unit(pieces, language)


def text_pieces(raw: str) -> Iterator[Piece]:
    """Words, and what stands among them but is none."""
    end = 0
    for match in _KEPT.finditer(raw):
        yield from _words(raw[end : match.start()])
        yield Piece(FIXED, match[0], match[0])
        end = match.end()
    yield from _words(raw[end:])


def _words(raw: str) -> Iterator[Piece]:
    words = raw.strip(_BLANK)
    start = raw.find(words)
    for part in (raw[:start], words, raw[start + len(words) :]):  # line breaks and indents at the edges stay
        if part:
            yield Piece(TEXT, part, _SPACE.sub(" ", html.unescape(part)))


def _unit(pieces: list[Piece], language: str) -> Iterator[str | Unit]:
    raw = "".join(piece.raw for piece in pieces)

    def escape(text: str) -> str:
        text = html.escape(text, quote=False)
        return text.replace("\xa0", "&nbsp;") if "&nbsp;" in raw else text

    unit = Unit(raw, pieces, language, escape, html.escape)
    if unit.texts:
        yield unit
    elif raw:
        yield raw


def _tokens(text: str) -> Iterator[tuple[str, Piece | None]]:
    """Each token as it stands, and as a piece of a sentence; None where a sentence cannot go on."""
    skipped, start = "", 0  # inside an element that is not translated: its name and place,
    inside: Counter[str] = Counter()  # and what is open in it
    tokens = [*_Tokenizer(text).tokens, (len(text), "", "", False)]
    for (begin, kind, tag, excluded), (end, *_) in pairwise(tokens):
        raw = text[begin:end]
        if skipped in IMPLIED_END and _ends(skipped, kind, tag, inside):
            yield _whole(text[start:begin], skipped)
            skipped = ""
        if skipped:
            if kind == "end" and tag == skipped and not inside[tag]:
                yield _whole(text[start:end], skipped)
                skipped = ""
            elif tag not in VOID:
                inside[tag] = max(0, inside[tag] + {"start": 1, "end": -1}.get(kind, 0))
        elif kind == "start" and (tag in SKIPPED or excluded) and tag not in VOID:
            skipped, start = tag, begin
            inside.clear()
        elif kind == "text":
            for piece in text_pieces(raw):
                yield piece.raw, piece
        elif kind == "comment" or tag in INLINE:
            yield raw, Piece(MARK, raw, words=() if excluded or kind != "start" else _attributes(tag, raw))
        elif kind == "start" and not excluded and (words := _attributes(tag, raw)):
            yield "", None
            yield raw, Piece(MARK, raw, words=words)
            yield "", None
        else:
            yield raw, None
    if skipped:  # never closed
        yield text[start:], None


def _whole(raw: str, skipped: str) -> tuple[str, Piece | None]:
    """An element that is not translated."""
    if skipped not in INLINE:
        return raw, None
    return raw, Piece(FIXED, raw, _SPACE.sub(" ", html.unescape(re.sub(r"<[^<>]*>", "", raw))))


def _ends(skipped: str, kind: str, tag: str, inside: Counter[str]) -> bool:
    """Whether an element without an end tag ends before this token: at one like it, or where what it stands in ends."""
    starts, within = IMPLIED_END[skipped]
    if any(inside[one] for one in within):
        return False
    if kind == "end":
        is_stray = tag in INLINE or tag in VOID or (tag == "p" and skipped not in CODE)
        return tag != skipped and not is_stray and not inside[tag]
    return kind == "start" and tag in starts


def _attributes(tag: str, raw: str) -> tuple[tuple[int, int, str], ...]:
    """The attribute values in a start tag that a reader sees: start, end, text."""
    values = {match[1].lower(): match for match in _ATTRIBUTE.finditer(raw)}

    def value(name: str) -> str:
        return values[name][2].strip("\"'").lower() if name in values else ""

    seen = set(ATTRIBUTES)
    if tag == "meta" and re.search(r"(^|:)(description|title)$", value("name") or value("property")):
        seen.add("content")
    if tag == "input" and value("type") in ("submit", "button", "reset"):
        seen.add("value")
    quoted = [match for name, match in values.items() if name in seen and match[2][0] in "\"'"]
    found = [match for match in quoted if match[2][1:-1].strip()]
    return tuple((match.start(2) + 1, match.end(2) - 1, html.unescape(match[2][1:-1])) for match in found)


class _Tokenizer(HTMLParser):
    """``tokens``: (offset, "start" | "end" | "text" | "comment" | "other", tag, excluded from translation)."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tokens: list[tuple[int, str, str, bool]] = []
        self._lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        # What never ends is searched for its end once, not from each place where it begins
        end = text.rfind(">") + 1
        self._last = {
            pattern: max((match.start() for match in pattern.finditer(text)), default=-1)
            for pattern in (_COMMENT_END, _CDATA_END, _IF_END)
        }
        self.feed(text[:end])
        self.close()
        if end < len(text) and (not self.tokens or self.tokens[-1][1] != "text"):
            self.tokens.append((end, "text", "", False))
        if not self.tokens or self.tokens[0][0] > 0:
            self.tokens.insert(0, (0, "other", "", False))

    def _add(self, kind: str, tag: str = "", excluded: bool = False) -> None:
        line, column = self.getpos()
        self.tokens.append((self._lines[line - 1] + column, kind, tag, excluded))

    def parse_comment(self, i: int, report: bool = True) -> int:
        return super().parse_comment(i, report) if i < self._last[_COMMENT_END] else -1

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        is_if = self.rawdata[i + 3 : i + 5].lower() in ("if", "el", "en")  # if, else, endif
        if i > self._last[_IF_END if is_if else _CDATA_END]:  # "<![1>": a comment, as in a browser
            return self.parse_bogus_comment(i)
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:  # of a name that it does not know
            return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]], kind: str = "start") -> None:
        given = {name: (value or "").lower() for name, value in attrs}
        excluded = given.get("translate") == "no" or "notranslate" in given.get("class", "").split()
        self._add(kind, tag, excluded)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # In HTML "<p/>" opens a paragraph, but in SVG and XHTML it is whole: nothing is skipped until its end.
        self._add("start" if tag in VOID else "whole", tag)

    def handle_endtag(self, tag: str) -> None:
        self._add("end", tag)

    def handle_data(self, data: str) -> None:
        self._add("text")

    def handle_comment(self, data: str) -> None:
        self._add("comment")

    def handle_decl(self, decl: str) -> None:
        self._add("other")

    def handle_pi(self, data: str) -> None:
        self._add("other")

    def unknown_decl(self, data: str) -> None:
        self._add("other")
