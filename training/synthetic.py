"""Pairs out of text that has no translation: ``python -m training.synthetic TEXT.tsv KNOWN.tsv... -o OUT.tsv``.

A model translates the sentences of TEXT (its first column) that no KNOWN corpus has. Turned round, such a pair is a
back-translation (Sennrich et al. 2016): what a person wrote is the target, and a faulty source does little harm. Used
as it stands it is self-training (He et al. 2020), which forgives less: a translation that does not lead back to
something like its source is left out.

With ``--again`` TEXT and KNOWN are parallel corpora, and their own sentences are translated once more, both ways: what
the model says otherwise than the corpus, but like it, is another wording of the same (Nguyen et al. 2020, "Data
diversification").

``--without`` names test sets: no pair that has one of their sentences on either side is written.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from sacrebleu import CHRF
from tqdm import tqdm

from model.config import SearchConfig
from model.translator import Translator
from training.lexicon import Pair, pairs, write_pairs
from training.script import run
from training.testset import load_test_set

TRANSLATIONS = 2  # of a sentence, at most: the second best shows another wording
SIMILAR = 45.0  # chrF of a sentence and its way there and back; below, most translations are wrong
LIKE = 40.0  # chrF of another wording and the nearest of the corpus's; below, the model has misunderstood
FEWEST = 3  # words of a sentence that is translated again: of one or two there are too many translations
CHUNK = 2_000  # sentences between two steps of the progress bar


def unknown_sentences(texts: Iterable[str], known: Iterable[str]) -> list[str]:
    """The texts that are not known, each once; case and punctuation make no difference."""
    seen = set(map(_words, known))
    fresh: dict[str, str] = {}
    for text in texts:
        if (words := _words(text)) and words not in seen:
            fresh.setdefault(words, text)
    return list(fresh.values())


def synthetic_pairs(translator: Translator, texts: Sequence[str], source: str, target: str) -> Iterator[Pair]:
    """The texts with their translations, those that lead back left in."""
    chrf = CHRF()
    for chunk in _chunks(texts):
        there = translator.translate(chunk, source, target, SearchConfig(nbest=TRANSLATIONS))
        found = [
            (text, hypothesis.text)
            for text, translation in zip(chunk, there, strict=True)
            for hypothesis in translation.hypotheses
        ]
        back = translator.translate([text for _, text in found], target, source, SearchConfig(beam_size=1))
        for pair, again in zip(found, back, strict=True):
            if chrf.sentence_score(again.text, [pair[0]]).score >= SIMILAR:
                yield pair


def other_wordings(translator: Translator, known: Iterable[Pair], source: str, target: str) -> Iterator[Pair]:
    """The sources of a parallel corpus with the model's best translation, where it is like the corpus's but not one."""
    references: defaultdict[str, list[str]] = defaultdict(list)
    for text, reference in known:
        references[text].append(reference)
    texts = [text for text in references if len(text.split()) >= FEWEST]
    chrf = CHRF()
    for chunk in _chunks(texts):
        for text, found in zip(chunk, translator.translate(chunk, source, target), strict=True):
            if _words(found.text) in map(_words, references[text]):
                continue
            if chrf.sentence_score(found.text, references[text]).score >= LIKE:
                yield text, found.text


def unseen(found: Iterable[Pair], tests: Collection[str]) -> Iterator[Pair]:
    """Each pair once, without those that have a sentence of the tests on either side."""
    theirs = set(map(_words, tests))
    written: set[Pair] = set()
    for pair in found:
        if pair not in written and theirs.isdisjoint(map(_words, pair)):
            written.add(pair)
            yield pair


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in tqdm(range(0, len(texts), CHUNK), unit_scale=CHUNK, unit=" sentences", disable=None):
        yield texts[start : start + CHUNK]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("known", type=Path, nargs="*")
    parser.add_argument("--from", dest="source", default="en")
    parser.add_argument("--to", dest="target", default="de")
    parser.add_argument("--again", action="store_true", help="other wordings of what TEXT and KNOWN translate already")
    parser.add_argument("--without", type=Path, nargs="+", action="extend", default=[], metavar="TEST")
    parser.add_argument("--checkpoint", type=Path, help="instead of the shipped one")
    parser.add_argument("-o", "--output", type=Path, required=True)
    choice = parser.parse_args()
    source, target = choice.source, choice.target
    tests = [load_test_set(path, source, target) for path in choice.without]
    held_out = [text for test in tests for text in (*test.sources, *itertools.chain(*test.references))]
    translator = Translator.load(choice.checkpoint)
    translator.check(source, target)
    translator.check(target, source)
    found: Iterator[Pair]
    if choice.again:
        known = [pair for path in (choice.text, *choice.known) for pair in pairs(path)]
        turned = other_wordings(translator, [(t, s) for s, t in known], target, source)
        found = itertools.chain(
            other_wordings(translator, known, source, target), ((wording, text) for text, wording in turned)
        )
        of = f"{len(known):,} known ones"
    else:
        seen = (text for path in choice.known for text, _ in pairs(path))
        texts = unknown_sentences((text for text, _ in pairs(choice.text)), seen)
        found = synthetic_pairs(translator, texts, source, target)
        of = f"{len(texts):,} sentences"
    count = write_pairs(choice.output, unseen(found, held_out))
    print(f"{count:,} pairs of {of} are in {choice.output}")


if __name__ == "__main__":
    run(main)
