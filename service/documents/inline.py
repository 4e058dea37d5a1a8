"""Markup inside a sentence: bold, links, tags, code, placeholders.

The model reads words only. A sentence with markup is translated as a whole, without it, and each stretch between two
marks is translated once more by itself. Where the stretch's own translation is found in that of the sentence, perhaps
with an ending, there the marks go; where it is not, they go to the proportional place between two words. What must stay
as it is (code, placeholders, addresses) stands in the sentence as a word; where the model did not copy it, or nothing
is left for a pair of marks to hold, the stretches are joined instead. So marks keep their number and order, and nothing
is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from model.segment import split

TEXT, MARK, FIXED = "text", "mark", "fixed"
_WORD = re.compile(r"\w")
_WORDS = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")
_WORD_END = re.compile(r"[^\w\s]*\s*")  # what stands behind a word, such as ", "
_QUOTE = re.compile("[\"'„“”‚‘’«»‹›]")  # any is found as any other
MOST_STRETCHES = 200  # of a sentence that is taken apart at its marks; what that takes grows with their square
_EDGES = re.compile(r"^\W+|(?<!\W)\W+$")  # punctuation moves and changes; words are what is looked for


@dataclass(frozen=True)
class Piece:
    """A part of a unit. ``raw`` is how it stands in the document, ``text`` what the model reads of it.

    TEXT: words. MARK: no words for the sentence ("**", "<a ...>"), but perhaps some of its own: ``words`` are
    (start, end, text) in ``raw``, such as the alt text of an image. FIXED: part of the sentence that stays as it is.
    """

    kind: str
    raw: str
    text: str = ""
    words: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True)
class Slice:
    """What a sentence holds of the piece ``index``."""

    index: int
    kind: str
    text: str


@dataclass(frozen=True)
class Seam:
    """Where two stretches meet.

    ``blanks`` are the slices between them that are white space alone; they belong to neither. ``leans``: its space or
    its quotation mark stands before the marks, so what lies between the words belongs to ``one``; else to ``two``.
    """

    one: Slice
    two: Slice
    blanks: tuple[int, ...]
    leans: bool

    @classmethod
    def of(cls, slices: Sequence[Slice], i: int, j: int) -> Seam:
        one, two = slices[i], slices[j]
        blanks = tuple(k for k in range(i + 1, j) if slices[k].kind == TEXT and slices[k].text)
        if FIXED in (one.kind, two.kind):
            leans = one.kind != FIXED
        elif blanks:
            leans = blanks[0] == i + 1 < j - 1
        else:
            leans = one.text[-1].isspace() or bool(_WORD.match(two.text) and not _WORD.match(one.text[-1]))
        return cls(one, two, blanks, leans)

    @property
    def is_in_word(self) -> bool:
        return not self.blanks and self.one.text[-1].isalnum() and self.two.text[0].isalnum()


class Unit:
    """A stretch of a document that is translated together: a paragraph, a cell, a subtitle.

    ``texts`` are what to translate, ``render`` makes the new text of their translations: that of the document itself,
    byte for byte, where they all equal what they translate.
    """

    def __init__(
        self,
        raw: str,
        pieces: Sequence[Piece],
        language: str,
        escape: Callable[[str], str] = lambda text: text,
        escape_words: Callable[[str], str] = lambda text: text,
        finish: Callable[[str], str] = lambda text: text,
    ) -> None:
        """``escape`` and ``escape_words`` make document text of words and of a mark's words, ``finish`` has the last
        word on the whole."""
        self.raw, self._pieces = raw, pieces
        self._escape, self._escape_words, self._finish = escape, escape_words, finish
        self._sentences = list(sentences(pieces, language))
        self._words = [text for piece in pieces for _, _, text in piece.words]
        self.texts = (*(text for sentence in self._sentences for text in sentence.texts), *self._words)

    def fragments(self, translations: Sequence[str]) -> list[str]:
        """The new text of each piece; "" for marks."""
        found = [""] * len(self._pieces)
        left = iter(translations)
        for sentence in self._sentences:
            new = sentence.place([next(left) for _ in sentence.texts])
            for part, text in zip(sentence.slices, new, strict=True):
                found[part.index] += text
        return found

    def render(self, translations: Sequence[str]) -> str:
        if list(translations) == list(self.texts):
            return self.raw
        words = iter(translations[len(translations) - len(self._words) :])
        out = []
        for piece, text in zip(self._pieces, self.fragments(translations), strict=True):
            if piece.kind == TEXT and (piece.text.strip() or text != piece.text):
                out.append(self._escape(text))
                continue
            raw, end = "", 0
            for start, stop, _ in piece.words:
                raw, end = raw + piece.raw[end:start] + self._escape_words(next(words)), stop
            out.append(raw + piece.raw[end:])
        return self._finish("".join(out))


class Sentence:
    """The slices of one sentence. ``texts``: the whole, if marks part it, and each stretch of words by itself."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self.slices = slices
        self._places = [i for i, part in enumerate(slices) if part.text.strip()]
        self._stretches = [slices[i] for i in self._places]
        self._seams = [Seam.of(slices, i, j) for i, j in pairwise(self._places)]
        own = [part.text for part in self._stretches if part.kind == TEXT]
        self._has_whole = bool(own and self._seams)
        whole = "".join(part.text for part in slices[self._places[0] : self._places[-1] + 1]) if self._has_whole else ""
        self.texts = (whole, *own) if self._has_whole else tuple(own)

    def place(self, translations: Sequence[str]) -> list[str]:
        """The new text of each slice."""
        own = iter(translations[self._has_whole :])
        alone = [next(own) if part.kind == TEXT else part.text for part in self._stretches]
        found = align(self._seams, translations[0], alone) if self._has_whole else None
        texts, gaps = found or (alone, [""] * len(self._seams))
        new = [part.text for part in self.slices]
        for i, text in zip(self._places, texts, strict=True):
            new[i] = text
        for seam, gap in zip(self._seams, gaps, strict=True):
            for k in seam.blanks if gap.strip() else ():  # white space stays as it is, but for punctuation in it
                new[k], gap = gap, ""
        return new


def sentences(pieces: Sequence[Piece], language: str) -> Iterator[Sentence]:
    """The pieces, parted between sentences, so that a mark moves within its own sentence only."""
    text = "".join(piece.text for piece in pieces)
    cuts: list[int] = []
    if sum(bool(piece.text.strip()) for piece in pieces) > 1:
        parts = split(text, language, len, len(text))
        ends = accumulate(len(part.text) for part in parts)
        starts = [end - len(part.text) for part, end in zip(parts, ends, strict=True) if part.translate]
        cuts = starts[:0:-1]  # last first; the first sentence starts without a cut
    slices: list[Slice] = []
    position = 0
    for index, piece in enumerate(pieces):
        start, position = position, position + len(piece.text)
        while cuts and (cuts[-1] < position or cuts[-1] == start):
            cut = cuts.pop()
            if piece.kind == FIXED and start < cut:
                continue
            if start < cut:
                slices.append(Slice(index, piece.kind, text[start:cut]))
            yield Sentence(slices)
            slices, start = [], cut
        slices.append(Slice(index, piece.kind, text[start:position]))
    if slices:
        yield Sentence(slices)


def align(seams: Sequence[Seam], whole: str, alone: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """The translation of a sentence, cut into those of its stretches and what stands where blanks part them; None
    where it cannot be. ``alone`` are the translations of the stretches one by one."""
    stretches = [seams[0].one, *(seam.two for seam in seams)]
    spans = _locate(stretches, seams, whole, alone) if len(stretches) <= MOST_STRETCHES else None
    if spans is None:
        return None
    cuts = [(0, 0)]  # where a stretch ends, and where the next begins
    total, seen = sum(len(part.text) for part in stretches), 0
    for i, seam in enumerate(seams):
        seen += len(seam.one.text)
        low, high = cuts[-1][1], next((span[0] for span in spans[i + 1 :] if span), len(whole))
        cut = _cut(whole, seam, spans[i], spans[i + 1], (low, high, seen / total))
        if cut is None:
            return None
        cuts.append((max(cut[0], low), max(cut[1], low)))
    new = [whole[start:end] for (_, start), (end, _) in pairwise([*cuts, (len(whole), 0)])]
    gaps = [whole[end:start] for end, start in cuts[1:]]
    for i, seam in enumerate(seams):
        end, start = (text.isspace() and not gaps[i].strip() for text in (seam.one.text[-1], seam.two.text[0]))
        if seam.blanks or (end and start):  # white space at more than one place between the words: each keeps its own
            new[i], new[i + 1] = new[i].rstrip() + " " * end, " " * start + new[i + 1].lstrip()
    for part, text in zip(stretches, new, strict=True):
        if (part.kind == FIXED and text != part.text) or (_WORD.search(part.text) and not _WORD.search(text)):
            return None
    return new, gaps


def _locate(
    stretches: Sequence[Slice], seams: Sequence[Seam], whole: str, alone: Sequence[str]
) -> list[tuple[int, int] | None] | None:
    """Where each stretch stands in the whole, in order; None where one that is FIXED does not."""
    fixed: list[tuple[int, int] | None] = [None] * len(stretches)
    position = 0
    for i, part in enumerate(stretches):
        if part.kind == FIXED:
            start = whole.find(part.text, position)
            if start < 0:
                return None
            position = start + len(part.text)
            fixed[i] = (start, position)
    # In order, a short stretch may be found too late, where the sentence has another word for it; the longest first,
    # one may be found too early, where others have its words. Where more is found is likelier right.
    found = []
    for order in (range(len(alone)), sorted(range(len(alone)), key=lambda i: -len(alone[i]))):
        spans = fixed.copy()
        for i in order:
            if not spans[i]:
                start = next((span[1] for span in spans[i::-1] if span), 0)
                end = next((span[0] for span in spans[i:] if span), len(whole))
                # A mark in the middle of a word: there, no word needs to end
                inside = (i > 0 and seams[i - 1].is_in_word, i < len(seams) and seams[i].is_in_word)
                texts = dict.fromkeys((alone[i].strip(), _EDGES.sub("", alone[i])))
                spans[i] = next(filter(None, (_search(text, whole, start, end, inside) for text in texts)), None)
        found.append(spans)
    return max(found, key=lambda spans: sum(span[1] - span[0] for span in spans if span))


def _search(text: str, whole: str, start: int, end: int, inside: tuple[bool, bool]) -> tuple[int, int] | None:
    """Where the text stands as whole words, in upper or lower case, or else with an ending (rot, rotes); ``inside``:
    whether its start, its end may lie within a word."""
    if not text:
        return None
    before = r"(?<!\w)" * (text[0].isalnum() and not inside[0])
    after = r"(?!\w)" * (text[-1].isalnum() and not inside[1])
    ending = r"\w{0,2}" * (text[-1].isalpha() and not inside[1] and len(text) > 2)
    words = _QUOTE.sub(lambda _: _QUOTE.pattern, re.escape(text))
    found = re.compile(f"{before}{words}{ending}{after}", re.IGNORECASE).finditer(whole, start, end)
    return min((match.span() for match in found), key=lambda span: span[1] - span[0], default=None)


def _cut(
    whole: str,
    seam: Seam,
    left: tuple[int, int] | None,
    right: tuple[int, int] | None,
    between: tuple[int, int, float],
) -> tuple[int, int] | None:
    """Where ``one`` ends and ``two`` begins in the whole: the same place, if no blanks part them. ``between``: the
    least and the most that it can be, and the share of the sentence that stands before it in the source."""
    if left and right and _WORD.search(whole[left[1] : right[0]]):  # words that are neither's
        left, right = (None, right) if seam.leans else (left, None)
    if left:
        end, start = left[1], right[0] if right else next(_WORD_END.finditer(whole, left[1])).end()
    elif right:
        end, start = len(whole[: right[0]].rstrip()), right[0]
    else:
        low, high, share = between
        words = [match.span() for match in _WORDS.finditer(whole, low, high)]  # of which each side keeps one
        spaces = [match.span() for match in _SPACE.finditer(whole, words[0][1], words[-1][0])] if words else []
        if not spaces:
            return None
        end, start = min(spaces, key=lambda space: abs(space[seam.leans] - share * len(whole)))
    if seam.blanks:
        return end, start
    return (start, start) if seam.leans else (end, end)
