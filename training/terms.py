"""`nmt bench glossary`: are the terms of a glossary placed, and what does that cost?

Three tests are made of a test set by the model alone. "chosen": the term is a word of a reference that the translation
without glossary lacks. "names" and "nouns": two invented words that no model has seen, one in place of a word of the
source, one in place of its translation in the references; the first is to become the second. There, the translation
without glossary is scored with the first replaced by the second. Which word translates which is what the model says of
the single words, in either direction.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import SearchConfig
from model.errors import UserError
from model.glossary import Glossary, not_placed, occurrences
from model.machine import processor
from model.translator import Translator
from training.evaluate import quick_bleu
from training.testset import TestSet

TERMS = 2  # of a sentence, at most
LETTERS = 3  # of a word that becomes a term, at least
NEIGHBOURS = 5  # translations of a single word that count
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Case:
    """A sentence, its terms, and what to compare its translation with."""

    source: str
    terms: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    invented: bool

    def baseline(self, translation: str) -> str:
        """What a translation without glossary is worth at best."""
        for own, word in self.terms if self.invented else ():
            translation = re.sub(rf"\b{own}\b", word, translation)
        return translation


def bench_glossary(translator: Translator, test: TestSet, sentences: int) -> dict[str, Any]:
    """The object that ``nmt bench glossary --json`` prints. UserError where the test set gives no terms."""
    found = translator.translate(test.sources, test.source, test.target)
    free = [translation.text for translation in found]
    pairs = lexicon(translator, test, free)
    order = random.Random(0).sample(range(len(free)), len(free))
    rows = []
    tests = {
        "chosen": chosen(test, free, pairs, order),
        "names": invented(test, free, pairs, order, is_name),
        "nouns": invented(test, free, pairs, order, is_noun),
    }
    for name, cases in tests.items():
        first = [case for case, _ in zip(cases, range(sentences), strict=False)]
        if not first:
            raise UserError(f"test set {test.name} has no sentence for the test '{name}'")
        rows.append(measure(translator, name, first, test.source, test.target))
    return {
        "machine": processor(),
        "model": translator.name,
        "dtype": translator.dtype,
        "test": test.name,
        "rows": rows,
    }


def measure(translator: Translator, name: str, cases: Sequence[Case], source: str, target: str) -> dict[str, Any]:
    begin = time.perf_counter()
    plain = [translator.prepare(case.source, source, target) for case in cases]
    without = translator.translate_documents(plain)
    middle = time.perf_counter()
    documents = [translator.prepare(case.source, source, target, glossary=Glossary.of(case.terms)) for case in cases]
    found = translator.translate_documents(documents)
    end = time.perf_counter()
    texts = [translation.text for translation in found]
    terms = [
        (Glossary.of([pair]).terms[0], text) for case, text in zip(cases, texts, strict=True) for pair in case.terms
    ]
    placed = [not not_placed([term], text) for term, text in terms]
    once = [occurrences([term.target], text)[term.target] == 1 for term, text in terms]
    references = [case.references for case in cases]
    baseline = [case.baseline(translation.text) for case, translation in zip(cases, without, strict=True)]
    return {
        "test": name,
        "sentences": len(cases),
        "terms": len(terms),
        "placed": sum(placed) / len(terms),
        "once": sum(once) / len(terms),
        "warned": sum(one.code == "GLOSSARY_TERM_NOT_PLACED" for each in found for one in each.warnings),
        "bleu_without": quick_bleu(baseline, references),
        "bleu_with": quick_bleu(texts, references),
        "words_ratio": sum(len(text.split()) for text in texts) / sum(len(text.split()) for text in baseline),
        "sentences_per_second_without": len(cases) / (middle - begin),
        "sentences_per_second_with": len(cases) / (end - middle),
        "hypotheses": texts,
    }


def lexicon(translator: Translator, test: TestSet, free: Sequence[str]) -> set[tuple[str, str]]:
    """(source word, target word), as far as the test set has them."""
    words = {word for text in test.sources for word in terms_of(text)}
    theirs = {word for references in test.references for text in references for word in terms_of(text)}
    search = SearchConfig(nbest=NEIGHBOURS)
    pairs: set[tuple[str, str]] = set()
    for these, there, back in ((words, (test.source, test.target), False), (theirs, (test.target, test.source), True)):
        listed = sorted(these)
        for word, translation in zip(listed, translator.translate(listed, *there, search), strict=True):
            for hypothesis in translation.hypotheses:
                if len(other := _WORD.findall(hypothesis.text)) == 1:
                    pairs.add((other[0], word) if back else (word, other[0]))
    return pairs


def terms_of(text: str) -> list[str]:
    """The words that may become terms: long enough, and once in the text."""
    words = _WORD.findall(text)
    return [word for word in words if len(word) >= LETTERS and words.count(word) == 1]


def chosen(test: TestSet, free: Sequence[str], pairs: set[tuple[str, str]], order: Sequence[int]) -> Iterator[Case]:
    for i in order:
        terms: dict[str, str] = {}
        reference = test.references[i][0]
        for word in terms_of(reference):
            found = [own for own in terms_of(test.sources[i]) if (own, word) in pairs and own not in terms]
            if found and not occurrences([word], free[i])[word] and len(terms) < TERMS:
                terms[found[0]] = word
        if terms:
            yield Case(test.sources[i], tuple(terms.items()), test.references[i], False)


def is_name(own: str, word: str, translation: str) -> bool:
    return own == word and word[0].isupper()


def is_noun(own: str, word: str, translation: str) -> bool:
    """In German, that is: nouns have capitals."""
    return own[0].islower() and word[0].isupper() and not translation.startswith(word)


def invented(
    test: TestSet,
    free: Sequence[str],
    pairs: set[tuple[str, str]],
    order: Sequence[int],
    fits: Callable[[str, str, str], bool],
) -> Iterator[Case]:
    rng = random.Random(0)
    for i in order:
        text, references = test.sources[i], list(test.references[i])
        terms: dict[str, str] = {}
        for own in terms_of(text):
            words = [word for word in terms_of(free[i]) if (own, word) in pairs and fits(own, word, free[i])]
            kept = [reference for reference in references if words and words[0] in terms_of(reference)]
            if kept and len(terms) < TERMS:
                name, translation = invent(rng), invent(rng)
                terms[name] = translation
                text = re.sub(rf"\b{own}\b", name, text)
                references = [re.sub(rf"\b{words[0]}\b", translation, reference) for reference in kept]
        if terms:
            yield Case(text, tuple(terms.items()), tuple(references), True)


def invent(rng: random.Random) -> str:
    """A name of one or two words, such as "Brunta Velkos"."""

    def word() -> str:
        syllables = (
            rng.choice("b br d f g gr k kl l m n p pl r s st t v w z".split()) for _ in range(rng.randint(2, 3))
        )
        return "".join(one + rng.choice("a e i o u".split()) for one in syllables).capitalize() + rng.choice("lnrskx")

    return " ".join(word() for _ in range(rng.choice([1, 1, 2])))


def table(result: dict[str, Any]) -> str:
    """Aligned columns for people."""
    lines = [
        f"{result['test']}, {result['model']} in {result['dtype']}, {result['machine']}",
        "test       sentences  terms  placed    once  BLEU without    with  words  sentences/s without    with",
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['test']:<9}{row['sentences']:>11}{row['terms']:>7}{row['placed']:>8.1%}{row['once']:>8.1%}"
            f"{row['bleu_without']:>14.1f}{row['bleu_with']:>8.1f}{row['words_ratio']:>7.2f}"
            f"{row['sentences_per_second_without']:>21.1f}{row['sentences_per_second_with']:>8.1f}"
        )
    return "\n".join(lines)
