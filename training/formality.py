"""Whether translations use the form of address that was asked for: the matched accuracy of CoCoA-MT.

Nadejde et al. 2022: the words that carry the form of address are marked in a formal and an informal reference,
``[F]…[/F]``. A translation in which marked phrases of only one of them occur is right or wrong; one with none or with
both is not counted. A phrase occurs where all of its words do, split at spaces, as the authors' scorer has it: "Ihnen,"
is not "Ihnen", so that many translations are not counted.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import SearchConfig, check
from model.translator import Translator
from model.vocabulary import FORMALITIES
from training.evaluate import processor_name, quick_bleu
from training.testset import TestSet

_MARKED = re.compile(r"\[F\](.*?)\[/F\]")
_MARK = re.compile(r"\[/?F\]")


@dataclass(frozen=True)
class FormalityScore:
    """One form of address asked for. ``formal`` + ``informal`` translations are counted, ``both`` and ``neither`` are
    not."""

    asked: str
    formal: int
    informal: int
    both: int
    neither: int
    accuracy: float | None  # of those counted; None where the default was asked for, or nothing is counted
    bleu: float  # against the reference of this form; the default: against both

    def __str__(self) -> str:
        right = "" if self.accuracy is None else f"{100 * self.accuracy:.1f} % right of {self.formal + self.informal}, "
        return (
            f"{self.asked}: {right}formal {self.formal}, informal {self.informal}, not counted: "
            f"both {self.both}, neither {self.neither}; BLEU {self.bleu:.2f}"
        )


def label(hypothesis: str, formal: str, informal: str) -> str:
    """ "formal", "informal", "both" or "neither", by the marked phrases of the two references."""
    found = _occurs(hypothesis, formal), _occurs(hypothesis, informal)
    return {(True, False): "formal", (False, True): "informal", (True, True): "both"}.get(found, "neither")


def _occurs(hypothesis: str, reference: str) -> bool:
    words = set(hypothesis.split(" "))
    return any(words.issuperset(phrase.split(" ")) for phrase in _MARKED.findall(reference))


def evaluate_formality(
    translator: Translator,
    test: TestSet,
    search: SearchConfig = SearchConfig(),
    progress: Callable[[int], object] | None = None,
) -> list[FormalityScore]:
    """Translate the test set with each form of address. Its references are a formal and an informal one, marked.

    UserError for another test set, or a model without forms of address.
    """
    for number, references in enumerate(test.references, 1):
        check(
            len(references) == 2,
            f"test set {test.name}, line {number}: {len(references)} references; the form of address is scored with "
            "two, source<TAB>formal<TAB>informal, whose words are marked [F]…[/F]",
        )
    check(
        any(_MARKED.search(reference) for pair in test.references for reference in pair),
        f"test set {test.name}: no word is marked [F]…[/F]",
    )
    scores = []
    for asked in FORMALITIES:
        found = translator.translate(test.sources, test.source, test.target, search, progress, formality=asked)
        scores.append(score(asked, [translation.text for translation in found], test.references))
    return scores


def score(asked: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> FormalityScore:
    """``references``: formal and informal, marked, for each hypothesis."""
    counts = Counter(label(text, *pair) for text, pair in zip(hypotheses, references, strict=True))
    counted = counts["formal"] + counts["informal"]
    plain = [[_MARK.sub("", reference) for reference in pair] for pair in references]
    own = {"formal": slice(0, 1), "informal": slice(1, 2)}.get(asked, slice(0, 2))
    return FormalityScore(
        asked=asked,
        formal=counts["formal"],
        informal=counts["informal"],
        both=counts["both"],
        neither=counts["neither"],
        accuracy=counts[asked] / counted if counted and asked != "default" else None,
        bleu=quick_bleu(hypotheses, [pair[own] for pair in plain]),
    )


def as_dict(translator: Translator, test: TestSet, scores: Sequence[FormalityScore]) -> dict[str, Any]:
    return {
        "test": test.name,
        "sha256": test.sha256,
        "sentences": len(test.sources),
        "processor": processor_name(),
        "name": translator.name,
        "hash": translator.hash,
        "dtype": translator.dtype,
        "scores": [dataclasses.asdict(one) for one in scores],
    }
