"""Phrases that a target must hold: where each hypothesis stands with them, and how they share a beam.

Lexically constrained beam search with dynamic beam allocation (Post & Vilar 2018): the candidates of a step are
grouped by how far they are with the phrases, and each group has its share of the beam, so that a hypothesis with an
unlikely phrase is not crowded out by those that put it off, or have just begun it. Those that are amid a phrase, where
there is nothing to choose, get one row for each length; those between phrases share the rest.

A phrase stands as words of its own: no letter or digit adjoins it. Shapes: K rows, C candidates, W tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.vocabulary import EOS, Edges, Phrase

Array = np.ndarray
Tokens = tuple[int, ...]
AMID = 1 << 16  # more than any phrase has tokens


class Progress(NamedTuple):
    """Of one hypothesis."""

    met: int = 0  # bit i: phrase i is written
    prefix: Tokens = ()  # the last tokens, as far as they begin a phrase that is not met
    inside: bool = True  # whether the last token ends within a word, or is BOS: no form for after a bracket goes on
    closed: bool = False  # whether the last token may be the end of a phrase: no word goes on from it


class Constraints:
    """The phrases of one target, and how far each row is. A phrase that is given twice must stand there twice."""

    def __init__(self, phrases: Sequence[Phrase], edges: Edges, beam: int) -> None:
        self._edges, self._beam = edges, beam
        self._all = (1 << len(phrases)) - 1
        self._forms = [(1 << i, form) for i, phrase in enumerate(phrases) for form in phrase]
        self._tokens = {token for _, form in self._forms for token in form}
        self._share = max(1, (beam - amid(phrases)) // (len(phrases) + 1))
        self._wanted: dict[Progress, list[int]] = {}
        self.rows = [Progress()] * beam

    def prune(self, totals: Array, tokens: Array, extra: int) -> None:
        """Sums of candidates (K, C) become -inf but for those of at most ``beam`` that go on and of those that may
        end. The last ``extra`` candidates of each row are what is ``wanted`` of it, the others may hold it again.
        """
        rows = self.rows
        first, last = tokens[:, :-extra], tokens[:, -extra:]
        closed, met = (np.array(x)[:, None] for x in ([r.closed for r in rows], [self.is_met(r) for r in rows]))
        out = (first[:, :, None] == last[:, None, :]).any(2)  # there twice
        out |= (first == EOS) & ~met | closed & self._edges.begins_inside[first]
        totals[:, :-extra][out] = -np.inf
        groups = np.empty(tokens.shape, dtype=np.int64)
        for k, row in enumerate(rows):
            groups[k] = group_of(self.advance(row, EOS))
            for j, token in enumerate(self.wanted(row)):
                groups[k, j - extra] = group_of(self.advance(row, token))
        order = np.argsort(-totals, axis=None, kind="stable")
        going = order[(totals.flat[order] > -np.inf) & (tokens.flat[order] != EOS)]
        group = groups.reshape(-1)[going]
        # What is due comes first, the most advanced before the others where there is no room for all
        turn = np.zeros(len(going), dtype=np.int64)
        for number in np.unique(group).tolist():
            turn[(group == number).nonzero()[0][: 1 if number % AMID else self._share]] = -1 - number
        totals.flat[going[np.argsort(turn, kind="stable")[self._beam :]]] = -np.inf

    def follow(self, parents: Array, tokens: Array) -> None:
        """Each row becomes its parent and one token more; (K,) each."""
        pairs = zip(parents.tolist(), tokens.tolist(), strict=True)
        self.rows = [self.advance(self.rows[parent], token) for parent, token in pairs]

    def complete(self, rows: Array) -> Array:
        """Those of some rows that hold all phrases; if there is none, all."""
        met = np.array([self.is_met(self.rows[row]) for row in rows], dtype=bool)
        return rows[met] if met.any() else rows

    def advance(self, row: Progress, token: int) -> Progress:
        """Where a hypothesis stands after one more token."""
        met, written, inside = row.met, (*row.prefix, token), bool(self._edges.ends_inside[token])
        if token not in self._tokens:
            return Progress(met | self._whole(met, row.prefix), (), inside)
        if not self._begun(met, written) and (whole := self._whole(met, row.prefix)):
            met, written = met | whole, (token,)  # a longer phrase that begins like this one does not come
        while written and not self._begun(met, written):
            written = written[1:]
        if len(written) == 1 and not self._may_begin(row, token):
            written = ()
        whole = self._whole(met, written)
        if whole and all(len(form) == len(written) for form in self._begun(met, written)):
            return Progress(met | whole, (), inside, True)
        return Progress(met, written, inside, bool(whole))

    def is_met(self, row: Progress) -> bool:
        return row.met | self._whole(row.met, row.prefix) == self._all

    def wanted(self, row: Progress) -> list[int]:
        """The tokens that go on with the phrase that is begun; where none is, or it may end, those that begin one."""
        if row not in self._wanted:
            at = len(row.prefix)
            tokens = [form[at] for form in self._begun(row.met, row.prefix) if at < len(form)] if at else []
            if not at or row.closed:
                met = row.met | self._whole(row.met, row.prefix)
                first = (form[0] for form in self._begun(met, ()))
                tokens += [token for token in first if self._may_begin(row, token)]
            self._wanted[row] = list(dict.fromkeys(tokens))
        return self._wanted[row]

    def _begun(self, met: int, prefix: Tokens) -> list[Tokens]:
        """The forms of phrases that are not met and begin like this."""
        return [form for bit, form in self._forms if not bit & met and form[: len(prefix)] == prefix]

    def _whole(self, met: int, written: Tokens) -> int:
        """The bit of a phrase that is not met and is exactly this; 0 if there is none."""
        return next((bit for bit, form in self._forms if not bit & met and form == written), 0) if written else 0

    def _may_begin(self, row: Progress, token: int) -> bool:
        """Whether a phrase that begins with the token may come next."""
        return not (row.inside and self._edges.begins_inside[token])


def amid(phrases: Sequence[Phrase]) -> int:
    """In how many places amid a phrase a hypothesis can be."""
    return sum(max(map(len, phrase)) - 1 for phrase in phrases)


def group_of(row: Progress) -> int:
    """How far a row is: the phrases that it has written, then the tokens of the one that it has begun."""
    return AMID * row.met.bit_count() + len(row.prefix)


def wanted_tokens(constraints: dict[int, Constraints], sentences: int, beam: int) -> Array | None:
    """(B, K, W) for ``Decoder.step``, of the constraints of some of B sentences; None without any."""
    if not constraints:
        return None
    lists = {(i, k): one.wanted(row) for i, one in constraints.items() for k, row in enumerate(one.rows)}
    wanted = np.full((sentences, beam, max(1, *map(len, lists.values()))), -1, dtype=np.int32)
    for (i, k), tokens in lists.items():
        wanted[i, k, : len(tokens)] = tokens
    return wanted
