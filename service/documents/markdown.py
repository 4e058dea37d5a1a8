"""Markdown (CommonMark with tables): paragraphs, headings, list items and cells; HTML blocks as in HTML.

markdown-it-py finds the blocks and their lines; each is then found in its lines, so that all around it is copied as it
is: front matter, code, list markers, link definitions. A paragraph of several lines becomes one line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from markdown_it import MarkdownIt

from service.documents import html as html_format
from service.documents.inline import FIXED, MARK, TEXT, Piece, Unit
from service.documents.record import Options, Record, document

_FRONT_MATTER = re.compile(
    r"(---[ \t]*\r?\n.*?^(?:---|\.\.\.)|\+\+\+[ \t]*\r?\n.*?^\+\+\+)[ \t]*\r?$",
    re.DOTALL | re.MULTILINE,
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|$)")
_SPACE = re.compile(r"\s+")
# What a translation must not begin with, or it would become a list, a heading, a quotation.
_BLOCK_START = re.compile(r"(?:[-+*>]|#{1,6}|\d{1,9}(?=[.)]))(?=[\s.)]|$)")
_LINK_END = (
    r"\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'))?\s*\)|\]\[[^\[\]]*\]"
)
# What is never closed is looked at as far as the next that begins, or some characters
_INLINE = re.compile(
    rf"""
    (?P<code>(?<!`)(?P<ticks>`+)(?!`).{{1,5000}}?(?<!`)(?P=ticks)(?!`))
    |(?P<fixed><(?:https?|ftp|mailto):[^\s<>]*>|https?://[^\s<>()\[\]]*[^\s<>()\[\].,;:!?*_]|\{{\{{(?:(?!\{{\{{).)*?\}}\}}
        |\{{%(?:(?!\{{%).)*?%\}}
        |\$\$.+?\$\$|(?<![\\$\w])\$(?=[^\s$])[^$\n]*?(?<=[^\s$\\])\$(?![\d$]))
    |(?P<escape>\\[!-/:-@\[-`{{-~])
    |(?P<mark><!--.{{0,2000}}?-->|</?[A-Za-z][^<>]*>
        |\[\^[^\[\]\s]+\]:?|(?<!\S)\[[ xX]\](?=\s)|!?\[(?=[^\[\]]*(?:\[[^\[\]]*\]
        [^\[\]]*)*(?:{_LINK_END}))|{_LINK_END}|~~
        |(?:(?<!\*)|(?<=\\\*))\*++(?=\S)|(?<=[^\s*])\*+|(?<![\w_])_+(?=[^\s_])|(?<=[^\s_])_+(?!\w))
    |(?P<label>!?\[[^\[\]]+\])
    """,
    re.DOTALL | re.VERBOSE,
)
_TITLE = re.compile(r"""\s(["'])(.*)\1\s*\)$""", re.DOTALL)


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    return document(file, lambda text: parse(text, options.source))


def parse(text: str, language: str) -> Iterator[str | Unit]:
    """What is copied and what is translated, in order; joined, it is the text."""
    front = _FRONT_MATTER.match(text)
    done = front.end() if front else 0
    lines = [match.start() + done for match in _LINE.finditer(text[done:])]  # where each line starts
    lines.append(len(text))
    environment: dict[str, Mapping[str, object]] = {}
    yield text[:done]
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text[done:], environment):
        if token.map is None or token.type not in ("inline", "html_block"):
            continue
        start, end = lines[token.map[0]], lines[token.map[1]]
        if token.type == "html_block":
            yield text[done:start]
            yield from html_format.parse(text[start:end], language)
            done = end
            continue
        for part in _hard_lines(token.content):
            span = _find(text, part, max(start, done), end)
            if not span:
                break  # not as it stands in the source (a tab in the margin): copied
            yield text[done : span[0]]
            done = span[1]
            yield _unit(text[span[0] : done], "\n".join(part), environment.get("references", {}), language)
    yield text[done:]


def _hard_lines(content: str) -> Iterator[list[str]]:
    """The lines of a block, parted where a line break is meant."""
    part: list[str] = []
    for line in content.split("\n"):
        is_hard = line.endswith(("  ", "\\"))
        part.append((line.removesuffix("\\") if is_hard else line).strip())
        if is_hard:
            yield part
            part = []
    if part:
        yield part


def _find(text: str, lines: list[str], start: int, end: int) -> tuple[int, int] | None:
    """From the first to the last of the lines in ``text[start:end]``."""
    first = -1
    for line in lines:
        found = text.find(line, start, end)
        if found < 0:
            line = line.replace("|", "\\|")  # in a table, the source escapes it
            found = text.find(line, start, end)
        if found < 0:
            return None
        first, start = found if first < 0 else first, found + len(line)
    return first, start


def _unit(raw: str, content: str, references: Mapping[str, object], language: str) -> Unit | str:
    """``content``: ``raw`` without what stands before its lines, such as quotation marks."""
    if "\n" not in content:
        content = raw
    pieces = list(_pieces(content, references))
    escaped = {match[0][1] for match in _INLINE.finditer(content) if match["escape"]}

    def escape(text: str) -> str:
        text = re.sub("|".join(map(re.escape, ["\\", *escaped])), r"\\\g<0>", text) if escaped else text
        return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", text))

    def finish(text: str) -> str:
        begin = _BLOCK_START.match(text)
        if not begin or _BLOCK_START.match(content):
            return text
        return f"{begin[0]}\\{text[begin.end() :]}" if begin[0].isdigit() else "\\" + text

    unit = Unit(raw, pieces, language, escape, lambda text: re.sub(r'[\[\]"]', r"\\\g<0>", text), finish)
    return unit if unit.texts else raw


def _pieces(content: str, references: Mapping[str, object]) -> Iterator[Piece]:
    end = 0
    pending = ""  # words, escapes resolved on the way
    raw = ""
    for match in _INLINE.finditer(content):
        between, end = content[end : match.start()], match.end()
        pending, raw = pending + html.unescape(between), raw + between
        token = match[0]
        if match["escape"] or (match["label"] and " ".join(token.strip("![]").split()).upper() not in references):
            pending, raw = pending + token.removeprefix("\\"), raw + token
            continue
        yield from _text(raw, pending)
        pending = raw = ""
        if match["label"]:  # [label]: its words are the key of a definition, too
            yield Piece(MARK, token[: token.index("[") + 1])
            yield Piece(TEXT, token.strip("![]"), token.strip("![]"))
            yield Piece(MARK, "]" + token.lstrip("!"))
        elif match["mark"]:
            title = _TITLE.search(token) if token.startswith("](") else None
            yield Piece(MARK, token, words=((title.start(2), title.end(2), title[2]),) if title and title[2] else ())
        else:
            yield Piece(FIXED, token, token.strip("`<>") or token)
    yield from _text(raw + content[end:], pending + html.unescape(content[end:]))


def _text(raw: str, text: str) -> Iterator[Piece]:
    if raw:
        yield Piece(TEXT, raw, _SPACE.sub(_one_space, text))


def _one_space(space: re.Match[str]) -> str:
    """For line breaks and what is around them, and for blanks; what else is white stays."""
    return " " if re.search(r"[\r\n]", space[0]) else re.sub(r"[ \t]+", " ", space[0])
