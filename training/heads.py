"""What each attention head does, scored: the word before, the word after, the word itself, a separator, what a pronoun
stands for; and which layer's attention to the source gives the best word alignment.

A head's score is the share of words whose strongest weight falls where the role says (Voita et al. 2019; Clark et al.
2019). Maps of pieces become maps of words; control pieces and punctuation marks are words of their own: the separators.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.alignment import best_links, link_words, word_of_pieces, word_weights
from model.explain import attention_maps, source_attention
from model.translator import Translator
from model.vocabulary import BOS, Vocabulary
from training.testset import TestSet

PROBES = Path(__file__).parent / "probes"
BATCH = 32  # sentences
ROLES = ("previous word", "next word", "same word", "separator")
Words = tuple[list[int], list[bool]]  # the word of each piece; whether a word is a separator


@dataclass(frozen=True)
class HeadReport:
    """Shares, 0 to 1, by kind of map: {"encoder": {"previous word": (L, H), ...}, ...}. ``alignment`` holds an error
    rate (AER) for each layer, by the step that "reads" and the one that "writes" the word, and, of the latter, one for
    the layers that ``model.alignment`` has "chosen"; ``chance`` is what guessing would score.
    """

    roles: dict[str, dict[str, Tensor]]
    alignment: dict[str, list[float]]
    chance: float  # of coreference

    def as_dict(self) -> dict[str, Any]:
        roles = {kind: {role: x.tolist() for role, x in found.items()} for kind, found in self.roles.items()}
        return {"roles": roles, "alignment_error": self.alignment, "coreference_chance": self.chance}

    def table(self) -> str:
        lines = []
        for kind, found in self.roles.items():
            layers, heads = next(iter(found.values())).shape
            lines.append(f"{kind:<12}" + "".join(f"{role:>15}" for role in found))
            for layer in range(layers):
                for head in range(heads):
                    cells = [float(shares[layer, head]) for shares in found.values()]
                    tops = [float(shares.max()) for shares in found.values()]
                    marks = ["*" if cell == top else " " for cell, top in zip(cells, tops, strict=True)]
                    name = f"  {layer}.{head}"
                    lines.append(f"{name:<12}" + "".join(f"{c:>13.0%} {m}" for c, m in zip(cells, marks, strict=True)))
        lines.append("* the best head of its kind; layers and heads count from 0")
        if self.chance:
            lines.append(f"coreference: own sentences; a guess among the words before it scores {self.chance:.0%}")
        for when in ("reads", "writes"):
            cells_text = ", ".join(f"layer {layer} {error:.1%}" for layer, error in enumerate(self.alignment[when]))
            lines.append(f"alignment error rate, mean of the heads, the step that {when} the word: {cells_text}")
        lines.append(f"as `nmt translate --alignments` chooses among the layers: {self.alignment['chosen'][0]:.1%}")
        return "\n".join(lines)


def score_heads(translator: Translator, test: TestSet) -> HeadReport:
    """Score every head on the sentences of a test set and their first references."""
    pairs = [
        (translator.prepare(source, test.source, test.target).sources, translator.encode(references[0]))
        for source, references in zip(test.sources, test.references, strict=True)
    ]
    usable = [(sources[0], target) for sources, target in pairs if len(sources) == 1 and target]
    counts: dict[str, Counts] = {}
    for start in range(0, len(usable), BATCH):
        batch = usable[start : start + BATCH]
        for (source, target), maps in zip(batch, attention_maps(translator.model, batch), strict=True):
            sides = [words(translator.vocabulary, ids) for ids in (source, (BOS, *target))]
            for kind, weights in maps.items():
                if kind == "decoder" and "encoder" not in maps:
                    weights = weights[:, :, len(source) :, len(source) :]  # the target's own part of the stack
                rows, columns = {"encoder": (0, 0), "decoder": (1, 1), "cross": (1, 0)}[kind]
                counts.setdefault(kind, Counts()).add(weights, sides[rows], sides[columns], kind)
    roles = {kind: found.shares() for kind, found in counts.items()}
    chance = 0.0
    if (test.source, test.target) == ("en", "de"):
        if "encoder" in roles:
            roles["encoder"]["coreference"], chance = coreference(translator)
        return HeadReport(roles, alignment_errors(translator), chance)
    return HeadReport(roles, {}, chance)


class Counts:
    """How often each head of one kind did what."""

    def __init__(self) -> None:
        self.hits: dict[str, Tensor] = {}
        self.words = 0

    def add(self, weights: Tensor, rows: Words, columns: Words, kind: str) -> None:
        """weights (L, H, T, S) of the pieces of one sentence."""
        found = word_weights(weights, rows[0], columns[0]).argmax(-1)  # (L, H, words)
        real = torch.tensor([not separator for separator in rows[1]])
        own = torch.arange(len(rows[1]))
        hits = {"separator": torch.tensor(columns[1])[found]}
        if kind != "cross":
            hits = {"previous word": found == own - 1, "next word": found == own + 1, "same word": found == own, **hits}
        if kind == "decoder":
            del hits["next word"]  # the mask hides it
        for role, hit in hits.items():
            self.hits[role] = self.hits.get(role, 0) + (hit & real).sum(-1)
        self.words += int(real.sum())

    def shares(self) -> dict[str, Tensor]:
        return {role: hits / max(1, self.words) for role, hits in self.hits.items()}


def words(vocabulary: Vocabulary, ids: Sequence[int]) -> Words:
    """Words in the order of the text; each separator is one."""
    numbers: list[int] = []
    separators: list[bool] = []
    last: int | None = None
    for id, word in zip(ids, word_of_pieces(vocabulary, ids), strict=True):
        text = vocabulary.piece(id).strip("\u2581")
        mark = vocabulary.is_control(id) or (bool(text) and all(unicodedata.category(c)[0] == "P" for c in text))
        if mark or word is None or word != last or separators[-1]:
            separators.append(mark)
        numbers.append(len(separators) - 1)
        last = word
    return numbers, separators


def coreference(translator: Translator) -> tuple[Tensor, float]:
    """(L, H): share of our own sentences in which, of all words before the pronoun, what it stands for gets the most
    of the pronoun's attention; and that share for a guess.
    """
    hits: Any = 0
    chances = []
    lines = (PROBES / "coreference.en.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        marked = [i for i, word in enumerate(line.split()) if word.startswith("[")]
        (source,) = translator.prepare(re.sub(r"[\[\]]", "", line), "en", "de").sources
        numbers = word_of_pieces(translator.vocabulary, source)
        (maps,) = attention_maps(translator.model, [(source, ())])
        antecedent, pronoun = marked
        weights = word_weights(maps["encoder"], numbers, numbers)[:, :, pronoun, :pronoun]
        hits = hits + (weights.argmax(-1) == antecedent)
        chances.append(1 / pronoun)
    return hits / len(lines), sum(chances) / len(chances)


def alignment_errors(translator: Translator) -> dict[str, list[float]]:
    """AER of our own aligned sentences (Och & Ney 2003, all links sure), of the mean of each layer's heads: see
    ``HeadReport``."""
    lines = (PROBES / "alignment.en-de.tsv").read_text(encoding="utf-8").splitlines()
    totals: dict[str, list[list[int]]] = {}
    for line in lines:
        text, translation, gold_text = line.split("\t")
        gold = {(int(i), int(j)) for i, j in (link.split("-") for link in gold_text.split())}
        (source,) = translator.prepare(text, "en", "de").sources
        target = translator.encode(translation)
        (maps,) = attention_maps(translator.model, [(source, target)])
        sides = [word_of_pieces(translator.vocabulary, ids) for ids in (source, target)]
        heads = source_attention(maps, len(source)).mean(1)  # (L, T, S)
        reads, writes = (link_words(rows, *sides) for rows in (heads[:, 1:], heads[:, :-1]))
        for when, layers in (("reads", reads), ("writes", writes), ("chosen", [best_links(writes)])):
            counts = totals.setdefault(when, [[0, 0] for _ in layers])
            for count, links in zip(counts, layers, strict=True):
                count[0] += 2 * len({(i, j) for i, j, _ in links} & gold)
                count[1] += len(links) + len(gold)
    return {when: [1 - right / whole for right, whole in layers] for when, layers in totals.items()}
