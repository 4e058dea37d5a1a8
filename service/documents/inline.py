"""Markup inside a sentence: bold, links, tags, code, placeholders.

The model reads words only. A sentence with markup is translated as a whole, without it, and each stretch between two
marks is translated once more by itself. Where the stretch's own translation is found in that of the sentence, there
the marks go; where it is not, they go to the proportional place between two words. What must stay as it is (code,
placeholders, addresses) stands in the sentence as a word; where the model did not copy it, or nothing is left for a
pair of marks to hold, the stretches are joined instead. So marks keep their number and order, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from model.segment import split

TEXT, MARK, FIXED = "text", "mark", "fixed"
_WORD = re.compile(r"\w")
_SPACE = re.compile(r"\s+")
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
            if piece.kind == TEXT and piece.text.strip():
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
        places = [i for i, part in enumerate(slices) if part.text.strip()]
        self._stretches = [slices[i] for i in places]
        # White space alone between two marks stays as it is, and belongs to neither neighbour.
        self._parted = [any(part.text for part in slices[i + 1 : j]) for i, j in pairwise(places)]
        own = [part.text for part in self._stretches if part.kind == TEXT]
        self._has_whole = bool(own) and len(places) > 1
        whole = ["".join(part.text for part in slices[places[0] : places[-1] + 1])] if self._has_whole else []
        self.texts = (*whole, *own)

    def place(self, translations: Sequence[str]) -> list[str]:
        """The new text of each slice."""
        own = iter(translations[self._has_whole :])
        new = [next(own) if part.kind == TEXT else part.text for part in self._stretches]
        if self._has_whole:
            new = align(self._stretches, self._parted, translations[0], new) or new
        left = iter(new)
        return [next(left) if part.text.strip() else part.text for part in self.slices]


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


def align(stretches: Sequence[Slice], parted: Sequence[bool], whole: str, alone: Sequence[str]) -> list[str] | None:
    """The translation of a sentence, cut into the translations of its stretches; None where it cannot be.

    ``alone`` are their translations one by one, ``parted`` tells where white space of its own lies between two.
    """
    spans = _locate(stretches, whole, alone) if len(stretches) <= MOST_STRETCHES else None
    if spans is None:
        return None
    cuts = [0]
    total, seen = sum(len(part.text) for part in stretches), 0
    for i, (one, two) in enumerate(pairwise(stretches)):
        seen += len(one.text)
        limit = next((span[0] for span in spans[i + 1 :] if span), len(whole))
        cut = _cut(whole, one, two, spans[i], spans[i + 1], (cuts[-1], limit, seen / total))
        if cut is None:
            return None
        cuts.append(max(cut, cuts[-1]))
    new = [whole[start:end] for start, end in pairwise([*cuts, len(whole)])]
    for i, (one, two) in enumerate(pairwise(stretches)):
        end, start = one.text[-1].isspace(), two.text[0].isspace()
        if parted[i] or (end and start):  # white space at more than one place between the words: each keeps its own
            new[i], new[i + 1] = new[i].rstrip() + " " * end, " " * start + new[i + 1].lstrip()
    for part, text in zip(stretches, new, strict=True):
        if (part.kind == FIXED and text != part.text) or (_WORD.search(part.text) and not _WORD.search(text)):
            return None
    return new


def _locate(stretches: Sequence[Slice], whole: str, alone: Sequence[str]) -> list[tuple[int, int] | None] | None:
    """Where each stretch stands in the whole, in order; None where one that is FIXED does not."""
    spans: list[tuple[int, int] | None] = [None] * len(stretches)
    position = 0
    for i, part in enumerate(stretches):
        if part.kind == FIXED:
            start = whole.find(part.text, position)
            if start < 0:
                return None
            position = start + len(part.text)
            spans[i] = (start, position)
    position = 0
    for i, text in enumerate(alone):
        if spans[i] is None:
            limit = next((span[0] for span in spans[i + 1 :] if span), len(whole))
            # A mark in the middle of a word: there, no word needs to end
            inside = tuple(
                0 <= k < len(stretches) - 1 and stretches[k].text[-1].isalnum() and stretches[k + 1].text[0].isalnum()
                for k in (i - 1, i)
            )
            spans[i] = _search(text.strip(), whole, position, limit, inside) or _search(
                _EDGES.sub("", text), whole, position, limit, inside
            )
        position = (spans[i] or (0, position))[1]
    return spans


def _search(text: str, whole: str, start: int, end: int, inside: tuple[bool, ...]) -> tuple[int, int] | None:
    """Where the text stands as whole words, in upper or lower case; ``inside``: whether its start, its end may lie
    within a word."""
    before = r"(?<!\w)" * (text[:1].isalnum() and not inside[0])
    after = r"(?!\w)" * (text[-1:].isalnum() and not inside[1])
    found = re.compile(f"{before}{re.escape(text)}{after}", re.IGNORECASE).search(whole, start, end) if text else None
    return found.span() if found else None


def _cut(
    whole: str,
    one: Slice,
    two: Slice,
    left: tuple[int, int] | None,
    right: tuple[int, int] | None,
    between: tuple[int, int, float],
) -> int | None:
    """Where ``one`` ends and ``two`` begins in the whole. ``between``: the least and the most that it can be, and the
    share of the sentence that stands before it in the source."""
    spaced = one.text[-1].isspace()  # the space between the two belongs to ``one``
    if left and one.kind == FIXED:
        return left[1]
    if right and (two.kind == FIXED or spaced):
        return right[0]
    if left and not spaced:
        return left[1]
    if left:
        return left[1] + len(whole[left[1] :]) - len(whole[left[1] :].lstrip())
    if right:
        return len(whole[: right[0]].rstrip())
    low, high, share = between
    places = [match.end() if spaced else match.start() for match in _SPACE.finditer(whole, low, high)]
    return min(places, key=lambda place: abs(place - share * len(whole)), default=None)
