"""Pairs out of text that has no translation: ``python -m training.synthetic TEXT.tsv KNOWN.tsv... -o OUT.tsv``.

A model translates the sentences of TEXT (its first column) that no KNOWN corpus has. Turned round, such a pair is a
back-translation (Sennrich et al. 2016): what a person wrote is the target, and a faulty source does little harm. Used
as it stands it is self-training (He et al. 2020), which forgives less: a translation that does not lead back to
something like its source is left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sacrebleu import CHRF
from tqdm import tqdm

from model.config import SearchConfig
from model.translator import Translator
from training.lexicon import Pair, pairs, write_pairs

TRANSLATIONS = 2  # of a sentence, at most: the second best shows another wording
SIMILAR = 45.0  # chrF of a sentence and its way there and back; below, most translations are wrong
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
    for start in tqdm(range(0, len(texts), CHUNK), unit_scale=CHUNK, unit=" sentences", disable=None):
        chunk = texts[start : start + CHUNK]
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


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("known", type=Path, nargs="*")
    parser.add_argument("--from", dest="source", default="en")
    parser.add_argument("--to", dest="target", default="de")
    parser.add_argument("--checkpoint", type=Path, help="instead of the shipped one")
    parser.add_argument("-o", "--output", type=Path, required=True)
    choice = parser.parse_args()
    translator = Translator.load(choice.checkpoint)
    translator.check(choice.source, choice.target)
    translator.check(choice.target, choice.source)
    known = (source for path in choice.known for source, _ in pairs(path))
    texts = unknown_sentences((source for source, _ in pairs(choice.text)), known)
    found = list(synthetic_pairs(translator, texts, choice.source, choice.target))
    write_pairs(choice.output, found)
    print(f"{len(found):,} pairs of {len({s for s, _ in found}):,} of {len(texts):,} sentences are in {choice.output}")


if __name__ == "__main__":
    main()
